"""Text to token ids and back, and the chat template. Imports no torch: the gateway runs it."""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from outrider.engine.errors import LoadError, RequestError, first_line

# What `apply_chat_template` takes for itself: a request must not change how the prompt is built.
_TEMPLATE_PARAMETERS = inspect.signature(PreTrainedTokenizerFast.apply_chat_template).parameters.keys()


def _byte_characters() -> dict[str, int]:
    """What byte-level tokenizers write for each byte: itself if it can be seen, else a character from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF = _byte_characters()
_HEX_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Tokenizer:
    """The tokenizer of a checkpoint folder."""

    def __init__(self, folder: str | Path) -> None:
        """Reads tokenizer.json and its configuration.

        Raises:
            LoadError: the folder has no tokenizer that can be read.
        """
        if not (Path(folder) / "tokenizer.json").is_file():
            raise LoadError(
                f"the checkpoint `{folder}` has no tokenizer.json: the server needs it to read and write text"
            )
        try:
            self._tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # a damaged file raises anything; each becomes one clear line
            raise LoadError(f"the tokenizer in `{folder}` cannot be read: {first_line(error)}") from error
        # Called for every token: what transformers puts around it takes most of the time.
        self._backend = self._tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._special = frozenset(self._tokenizer.all_special_tokens)
        self._added = frozenset(self._tokenizer.get_added_vocab())
        self._bytes: dict[int, bytes] = {}  # of the tokens that were asked for
        self._is_byte_level = '"ByteLevel"' in json.dumps(
            json.loads(self._tokenizer.backend_tokenizer.to_str())["decoder"]
        )

    @property
    def has_chat_template(self) -> bool:
        """Whether chat requests can be served."""
        return self._tokenizer.chat_template is not None

    @property
    def chat_template(self) -> str | None:
        """The source of the template; of several the one for tools."""
        template: str | dict[str, str] | None = self._tokenizer.chat_template
        return template.get("tool_use", template.get("default")) if isinstance(template, dict) else template

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        return ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of token ids, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens)
        return text

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as the vocabulary spells it; empty for an id that it leaves out."""
        tokens: list[str | None] = self._tokenizer.convert_ids_to_tokens(list(token_ids))
        return [token or "" for token in tokens]

    def decoder(self, marks: Iterable[str]) -> Callable[[Sequence[int]], str]:
        """Like `decode`, but those of the marks that are special tokens are shown."""
        shown = {self._tokenizer.convert_tokens_to_ids(mark): mark for mark in marks if mark in self._special}
        if not shown:
            return self.decode

        def decode(token_ids: Sequence[int]) -> str:
            parts: list[str] = []
            first = 0
            for place, token_id in enumerate(token_ids):
                if token_id in shown:
                    parts += (self.decode(token_ids[first:place]), shown[token_id])
                    first = place + 1
            return "".join([*parts, self.decode(token_ids[first:])])

        return decode

    def encode_words(self, words: Iterable[str]) -> tuple[tuple[int, ...], ...]:
        """Each word as the tokens it has at the start of a text, and as those it has behind a space."""
        spelled = (text for word in words for text in (word, f" {word.lstrip()}"))
        encoded = (tuple(self.encode(text, add_special_tokens=False)) for text in spelled)
        return tuple(dict.fromkeys(ids for ids in encoded if ids))

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for, by itself: it may be a part of a character. Special tokens are their names."""
        if token_id not in self._bytes:
            self._bytes[token_id] = self._spell(token_id)
        return self._bytes[token_id]

    def _spell(self, token_id: int) -> bytes:
        token: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        if token is None or token in self._added:
            return (token or "").encode()
        if self._is_byte_level:
            return bytes(_BYTE_OF[character] for character in token if character in _BYTE_OF)
        if _HEX_BYTE.fullmatch(token):  # as sentencepiece writes a byte
            return bytes.fromhex(token[3:5])
        return token.replace("\u2581", " ").encode()

    def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        template_arguments: Mapping[str, object] | None = None,
        tools: Sequence[Mapping[str, object]] = (),
    ) -> str:
        """The prompt of a conversation, up to where the assistant's answer begins.

        Args:
            messages: as OpenAI writes them
            template_arguments: further variables of the template
            tools: function declarations, as OpenAI writes them

        Raises:
            RequestError: the checkpoint has no chat template, or the template refuses the messages.
        """
        if not self.has_chat_template:
            raise RequestError("the model has no chat template: use /v1/completions")
        reserved = _TEMPLATE_PARAMETERS & (template_arguments or {}).keys()
        if reserved:
            raise RequestError(f"`{min(reserved)}` is not for the template: remove it from the template's arguments")
        try:
            prompt: str = self._tokenizer.apply_chat_template(
                list(messages),
                [dict(tool) for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=True,
                **(template_arguments or {}),
            )
        except (TemplateError, TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"the chat template refuses the messages: {error}") from error
        return prompt
