"""Training samples: token ids of a dialogue and which of them are learned; and the prompts of dialogues.

Owns the reading of data files and how a chat template cuts a dialogue into what is given and what is answered.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

_ROLES: Final = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}
_BAD: Final = (ValueError, TypeError, KeyError, AttributeError, TemplateError, RecursionError)


@dataclass(frozen=True, slots=True)
class Sample:
    """One dialogue: `learned[i]` tells whether token i is an answer's; `kind` names the task for tables."""

    token_ids: list[int]
    learned: list[bool]
    kind: str = "all"

    def cut(self, max_length: int) -> "Sample":
        """At most this many tokens, the rest left out at the end."""
        return Sample(self.token_ids[:max_length], self.learned[:max_length], self.kind)

    @property
    def is_of_use(self) -> bool:
        """Whether a draft could be learned from it: two tokens to read, then one to guess."""
        return any(self.learned[2:])


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a target is asked."""

    token_ids: list[int]
    kind: str = "all"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was left out, and why."""

    number: int
    reason: str


class Reader:
    """Turns records of data files into samples and prompts, with one tokenizer and its chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template_arguments: Mapping[str, Any] | None = None) -> None:
        self._tokenizer = tokenizer
        self._arguments = dict(template_arguments or {})

    def samples(self, path: Path, max_length: int, report: Callable[[BadLine], None]) -> list[Sample]:
        """The samples of a JSON Lines file; a line that is none is reported and left out.

        A line is `{"messages": [...], "tools": [...]}` as OpenAI writes it, `{"conversations": [...]}` as ShareGPT
        does, `{"prompt": ..., "completion": ...}` or `{"text": ...}`; `"kind"` is free. Long ones are cut at the end.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is one JSON array, not lines.
        """
        samples: list[Sample] = []
        for number, record in _records(path, report):
            try:
                cut = [sample.cut(max_length) for sample in self.parse_sample(record)]
            except _BAD as error:
                report(BadLine(number, _reason(error)))
                continue
            useful = [sample for sample in cut if sample.is_of_use]
            if not useful:
                report(BadLine(number, f"no answer within {max_length} tokens"))
            samples += useful
        return samples

    def prompts(self, path: Path, max_length: int, report: Callable[[BadLine], None]) -> list[Prompt]:
        """The questions of a JSON Lines file: each dialogue without its last answer.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is one JSON array, not lines.
        """
        prompts: list[Prompt] = []
        for number, record in _records(path, report):
            try:
                prompt = self.parse_prompt(record)
            except _BAD as error:
                report(BadLine(number, _reason(error)))
                continue
            if len(prompt.token_ids) < max_length:
                prompts.append(prompt)
            else:
                report(BadLine(number, f"the prompt has {len(prompt.token_ids)} tokens, of at most {max_length - 1}"))
        return prompts

    def parse_sample(self, record: Any) -> list[Sample]:
        """The samples of one record: one, or more where the chat template rewrites earlier turns.

        Raises:
            ValueError, TypeError, KeyError, AttributeError, TemplateError: it is none.
        """
        kind = _kind(record)
        if "messages" in record or "conversations" in record:
            return self._dialogue(_messages(record), record.get("tools") or None, kind)
        if "completion" in record:
            prompt = self._opened(_string(record, "prompt"))
            answer = self._encode(_string(record, "completion")) + self._end()
            return [Sample([*prompt, *answer], [False] * len(prompt) + [True] * len(answer), kind)]
        if "text" in record:
            ids = self._opened(_string(record, "text"))
            return [Sample(ids, [True] * len(ids), kind)]
        raise ValueError("none of messages, conversations, completion and text is there")

    def parse_prompt(self, record: Any) -> Prompt:
        """What a record asks.

        Raises:
            ValueError, TypeError, KeyError, AttributeError, TemplateError: it asks nothing.
        """
        kind = _kind(record)
        if "messages" in record or "conversations" in record:
            messages = _messages(record)
            while messages and messages[-1]["role"] == "assistant":
                messages.pop()
            if not messages:
                raise ValueError("nobody asks anything")
            return Prompt(self._encode(self._render(messages, record.get("tools") or None, asking=True)), kind)
        return Prompt(self._opened(_string(record, "prompt")), kind)

    def _dialogue(self, messages: list[dict[str, Any]], tools: list[Any] | None, kind: str) -> list[Sample]:
        """Answers that the template keeps as they were given share a sample; each other one has its own."""
        whole = self._render(messages, tools, asking=False)
        shared: list[tuple[int, int]] = []
        alone: list[Sample] = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._render(messages[:index], tools, asking=True) if index else ""
            after = self._render(messages[: index + 1], tools, asking=False)
            if not after.startswith(before):
                raise ValueError("the chat template does not write the answer behind the prompt that asks for it")
            if whole.startswith(after):
                shared.append((len(before), len(after)))
            else:
                # Templates that drop the thoughts of earlier turns write an answer in full only while it is the last.
                alone.append(self._spans(after, [(len(before), len(after))], kind))
        if not shared and not alone:
            raise ValueError("the assistant says nothing")
        return [*([self._spans(whole, shared, kind)] if shared else []), *alone]

    def _spans(self, text: str, spans: Sequence[tuple[int, int]], kind: str) -> Sample:
        """The text in tokens; those that begin in a span are learned, up to the first end token in it."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoded["input_ids"]
        starts = [start for start, _ in encoded["offset_mapping"]]
        learned = [False] * len(ids)
        for begin, end in spans:
            for index, start in enumerate(starts):
                if begin <= start < end:
                    learned[index] = True
                    if ids[index] == self._tokenizer.eos_token_id:
                        break
        return Sample(ids, learned, kind)

    def _render(self, messages: list[dict[str, Any]], tools: list[Any] | None, *, asking: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(  # type: ignore[assignment]  # a string unless it tokenizes
            messages, tools=tools, add_generation_prompt=asking, tokenize=False, **self._arguments
        )
        return text

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _opened(self, text: str) -> list[int]:
        """Ids with the tokenizer's own beginning, unless the text has it."""
        begin = self._tokenizer.bos_token
        adds_one = bool(begin) and self._tokenizer.bos_token_id in self._tokenizer.encode("")
        if adds_one and begin is not None and not text.startswith(begin):
            return self._encode(begin + text)
        return self._encode(text)

    def _end(self) -> list[int]:
        return [] if self._tokenizer.eos_token_id is None else [int(self._tokenizer.eos_token_id)]


def _records(path: Path, report: Callable[[BadLine], None]) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1 and line.lstrip().startswith(b"["):
                raise ValueError(f"`{path}` is a JSON array: write one object a line (jq -c '.[]')")
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                report(BadLine(number, _reason(error)))


def _kind(record: Any) -> str:
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return str(record.get("kind", "all"))


def _messages(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """OpenAI's messages, or ShareGPT's turns from the first that is not an answer on."""
    if "messages" in record:
        return [_message(message) for message in record["messages"]]
    turns = [
        {"role": _ROLES.get(turn["from"], turn["from"]), "content": turn["value"]} for turn in record["conversations"]
    ]
    while turns and turns[0]["role"] == "assistant":
        turns.pop(0)
    return turns


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """With text parts joined and call arguments parsed: what chat templates expect."""
    plain = dict(message)
    content = plain.get("content")
    if isinstance(content, list):
        if any(part["type"] != "text" for part in content):
            raise ValueError("a message has a part that is not text")
        plain["content"] = "".join(part["text"] for part in content)
    calls = []
    for call in plain.get("tool_calls") or ():
        function = dict(call["function"])
        if isinstance(function["arguments"], str):
            function["arguments"] = json.loads(function["arguments"])
        calls.append({**call, "function": function})
    return {**plain, "tool_calls": calls} if calls else plain


def _string(record: Mapping[str, Any], key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise TypeError(f"`{key}` is not a string")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
