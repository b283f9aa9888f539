"""The vocabulary as the grammar library sees it: the bytes that each token id writes.

Worker and engine build it from the same three things and get the same bytes, so that a grammar compiled in one loads in
the other. Imports torch, by way of xgrammar.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import xgrammar
from transformers import PreTrainedTokenizerFast

# No UTF-8 text holds this byte, so no grammar of text can match a token that starts with it.
_NOT_TEXT: Final = b"\xff"


def tokenizer_info(
    tokenizer_path: Path | str, vocab_size: int, stop_token_ids: Sequence[int]
) -> xgrammar.TokenizerInfo:
    """Bytes of every token; tokens added to the vocabulary (`<think>`, `<|end|>`) never match text.

    `vocab_size` is the width of the logits; ids above the tokenizer's own are never allowed.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_path, local_files_only=True)
    stops = list(stop_token_ids)
    plain = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocab_size, stop_token_ids=stops)
    added = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    pieces = [_NOT_TEXT + piece if token_id in added else piece for token_id, piece in enumerate(plain.decoded_vocab)]
    return xgrammar.TokenizerInfo(pieces, xgrammar.VocabType.RAW, vocab_size=vocab_size, stop_token_ids=stops)


def added_tokens(info: xgrammar.TokenizerInfo) -> dict[str, int]:
    """Ids of the added tokens that may stand in an answer, by their text; stop tokens end it."""
    stops = set(info.stop_token_ids)
    pieces = ((piece[1:], token_id) for token_id, piece in enumerate(info.decoded_vocab) if piece[:1] == _NOT_TEXT)
    return {piece.decode(errors="replace"): token_id for piece, token_id in pieces if piece and token_id not in stops}
