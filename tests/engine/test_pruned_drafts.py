"""What a grammar forbids takes no place of a step from what it allows."""

from collections.abc import Sequence

import msgspec
from lossless import answers, differing, make_requests
from speculated_target import VOCAB_SIZE

from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.protocol import SpeculationParams
from outrider.speculative.proposer import Draft, DraftCounts, DraftRequest

NUM_TOKENS = 4


class Prophet:
    """Knows the answers; `shift` makes each of its tokens another one."""

    def __init__(self, texts: dict[str, list[int]], shift: int) -> None:
        self._texts = texts
        self._shift = shift

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """As many tokens as it may."""
        return [
            Draft(
                tuple(
                    (one + self._shift) % VOCAB_SIZE
                    for one in self._texts[request.request_id][len(request.token_ids) :][: request.max_tokens]
                )
            )
            for request in requests
        ]

    def forget(self, request_id: str) -> None:
        """Nothing is kept."""


def test_forbidden_tokens_take_no_place(family) -> None:
    """A method that guesses nothing but these takes nothing from the one behind it, and is known to give nothing."""
    config = EngineConfig(model=family["model"], num_threads=1, max_num_seqs=32)
    items = [item for item in make_requests(range(88), config.model) if item.grammar_key is not None]
    plain = answers(EngineCore(config), items)
    texts = {item.request_id: [*item.prompt_ids, *plain[item.request_id].token_ids] for item in items}
    totals: list[DraftCounts] = []
    for methods in (("right",), ("wrong", "right")):
        core = EngineCore(config)
        for name, shift in (("wrong", 190), ("right", 0)):
            core._drafting.add(name, Prophet(texts, shift))
        core.speculation_methods = (*core.speculation_methods, "wrong", "right")
        speculation = SpeculationParams(methods, NUM_TOKENS)
        drafted = [msgspec.structs.replace(item, speculation=speculation) for item in items]

        assert [] == differing(plain, answers(core, drafted))
        totals.append(core._drafting.totals["right"])
    alone, behind = totals
    assert alone == behind
    assert alone.num_accepted_tokens > 200
    assert core._drafting.totals["wrong"].num_draft_tokens == 0
    assert core._drafting._controller._experiences["wrong"].expected < 0.5
