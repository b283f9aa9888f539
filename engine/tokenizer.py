"""Text to token ids and back, and the chat template. Imports no torch: the gateway runs it."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from outrider.engine.errors import LoadError, RequestError, first_line

# What `apply_chat_template` takes for itself: a request must not change how the prompt is built.
_TEMPLATE_PARAMETERS = inspect.signature(PreTrainedTokenizerFast.apply_chat_template).parameters.keys()


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

    @property
    def has_chat_template(self) -> bool:
        """Whether chat requests can be served."""
        return self._tokenizer.chat_template is not None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def render_chat(
        self, messages: Sequence[Mapping[str, object]], template_arguments: Mapping[str, object] | None = None
    ) -> str:
        """The prompt of a conversation, up to where the assistant's answer begins.

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
                list(messages), tokenize=False, add_generation_prompt=True, **(template_arguments or {})
            )
        except (TemplateError, TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"the chat template refuses the messages: {error}") from error
        return prompt
