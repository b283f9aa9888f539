"""The grammar of a whole answer: reasoning, then calls of functions or content of a form, or both kinds open."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from outrider.structured.constraint import Constraint
from outrider.structured.errors import SchemaError
from outrider.structured.tools.format import Demand, Function, Tag, ToolFormat, one_of, text
from outrider.structured.tools.reasoning import Start, with_reasoning


@dataclass(frozen=True, slots=True)
class Calls:
    """Which functions an answer may call, and how calls are written."""

    format: ToolFormat
    functions: Sequence[Function]
    demand: Demand
    parallel: bool

    def grammar(self, content: Tag | None) -> Tag:
        """Of an answer with such calls, or else with this content; None: content is free."""
        if content is None or self.demand == "required":
            return self.format.grammar(self.functions, self.demand, parallel=self.parallel)
        if self.demand == "none":
            return content
        return one_of([self.format.grammar(self.functions, "required", parallel=self.parallel), content])


def answer_constraint(
    content: Constraint | None, calls: Calls | None, reasoning: Start | None, max_reasoning_tokens: int | None
) -> Constraint | None:
    """All demands on one answer together; None where it is free.

    Args:
        content: what the request asks of the content
        calls: None without tools
        reasoning: where the prompt leaves a model that reasons, None for others
        max_reasoning_tokens: of the section of reasoning

    Raises:
        SchemaError: the content's constraint cannot stand beside the others.
    """
    is_plain = calls is None and reasoning in {None, "closed"}
    if is_plain or (content is None and calls is None and max_reasoning_tokens is None):
        return content
    answer = None if content is None else _as_tag(content)
    answer = {"type": "any_text"} if answer is None and calls is None else answer
    answer = calls.grammar(answer) if calls is not None else answer
    assert answer is not None, "calls or content"
    if reasoning is not None:
        answer = with_reasoning(answer, reasoning, max_reasoning_tokens)
    return Constraint("structural_tag", {"type": "structural_tag", "format": answer})


def _as_tag(constraint: Constraint) -> Tag:
    """A constraint as a part of a structural tag."""
    value: Any = constraint.value
    match constraint.kind:
        case "json_object":
            return {"type": "json_schema", "json_schema": {"type": "object"}}
        case "json_schema":  # what is left of it, the validator checks
            return {"type": "json_schema", "json_schema": value, "strict": False}
        case "regex":
            return {"type": "regex", "pattern": value}
        case "choice":
            if not isinstance(value, list) or not value:
                raise SchemaError("choices are a list of strings, at least one")
            return one_of([text(choice) for choice in value])
        case "structural_tag":
            if not isinstance(value, dict) or "format" not in value:
                raise SchemaError("a structural tag beside tools or reasoning needs `format`")
            tag: Tag = value["format"]
            return tag
        case kind:
            return {"type": kind, kind: value}
