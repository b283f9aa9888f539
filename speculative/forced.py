"""Drafts what a request's grammar leaves no choice about: keys of a JSON schema, say, and the marks between them.

The text is tokenised as the tokenizer would, so that it meets what a model was trained to write; the target is asked
all the same, and may split it differently.
"""

import functools
from collections.abc import Callable, Sequence

from outrider.speculative.proposer import Draft, DraftRequest

Encode = Callable[[str], Sequence[int]]

# Of a long forced text only what may be drafted is tokenised: few tokens have more characters.
CHARACTERS_PER_TOKEN = 16


class GrammarProposer:
    """Tokenises forced text; offers nothing to requests without a grammar, or at a place of choice."""

    def __init__(self, encode: Encode) -> None:
        """`encode` gives a text's token ids, without special tokens; schemas repeat, so its results are kept."""
        self._encode = functools.lru_cache(1024)(lambda text: tuple(encode(text)))

    def propose(self, requests: Sequence[DraftRequest]) -> list[Draft]:
        """The forced text of each request, as tokens."""
        return [self._propose(request) for request in requests]

    def forget(self, request_id: str) -> None:
        """Nothing is kept for a request."""

    def _propose(self, request: DraftRequest) -> Draft:
        text = request.forced_text() if request.forced_text is not None else ""
        if not text:
            return Draft()
        token_ids = self._encode(text[: CHARACTERS_PER_TOKEN * request.max_tokens])[: request.max_tokens]
        return Draft(token_ids, None, (1.0,) * len(token_ids))
