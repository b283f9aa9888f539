"""Where each token comes from: told when asked, of the tokens that a delta emits and of no others."""

import msgspec
import pytest
from inline_engine import run, run_deltas, submit

from outrider.engine.protocol import BONUS, TARGET, Submit
from outrider.speculative.proposer import Draft, DraftRequest
from outrider.speculative.table import make_proposers

PROMPT = [5, 6, 7, 8]
OPTIONS = {"max_tokens": 12, "ignore_eos": True}


class Knowing:
    """Offers what comes, as many tokens as it is told, and then a wrong one."""

    def __init__(self, answer: list[int], num_right: int) -> None:
        self._text = PROMPT + answer
        self._num_right = num_right

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        return [self._propose(request) for request in requests]

    def forget(self, request_id: str) -> None:
        pass

    def _propose(self, request: DraftRequest) -> Draft:
        following = self._text[len(request.token_ids) :]
        wrong = [(token_id + 1) % 100 for token_id in following[self._num_right : self._num_right + 1]]
        return Draft(tuple([*following[: self._num_right], *wrong][: request.max_tokens]))


def teach(core, **proposers: Knowing) -> None:
    for name, proposer in proposers.items():
        core._drafting.add(name, proposer)
    core.speculation_methods = (*core.speculation_methods, *proposers)


def asking(*methods: str, **params) -> Submit:
    return msgspec.structs.replace(submit("a", PROMPT, methods=methods, **{**OPTIONS, **params}), token_origins=True)


def origins(core, request: Submit) -> list[str]:
    deltas = run_deltas(core, [request])["a"]
    assert all(len(delta.origins) == len(delta.token_ids) for delta in deltas)
    return [origin for delta in deltas for origin in delta.origins]


def test_tokens_of_plain_steps_come_from_the_target(make_core) -> None:
    """Prefill and decode alike."""
    assert origins(make_core(), asking()) == [TARGET] * 12


@pytest.mark.parametrize("params", [{}, {"temperature": 0.9, "seed": 3}], ids=["greedy", "sampled"])
def test_a_drafted_token_names_the_first_that_offered_it(make_core, params) -> None:
    """The second goes on where the first was wrong; behind the last accepted token the target's own one follows."""
    plain = run(make_core(), [asking(**params)])["a"]
    core = make_core()
    teach(core, short=Knowing(plain, 1), long=Knowing(plain, 3))
    drafted = asking("short", "long", **params)

    assert origins(core, drafted)[:8] == ["short", "long", "long", BONUS] * 2
    assert run(core, [drafted])["a"] == plain


def test_a_draft_that_is_wrong_at_once_leaves_a_bonus_token(make_core) -> None:
    """Something was drafted, and what comes is the target's own."""
    plain = run(make_core(), [asking()])["a"]
    core = make_core()
    teach(core, wrong=Knowing(plain, 0))

    assert origins(core, asking("wrong")) == [*[BONUS] * 11, TARGET]  # the last is never drafted for


def test_the_end_inside_a_draft_ends_the_origins_too(make_core) -> None:
    """The end token is the last one, and it was drafted."""
    plain = run(make_core(), [asking()])["a"]
    end = next(place for place in range(2, 6) if plain[place] not in plain[:place])
    core = make_core()
    teach(core, all=Knowing(plain, 6))

    assert origins(core, asking("all", stop_token_ids=(plain[end],))) == ["all"] * (end + 1)


def test_nothing_is_told_unless_asked(make_core) -> None:
    """The field costs nothing then."""
    (deltas,) = run_deltas(make_core(), [submit("a", PROMPT, **OPTIONS)]).values()

    assert [delta.origins for delta in deltas] == [[]] * 12


def test_tokens_that_were_emitted_elsewhere_are_not_told_again(make_core) -> None:
    """A request that goes on from another engine tells of its new tokens alone."""
    plain = run(make_core(), [asking()])["a"]
    resumed = msgspec.structs.replace(asking(), output_ids=plain[:5])
    core = make_core()
    (deltas,) = run_deltas(core, [resumed]).values()

    assert [token_id for delta in deltas for token_id in delta.token_ids] == plain[5:]
    assert [origin for delta in deltas for origin in delta.origins] == [TARGET] * 7


def test_no_proposer_is_called_what_an_origin_or_a_choice_is() -> None:
    """Clients could not tell them apart."""
    assert {BONUS, TARGET, "off", "auto"}.isdisjoint(make_proposers(lambda _: ()))
