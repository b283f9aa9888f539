"""Runs an engine in-line, step by step."""

from outrider.engine.core import EngineCore
from outrider.engine.protocol import SamplingParams, SpeculationParams, Submit, TokenDelta

VOCAB_SIZE = 128
EOS = 1


def submit(request_id: str, prompt_ids: list[int], *, methods: tuple[str, ...] = (), **params) -> Submit:
    options = {"seed": 0, "max_tokens": 16, "temperature": 0.0, **params}
    return Submit(
        request_id=request_id,
        prompt_ids=prompt_ids,
        params=SamplingParams(**options),
        speculation=SpeculationParams(methods, 6) if methods else SpeculationParams(),
    )


def run(core: EngineCore, submits: list[Submit]) -> dict[str, list[int]]:
    """Runs all requests to their end, checking the engine's records after every step."""
    last = run_deltas(core, submits)
    return {request_id: [token for delta in deltas for token in delta.token_ids] for request_id, deltas in last.items()}


def run_deltas(core: EngineCore, submits: list[Submit]) -> dict[str, list[TokenDelta]]:
    deltas: dict[str, list[TokenDelta]] = {item.request_id: [] for item in submits}
    for item in submits:
        core.add(item)
    while core.has_work:
        for delta in core.step():
            deltas[delta.request_id].append(delta)
        core.scheduler.check_integrity()
    assert core.blocks.num_used == 0
    return deltas
