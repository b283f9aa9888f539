"""What an answer is made of beside content: calls of functions, and reasoning. Gives its grammar and its parser."""

from dataclasses import dataclass
from typing import Any

from outrider.engine.errors import RequestError
from outrider.gateway.errors import ApiError, invalid
from outrider.gateway.requests import ChatRequest
from outrider.gateway.state import Gateway
from outrider.gateway.toolset import Toolset, toolset_of
from outrider.structured.compiler import Compiler
from outrider.structured.constraint import Constraint
from outrider.structured.errors import StructuredError
from outrider.structured.finding import refusal
from outrider.structured.tools.answer import answer_constraint
from outrider.structured.tools.events import Parser, PlainText
from outrider.structured.tools.format import ToolFormat
from outrider.structured.tools.reasoning import BEGIN, END, ReasoningParser, Start, reasons, start_of
from outrider.structured.tools.table import FORMATS, format_of


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How one answer is read, and constrained. `reasoning` is where the prompt leaves a model that reasons."""

    toolset: Toolset | None = None
    reasoning: Start | None = None
    max_reasoning_tokens: int | None = None

    def parser(self) -> Parser:
        """For one answer's text."""
        toolset = self.toolset
        reads_calls = toolset is not None and toolset.calls.demand != "none"
        rest = toolset.calls.format.parser() if toolset is not None and reads_calls else PlainText()
        return rest if self.reasoning is None else ReasoningParser(self.reasoning, rest)

    @property
    def marks(self) -> tuple[str, ...]:
        """What the parser must see of the text, special tokens too."""
        calls = () if self.toolset is None else self.toolset.calls.format.marks
        return calls if self.reasoning is None else (*calls, BEGIN, END)

    def constraint(self, content: Constraint | None) -> Constraint | None:
        """The grammar of the whole answer.

        Raises:
            SchemaError: the content's constraint cannot stand beside the others.
        """
        calls = None if self.toolset is None else self.toolset.calls
        return answer_constraint(content, calls, self.reasoning, self.max_reasoning_tokens)


def tool_format(gateway: Gateway) -> ToolFormat | None:
    """How the model writes calls; None where that is not known."""
    chosen = gateway.config.tool_format
    return format_of(gateway.tokenizer.chat_template) if chosen is None else FORMATS.get(chosen)


def model_reasons(gateway: Gateway) -> bool:
    """Whether the model writes sections of reasoning."""
    chosen = gateway.config.reasoning
    return reasons(gateway.tokenizer.chat_template) if chosen is None else chosen


def chat_prompt(gateway: Gateway, request: ChatRequest) -> tuple[str, AnswerForm]:
    """The rendered prompt of a conversation, and what its answer may be made of.

    Raises:
        ApiError: 400, naming the field.
    """
    toolset = toolset_of(request, tool_format(gateway))
    arguments = _template_arguments(gateway, request)
    messages = [message.for_template(index) for index, message in enumerate(request.messages)]
    tools = () if toolset is None else toolset.for_template()
    try:
        text = gateway.tokenizer.render_chat(messages, arguments, tools)
    except RequestError as error:
        raise invalid(f"{error}", "messages") from error
    if not model_reasons(gateway):
        return text, AnswerForm(toolset)
    budget = 0 if request.reasoning_effort == "none" else request.thinking_token_budget
    return text, AnswerForm(toolset, start_of(text), budget)


def _template_arguments(gateway: Gateway, request: ChatRequest) -> dict[str, Any]:
    """The request's own, and its effort where the template reads it."""
    given = request.chat_template_kwargs or {}
    effort = request.reasoning_effort
    if not model_reasons(gateway):
        for field in ("reasoning_effort", "thinking_token_budget"):
            if getattr(request, field) not in (None, "none"):
                reason = "the model does not reason apart from its answer; leave the field out"
                raise invalid(f"`{field}` is not supported: {reason}", field, "unsupported_parameter")
        return given
    if effort in (None, "none"):
        return given
    if "reasoning_effort" not in (gateway.tokenizer.chat_template or ""):
        raise invalid(
            "`reasoning_effort` is not supported: the model's chat template does not read it; "
            "set `thinking_token_budget`, or `none` for no reasoning",
            "reasoning_effort",
            "unsupported_parameter",
        )
    return {"reasoning_effort": effort, **given}


async def refuse_answer(compiler: Compiler, form: AnswerForm, error: StructuredError) -> None:
    """Finds what of the form is why a grammar was refused, if anything is: a function's schema, or the budget.

    Raises:
        ApiError: 400, naming the place and every keyword.
    """
    if form.max_reasoning_tokens is not None and getattr(error, "keyword", "") == "max_tokens":
        reason = f"the model has no single token for `{END}`, so none can be counted; leave the field out"
        raise invalid(f"`thinking_token_budget` is not supported: {reason}", "thinking_token_budget")
    toolset = form.toolset
    for function in () if toolset is None else toolset.calls.functions:
        assert toolset is not None, "it has functions"
        problem: StructuredError | None
        try:
            grammar = await compiler.compile(Constraint("json_schema", function.parameters))
            problem = refusal(grammar.left, strict=function.is_strict)
        except StructuredError as refused:
            problem = refused
        if problem is not None:
            path = f"tools[{toolset.place(function.name)}].function.parameters"
            raise ApiError(
                400,
                f"Invalid schema for function '{function.name}': in `{path}`, {problem}",
                param=path,
                code="invalid_function_parameters",
                error_type="grammar_compile_failed",
            ) from problem
