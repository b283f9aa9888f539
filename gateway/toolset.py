"""The tools of a chat request, checked: what may be called, and what must be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from outrider.gateway.errors import ApiError, invalid
from outrider.gateway.requests import ChatRequest
from outrider.gateway.tool_fields import AllowedTools, FunctionDeclaration, Tool, ToolChoice
from outrider.structured.tools.answer import Calls
from outrider.structured.tools.format import Demand, Function, ToolFormat
from outrider.structured.tools.table import FORMATS


@dataclass(frozen=True, slots=True)
class Toolset:
    """The tools that a request declares. `is_named`: the request itself chose the function."""

    declared: tuple[Tool, ...]
    calls: Calls
    is_named: bool

    def for_template(self) -> list[dict[str, Any]]:
        """As chat templates expect them, without what only this server reads."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.function.name,
                    **({} if tool.function.description is None else {"description": tool.function.description}),
                    "parameters": _parameters(tool.function),
                },
            }
            for tool in self.declared
        ]

    def place(self, name: str) -> int:
        """The index of a function in `tools`."""
        return next(index for index, tool in enumerate(self.declared) if tool.function.name == name)


def toolset_of(request: ChatRequest, tool_format: ToolFormat | None) -> Toolset | None:
    """What a request says of tools, None where it says nothing.

    Raises:
        ApiError: 400, naming the field.
    """
    if not request.tools:
        if request.tool_choice not in (None, "none"):
            raise invalid("`tool_choice` needs `tools`: declare them, or leave it out", "tool_choice")
        if request.parallel_tool_calls is not None:
            raise invalid("`parallel_tool_calls` needs `tools`: leave it out", "parallel_tool_calls")
        return None
    if tool_format is None:
        raise invalid(
            "`tools` is not supported: the model's chat template has no tool calls in a known format; start the server "
            f"with --tool-format ({', '.join(FORMATS)}), or use `response_format` to get structured arguments",
            "tools",
            "unsupported_parameter",
        )
    _check(request.tools)
    declared = tuple(request.tools)
    demand, names, is_named = _choice(request.tool_choice, [tool.function.name for tool in declared])
    functions = [
        Function(tool.function.name, _parameters(tool.function), bool(tool.function.strict))
        for tool in declared
        if tool.function.name in names
    ]
    parallel = request.parallel_tool_calls is not False and not is_named
    return Toolset(declared, Calls(tool_format, functions, demand, parallel), is_named)


def _check(tools: Sequence[Tool]) -> None:
    places: dict[str, int] = {}
    for index, tool in enumerate(tools):
        name, parameters = tool.function.name, tool.function.parameters
        if name in places:
            path = f"tools[{index}].function.name"
            raise invalid(f"`{path}` is `{name}`, as in tools[{places[name]}]: give each function its own name", path)
        if parameters is not None and parameters.get("type") != "object":
            path = f"tools[{index}].function.parameters"
            raise ApiError(
                400,
                f'Invalid schema for function \'{name}\': `{path}` needs `"type": "object"`, since arguments are '
                f"an object, not {msgspec.json.encode(parameters.get('type')).decode()[:100]}",
                param=path,
                code="invalid_function_parameters",
            )
        places[name] = index


def _choice(choice: str | ToolChoice | None, names: list[str]) -> tuple[Demand, list[str], bool]:
    """What must be called, which functions may be, and whether the request names the one."""
    if choice is None or choice == "auto":
        return "auto", names, False
    if choice == "none":
        return "none", names, False
    if isinstance(choice, str):
        return "required", names, False
    if choice.type == "function":
        if choice.function is None or choice.allowed_tools is not None:
            raise invalid("`tool_choice` of type `function` has the field `function` alone", "tool_choice.function")
        return "required", [_known(choice.function.name, names, "tool_choice.function.name")], True
    allowed: AllowedTools | None = choice.allowed_tools
    if allowed is None or choice.function is not None:
        raise invalid(
            "`tool_choice` of type `allowed_tools` has the field `allowed_tools` alone", "tool_choice.allowed_tools"
        )
    kept = [
        _known(tool.function.name, names, f"tool_choice.allowed_tools.tools[{index}].function.name")
        for index, tool in enumerate(allowed.tools)
    ]
    return allowed.mode, kept, False


def _known(name: str, names: list[str], path: str) -> str:
    if name not in names:
        listed = ", ".join(f"`{one}`" for one in names[:20])
        raise invalid(f"`{path}` is `{name}`, which `tools` does not declare: use one of {listed}", path)
    return name


def _parameters(function: FunctionDeclaration) -> dict[str, Any]:
    """The schema of the arguments; a function without one takes none."""
    if function.parameters is not None:
        return function.parameters
    return {"type": "object", "properties": {}, "additionalProperties": False}
