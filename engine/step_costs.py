"""How long a step takes by the number of rows that it computes, measured once, when nothing is served yet."""

import time
from collections.abc import Sequence
from typing import Final

import torch

from outrider.engine.batch import make_batch
from outrider.engine.config import BLOCK_SIZE
from outrider.engine.models.served_model import ServedModel
from outrider.speculative.costs import Costs

SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
CONTEXT: Final = 4 * BLOCK_SIZE  # tokens before each row
REPEATS: Final = 3
SECONDS: Final = 0.5  # at a server's start


@torch.inference_mode()
def measure_steps(
    model: ServedModel, num_blocks: int, sizes: Sequence[int] = SIZES, max_seconds: float = SECONDS
) -> Costs:
    """Runs the model on rows of as many sequences; writes nonsense to the first blocks of its cache.

    Args:
        model: its cache is allocated
        num_blocks: of the cache
        sizes: numbers of rows, rising
        max_seconds: no new size is begun once this is over: for larger ones the costs are in proportion
    """
    ends = time.perf_counter() + max_seconds
    context = min(CONTEXT, num_blocks * BLOCK_SIZE, model.max_model_len)
    blocks_each = -(-context // BLOCK_SIZE)
    measured: dict[int, float] = {}
    for size in sizes:
        if time.perf_counter() > ends:
            break
        first = [index * blocks_each % (num_blocks - blocks_each + 1) for index in range(size)]
        block_ids = [list(range(one, one + blocks_each)) for one in first]
        times: list[float] = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            batch, positions = make_batch(
                block_ids, [range(context - 1, context)] * size, model.device, model.tile_size
            )
            token_ids = torch.zeros(size, dtype=torch.int64, device=model.device)
            output = model.forward(token_ids, positions, batch, torch.arange(size, device=model.device))
            output.logits.argmax(-1).tolist()  # waits for a GPU
            times.append(time.perf_counter() - started)
        measured[size] = min(times)
    return Costs(measured)
