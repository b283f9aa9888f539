"""One answer's text to what it says: content, reasoning, and calls with their ids and places."""

from collections.abc import Iterable
from typing import TypedDict

from msgspec.structs import replace

from outrider.gateway.answer_form import AnswerForm
from outrider.gateway.responses import CallDelta, FunctionDelta
from outrider.structured.tools.events import CallArguments, CallBegun, Content, Event, Reasoning


class Said(TypedDict):
    """What a piece of text says."""

    content: str
    reasoning: str
    calls: tuple[CallDelta, ...]


class AnswerReader:
    """Reads one answer as it grows."""

    def __init__(self, form: AnswerForm) -> None:
        self._toolset = form.toolset
        self._parser = form.parser()
        self._num_calls = 0

    @property
    def ends_with_calls(self) -> bool:
        """Whether its end is reported as that of calls: not where the request itself chose the function."""
        return self._num_calls > 0 and self._toolset is not None and not self._toolset.is_named

    def feed(self, text: str) -> Said:
        """What more text says."""
        return self._said(self._parser.feed(text))

    def finish(self) -> Said:
        """What was held back, when no more text comes."""
        return self._said(self._parser.finish())

    def _said(self, events: list[Event]) -> Said:
        calls = joined_calls(self._call(event) for event in events if isinstance(event, (CallBegun, CallArguments)))
        content = "".join(event.text for event in events if isinstance(event, Content))
        reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
        return Said(content=content, reasoning=reasoning, calls=calls)

    def _call(self, event: CallBegun | CallArguments) -> CallDelta:
        if isinstance(event, CallArguments):
            return CallDelta(self._num_calls - 1, FunctionDelta(arguments=event.text))
        assert self._toolset is not None, "only a tool format's parser tells of calls"
        self._num_calls += 1
        function = FunctionDelta(event.name)
        return CallDelta(self._num_calls - 1, function, self._toolset.calls.format.new_call_id(), "function")


def joined_calls(deltas: Iterable[CallDelta]) -> tuple[CallDelta, ...]:
    """One of each index: clients take a list with two of the same index for two calls."""
    by_index: dict[object, CallDelta] = {}
    for delta in deltas:
        earlier = by_index.get(delta.index)
        if earlier is None:
            by_index[delta.index] = delta
        else:
            arguments = earlier.function.arguments + delta.function.arguments
            by_index[delta.index] = replace(earlier, function=replace(earlier.function, arguments=arguments))
    return tuple(by_index.values())
