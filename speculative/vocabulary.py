"""Draft models of another tokenizer: which of their tokens are which of the target's.

Owns the comparison. Two tokens are the same when they stand for the same bytes, however their tokenizers write a space,
a line break or an accent (the intersection of Timor et al., "Accelerating LLM Inference with Lossless Speculative
Decoding Algorithms for Heterogeneous Vocabularies", 2025).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch

from outrider.speculative.files import CheckpointError

# Tokenizers give their lowest ids to what is commonest. A share of all tokens would refuse a small draft model for a
# target of many languages, whose rare tokens it never meets.
COMMON: Final = 8192
MIN_SHARE: Final = 0.1

_BYTE_LEVEL_SPACE: Final = "\u0120"
_SENTENCEPIECE_SPACE: Final = "\u2581"
_SENTENCEPIECE_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A model's tokens: their names and ids, and the width of its logits, padding included."""

    name: str
    ids: Mapping[str, int]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class VocabularyMap:
    """Ids of one vocabulary in another.

    Attributes:
        to_target: of each draft id the target's, or -1; int64 (size of the draft's logits,)
        to_draft: of each target id the draft's, or -1; int64 (size of the target's logits,)
        is_identity: the tokenizers agree on every id that both have, and the ids are the same
        share: how many of the target's COMMON lowest ids the draft model knows, 0 to 1
    """

    to_target: torch.Tensor
    to_draft: torch.Tensor
    is_identity: bool
    share: float


def map_vocabularies(draft: Vocabulary, target: Vocabulary) -> VocabularyMap:
    """Which tokens both have.

    Vocabularies of one tokenizer, padded to different sizes, give the identity on the smaller one. Elsewhere tokens
    that stand for the same bytes are the same; of several with one meaning, the lowest id that is no single byte's.

    Raises:
        CheckpointError: the draft model knows less than MIN_SHARE of the target's commonest tokens.
    """
    known, wanted = _meanings(draft), _meanings(target)
    is_identity = _agree(draft, target)
    if is_identity:
        to_target, to_draft = _identity(draft.size, target.size), _identity(target.size, draft.size)
    else:
        to_target, to_draft = _ids(known, wanted, draft.size), _ids(wanted, known, target.size)
    common = sorted(wanted)[:COMMON]
    share = sum(int(to_draft[token_id]) in known for token_id in common) / max(1, len(common))
    if share < MIN_SHARE:
        raise CheckpointError(
            f"the draft model `{draft.name}` knows {share:.0%} of the commonest tokens of the target `{target.name}`, "
            f"{MIN_SHARE:.0%} are needed: use a draft model with a tokenizer that is more alike"
        )
    return VocabularyMap(to_target, to_draft, is_identity, share)


def _agree(draft: Vocabulary, target: Vocabulary) -> bool:
    """Whether each id and each token that both have means the same in both."""
    tokens = {token_id: token for token, token_id in target.ids.items()}
    return all(
        target.ids.get(token, token_id) == token_id and tokens.get(token_id, token) == token
        for token, token_id in draft.ids.items()
    )


def _identity(size: int, other_size: int) -> torch.Tensor:
    ids = torch.arange(size)
    ids[other_size:] = -1
    return ids


def _ids(meanings: Mapping[int, bytes], others: Mapping[int, bytes], size: int) -> torch.Tensor:
    """Of each id up to `size` the other vocabulary's id of the same meaning, or -1."""
    by_meaning: dict[bytes, int] = {}
    for token_id, meaning in others.items():  # in the order of preference
        by_meaning.setdefault(meaning, token_id)
    return torch.tensor([by_meaning.get(meanings[index], -1) if index in meanings else -1 for index in range(size)])


def _meanings(vocabulary: Vocabulary) -> dict[int, bytes]:
    """What each id stands for; ordered by id, byte tokens of sentencepiece last."""
    spaces = [
        sum(token.startswith(mark) for token in vocabulary.ids) for mark in (_BYTE_LEVEL_SPACE, _SENTENCEPIECE_SPACE)
    ]
    is_byte_level = spaces[0] > spaces[1]
    in_order = sorted(
        (not is_byte_level and _SENTENCEPIECE_BYTE.fullmatch(token) is not None, token_id, token)
        for token, token_id in vocabulary.ids.items()
        if 0 <= token_id < vocabulary.size
    )
    decode = _decode_byte_level if is_byte_level else _decode_sentencepiece
    return {token_id: decode(token) for _, token_id, token in in_order}


def _decode_byte_level(token: str) -> bytes:
    """Each character is a byte; special tokens may have others, and are text."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return token.encode()


def _decode_sentencepiece(token: str) -> bytes:
    """Text with a mark for spaces, or one byte in hexadecimal."""
    found = _SENTENCEPIECE_BYTE.fullmatch(token)
    return bytes.fromhex(found[1]) if found else token.replace(_SENTENCEPIECE_SPACE, " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Characters of byte-level tokenizers: printable ones of Latin-1 stand for themselves, others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTES: Final = _byte_alphabet()
