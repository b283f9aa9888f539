"""What a request and its answers said, for the trace of an operator who opted in."""

from collections.abc import Sequence
from itertools import zip_longest

from outrider.gateway.requests import ChatRequest, CompletionRequest, Message
from outrider.telemetry.content import Content
from outrider.telemetry.names import FINISHED_BY_ERROR

_SYSTEM = frozenset({"system", "developer"})


def content(request: ChatRequest | CompletionRequest, texts: Sequence[str], reasons: Sequence[str]) -> Content:
    """Token ids are no text and are left out. An answer without a finish reason ended by an error."""
    answers = tuple(zip_longest(texts, reasons[: len(texts)], fillvalue=FINISHED_BY_ERROR))
    if isinstance(request, CompletionRequest):
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        said = tuple(("user", prompt) for prompt in prompts if isinstance(prompt, str))
        return Content(messages=said, answers=answers)
    return Content(
        messages=tuple((one.role, _text(one)) for one in request.messages if one.role not in _SYSTEM),
        system=tuple(_text(one) for one in request.messages if one.role in _SYSTEM),
        answers=answers,
    )


def _text(message: Message) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return "".join(part.text for part in message.content)
