"""Draft models of another tokenizer: which tokens are the same."""

import pytest
import torch
from tiny_target import byte_tokenizer

from outrider.speculative.files import CheckpointError
from outrider.speculative.vocabulary import COMMON, Vocabulary, map_vocabularies


def vocabulary(*tokens: str, size: int | None = None, name: str = "model") -> Vocabulary:
    return Vocabulary(name, {token: index for index, token in enumerate(tokens)}, size or len(tokens))


# "\u0120" is a byte-level tokenizer's space, "\u010a" its line break, "\u00c3\u00a9" its e with an accent.
BYTE_LEVEL = vocabulary("!", "\u0120the", "the", "\u010a", "caf\u00c3\u00a9", "\u00c3", "<|end|>", "\u0120only")
SENTENCEPIECE = vocabulary("<unk>", "<0x0A>", "<0xC3>", "<0x21>", "!", "\u2581the", "the", "caf\u00e9", "\u2581other")


def test_tokens_of_the_same_bytes_are_the_same() -> None:
    """However their tokenizers write spaces, line breaks, accents and single bytes."""
    found = map_vocabularies(SENTENCEPIECE, BYTE_LEVEL)

    assert [-1, 3, 5, 0, 0, 1, 2, 4, -1] == found.to_target.tolist()
    assert [4, 5, 6, 1, 7, 2, -1, -1] == found.to_draft.tolist()
    assert not found.is_identity
    assert 6 / 8 == found.share


def test_the_other_way_round_is_the_other_map() -> None:
    """Whichever of both is the target."""
    there, back = map_vocabularies(SENTENCEPIECE, BYTE_LEVEL), map_vocabularies(BYTE_LEVEL, SENTENCEPIECE)

    assert torch.equal(there.to_target, back.to_draft)
    assert torch.equal(there.to_draft, back.to_target)


def test_what_a_real_byte_level_tokenizer_says_for_text_is_what_it_means() -> None:
    """Each byte of a text is found by its value in a vocabulary of single bytes."""
    tokenizer = byte_tokenizer()
    single = Vocabulary("bytes", {f"<0x{byte:02X}>": byte for byte in range(256)}, 256)
    found = map_vocabularies(single, Vocabulary("target", tokenizer.get_vocab(), len(tokenizer)))
    text = "A caf\u00e9\tfor 3 \u20ac,\n\u65e5\u672c \U0001f600"

    assert list(text.encode()) == found.to_draft[torch.tensor(tokenizer.encode(text))].tolist()


@pytest.mark.parametrize(("draft_size", "target_size"), [(12, 16), (16, 12), (10, 10)])
def test_one_tokenizer_is_the_identity_whatever_the_padding(draft_size: int, target_size: int) -> None:
    """Models of one family pad their logits differently: ids of the smaller one are the same in the larger."""
    tokens = [*"abcdefgh", "<0x61>", "\u2581a"]
    found = map_vocabularies(vocabulary(*tokens, size=draft_size), vocabulary(*tokens, size=target_size))
    smaller = min(draft_size, target_size)

    assert found.is_identity
    assert [*range(smaller), *([-1] * (draft_size - smaller))] == found.to_target.tolist()
    assert [*range(smaller), *([-1] * (target_size - smaller))] == found.to_draft.tolist()
    assert 1.0 == found.share


def test_tokens_added_by_one_side_leave_the_identity() -> None:
    """A later version of a tokenizer has a few more."""
    assert map_vocabularies(vocabulary(*"abcd"), vocabulary(*"abcdef")).is_identity


@pytest.mark.parametrize("draft", ["abdc", "abcx", "abc\u2581"])
def test_one_token_elsewhere_is_no_identity(draft: str) -> None:
    """Two swapped, or one replaced."""
    assert not map_vocabularies(vocabulary(*draft), vocabulary(*"abcd")).is_identity


def test_ids_beyond_the_logits_are_left_out() -> None:
    """A tokenizer may know more tokens than its model."""
    found = map_vocabularies(vocabulary(*"dcba", size=3), vocabulary(*"abcd"))

    assert [3, 2, 1] == found.to_target.tolist()
    assert [-1, 2, 1, 0] == found.to_draft.tolist()


def test_a_vocabulary_that_shares_too_little_is_refused() -> None:
    """Naming both models and the share."""
    draft = vocabulary(*(f"x{index}" for index in range(95)), *"abcde", name="small")
    target = vocabulary(*(f"y{index}" for index in range(95)), *"abcde", name="large")

    with pytest.raises(CheckpointError, match=r"`small` knows 5% of the commonest tokens of the target `large`, 10%"):
        map_vocabularies(draft, target)


def test_rare_tokens_of_the_target_do_not_count() -> None:
    """A small draft model suits a target of many languages, whose lowest ids are its commonest tokens."""
    shared = [f"t{index}" for index in range(COMMON)]
    rare = [f"rare{index}" for index in range(20 * COMMON)]
    found = map_vocabularies(vocabulary(*reversed(shared)), vocabulary(*shared, *rare))

    assert 1.0 == found.share
