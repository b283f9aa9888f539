"""One prompt, or the first of a conversation, before it becomes a request."""

from dataclasses import dataclass, field
from typing import Any

from outrider.loadtest.job import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`response_format` and `tools` apply to chat only: /v1/completions has no such fields.

    `kind` names what is asked, for the reader of the per-request file. `schema` is what the answer must follow, whether
    or not the server is told. `offset` is the arrival that a trace gives, in seconds. `variant` is the `speculation`
    that was drawn for it.
    """

    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    response_format: dict[str, object] | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    extra_body: dict[str, object] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    kind: str = ""
    schema: dict[str, Any] | bool | None = None
    offset: float | None = None
    variant: str | None = None

    @classmethod
    def from_prompt(cls, prompt: str, max_tokens: int | None, **fields: Any) -> "Sample":
        """Chat with a single message."""
        return cls(messages=[{"role": "user", "content": prompt}], max_tokens=max_tokens, **fields)


def json_schema_format(schema: dict[str, Any] | bool) -> dict[str, object]:
    """The `response_format` that asks for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
