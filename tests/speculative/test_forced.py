"""Drafts of what a grammar forces."""

from outrider.speculative.forced import GrammarProposer
from outrider.speculative.proposer import DraftRequest


def test_forced_text_is_drafted_as_the_tokenizer_spells_it() -> None:
    """As much as the request may have; the tokenizer is asked once for a text."""
    asked: list[str] = []

    def encode(text: str) -> list[int]:
        asked.append(text)
        return [ord(character) for character in text]

    proposer = GrammarProposer(encode)
    requests = [DraftRequest("a", [1], 3, forced_text=lambda: "name"), DraftRequest("b", [1], 8, forced_text=str)]
    drafts = [proposer.propose(requests), proposer.propose(requests)][1]

    assert [tuple(map(ord, "nam")), ()] == [draft.token_ids for draft in drafts]
    assert ["name"] == asked


def test_of_a_long_text_no_more_is_tokenised_than_may_be_drafted() -> None:
    """A constant of a megabyte costs a step no more than a key."""
    asked: list[str] = []
    proposer = GrammarProposer(lambda text: asked.append(text) or [1] * len(text))
    (draft,) = proposer.propose([DraftRequest("a", [1], 4, forced_text=lambda: "x" * 10**6)])

    assert ((1, 1, 1, 1), True) == (draft.token_ids, len(asked[0]) < 100)


def test_without_a_grammar_nothing_is_offered() -> None:
    """However long the text."""
    (draft,) = GrammarProposer(lambda _: [1]).propose([DraftRequest("a", [1] * 9, 3)])

    assert () == draft.token_ids
