"""The folder of a speculator: config.json, model.safetensors, README.md; whole or not there at all.

Owns reading and writing. What the files mean is known by `eagle3.py` and `medusa.py`.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


class CheckpointError(ValueError):
    """A speculator's folder cannot be used; the message is for the user."""


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json.

    Raises:
        CheckpointError: there is none, or it is not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"`{path}` cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"`{path}` is not a JSON object")
    return config


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the folder's weight file, by name.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    for name in ("model.safetensors", "medusa_lm_head.safetensors"):
        if (folder / name).is_file():
            try:
                return load_file(folder / name)
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"`{folder / name}` cannot be read: {error}") from error
    for name in ("pytorch_model.bin", "medusa_lm_head.pt"):
        if (folder / name).is_file():
            try:
                tensors: dict[str, torch.Tensor] = torch.load(folder / name, map_location="cpu", weights_only=True)
            except Exception as error:  # a damaged pickle raises anything
                raise CheckpointError(f"`{folder / name}` cannot be read: {error}") from error
            return tensors
    raise CheckpointError(f"`{folder}` has no weights: it needs a safetensors file")


def write_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    card: str,
    weights: str = "model.safetensors",
) -> None:
    """Writes the files beside their places, then renames them.

    Raises:
        OSError: the disk is full or not writable; the files before are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The same file system, or the rename would not be one step.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(scratch, weights))
        Path(scratch, "config.json").write_text(json.dumps(config, indent=2) + "\n")
        Path(scratch, "README.md").write_text(card)
        replace_files(Path(scratch), folder)


def replace_files(scratch: Path, folder: Path) -> None:
    """Moves a new checkpoint's files to its folder; without a config.json meanwhile, so that it is never a mixture."""
    (folder / "config.json").unlink(missing_ok=True)
    for path in sorted(scratch.iterdir(), key=lambda path: path.name == "config.json"):
        place = folder / path.name
        if path.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            path.chmod(0o644)  # safetensors leaves its files to their owner alone
        path.replace(place)
