#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: checks every Triton kernel against float64, measures each, then a Llama of 8 billion
# parameters with random weights. Prints tables; JSON goes to the file named as first argument.
#
#     bench/gpu.sh [OUTPUT.json]        PYTHON=python3 by default, needs a CUDA build of torch
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; then
    echo "bench/gpu.sh: $PYTHON has no torch that sees a GPU; set PYTHON" >&2
    exit 1
fi
"$PYTHON" -c 'import outrider.kernels.rows' 2>/dev/null || "$PYTHON" -m pip install -q -e .
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$PYTHON" -P bench/gpu_kernels.py
exec "$PYTHON" -P bench/gpu_model.py ${1:+--output "$1"}
