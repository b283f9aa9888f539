"""Runs an engine in-line, step by step."""

import random

from outrider.engine.host import Core
from outrider.engine.protocol import SamplingParams, SpeculationParams, Submit, TokenDelta

VOCAB_SIZE = 128
EOS = 1
SAMPLED = {"temperature": 0.9, "top_p": 0.95, "frequency_penalty": 0.4, "repetition_penalty": 1.1}


def submit(request_id: str, prompt_ids: list[int], *, methods: tuple[str, ...] = (), **params) -> Submit:
    options = {"seed": 0, "max_tokens": 16, "temperature": 0.0, **params}
    return Submit(
        request_id=request_id,
        prompt_ids=prompt_ids,
        params=SamplingParams(**options),
        speculation=SpeculationParams(methods, 6) if methods else SpeculationParams(),
    )


def requests(methods: tuple[str, ...] = (), **params) -> list[Submit]:
    """Eight of them, some with a common beginning."""
    generator = random.Random(4)
    common = [generator.randrange(2, VOCAB_SIZE) for _ in range(40)]
    found = []
    for index in range(8):
        own = [generator.randrange(2, VOCAB_SIZE) for _ in range(generator.randint(1, 50))]
        prompt = (common if index % 2 else []) + own
        found.append(submit(f"r{index}", prompt, methods=methods, max_tokens=40, seed=index, ignore_eos=True, **params))
    return found


def run(core: Core, submits: list[Submit]) -> dict[str, list[int]]:
    """Runs all requests to their end, checking the engine's records after every step."""
    last = run_deltas(core, submits)
    return {request_id: [token for delta in deltas for token in delta.token_ids] for request_id, deltas in last.items()}


def run_deltas(core: Core, submits: list[Submit]) -> dict[str, list[TokenDelta]]:
    deltas: dict[str, list[TokenDelta]] = {item.request_id: [] for item in submits}
    for item in submits:
        core.add(item)
    while core.has_work:
        for delta in core.step():
            deltas[delta.request_id].append(delta)
        core.check_integrity()
    assert core.stats().num_blocks_used == 0
    return deltas
