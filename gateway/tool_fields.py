"""The parts of a chat request that tell of tools: declarations, the choice among them, and calls of earlier answers."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from outrider.gateway.errors import invalid


class FunctionDeclaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model is told of a function."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `tools`."""

    type: Literal["function"]
    function: FunctionDeclaration


class FunctionName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function that `tools` declares."""

    name: str


class AllowedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the tools that may be called."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some of the declared tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(min_length=1)]


class ToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The long forms of `tool_choice`."""

    type: Literal["function", "allowed_tools"]
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class CalledFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a call of an earlier answer called, as that answer told it."""

    name: str
    arguments: str = ""
    parsed_arguments: Any = None  # what the client has made of them


class CallOfMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call in an assistant's message."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None  # clients that gather streams leave it in

    def for_template(self, path: str) -> dict[str, object]:
        """As chat templates expect it: the arguments as an object, which they write out in their own way.

        Raises:
            ApiError: 400, the arguments are no JSON object.
        """
        try:
            arguments = msgspec.json.decode(self.function.arguments or "{}", type=dict[str, Any])
        except msgspec.DecodeError as error:
            path = f"{path}.function.arguments"
            raise invalid(f"`{path}` is not the text of a JSON object: {error}", path, "invalid_value") from error
        return {"id": self.id, "type": self.type, "function": {"name": self.function.name, "arguments": arguments}}
