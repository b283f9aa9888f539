"""What `outrider bench speculation` asks: lines of a file, or the demo recipe's held-out tasks, for an engine."""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from outrider.demo.recipe.mixture import HELD_OUT_KINDS, HELD_OUT_SEED, record
from outrider.demo.recipe.words import Writer
from outrider.engine.core import EngineCore
from outrider.engine.errors import RequestError
from outrider.engine.protocol import LoadGrammar
from outrider.engine.speculation_benchmark import Task
from outrider.engine.tokenizer import Tokenizer
from outrider.speculative.training.samples import BadLine
from outrider.structured.compiler import Compiler
from outrider.structured.constraint import Constraint
from outrider.structured.errors import StructuredError, WorkerError

Report = Callable[[BadLine], None]


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request. An answer at the end of the messages is left out: the model gives its own."""

    messages: list[dict[str, Any]]
    kind: str = "all"  # a row of the table
    tools: list[dict[str, Any]] = []  # function declarations, as OpenAI writes them
    schema: dict[str, Any] | bool | None = None  # that the answer follows
    prediction: str = ""  # what the answer is expected to be


def read_lines(path: Path, report: Report) -> dict[int, Line]:
    """The lines of a file by their numbers; one that is none is reported and left out.

    Raises:
        OSError: the file cannot be read.
    """
    lines: dict[int, Line] = {}
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        if text.strip():
            try:
                lines[number] = msgspec.json.decode(text, type=Line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                report(BadLine(number, str(error)))
    return lines


def recipe_lines(count: int) -> dict[int, Line]:
    """So many tasks of each kind with wordings and values that no training text has: extraction follows its schema."""
    lines: list[Line] = []
    for number, (kind, tasks) in enumerate(HELD_OUT_KINDS.items()):
        writer = Writer(HELD_OUT_SEED + number, held_out=True)
        for _ in range(count):
            example = writer.one(tasks)(writer)
            messages = record(example)["messages"]
            lines.append(
                Line(
                    messages=messages,
                    kind=kind,
                    tools=list(example.tools),
                    schema=example.schema if kind == "extraction" else None,
                    prediction=messages[-2]["content"] if kind == "edit" else "",
                )
            )
    return dict(enumerate(lines, 1))


def make_tasks(core: EngineCore, lines: Mapping[int, Line], max_tokens: int, report: Report) -> list[Task]:
    """Lines as the engine takes them, their grammars loaded; one that it cannot take is reported and left out.

    Args:
        core: that will run them
        lines: by number
        max_tokens: of an answer; less where the context has no room
        report: is told what is left out

    Raises:
        LoadError: the model has no tokenizer.
        WorkerError: the compile process does not start.
    """
    tokenizer = Tokenizer(core.folder)
    schemas = {number: line.schema for number, line in lines.items() if line.schema is not None}
    keys = asyncio.run(_load_grammars(core, schemas, report)) if schemas else {}
    tasks: list[Task] = []
    for number, line in lines.items():
        if line.schema is not None and number not in keys:
            continue
        try:
            prompt_ids = _prompt(tokenizer, line)
        except RequestError as error:
            report(BadLine(number, str(error)))
            continue
        room = core.max_model_len - len(prompt_ids)
        if room < 1:
            report(BadLine(number, f"{len(prompt_ids)} tokens leave no room in a context of {core.max_model_len}"))
            continue
        prediction_ids = tokenizer.encode(line.prediction, add_special_tokens=False)
        tasks.append(Task(line.kind, tuple(prompt_ids), min(max_tokens, room), tuple(prediction_ids), keys.get(number)))
    return tasks


def enough_of_each(tasks: Sequence[Task], count: int) -> list[Task]:
    """So many of each kind, in order; a kind that has fewer begins again."""
    kinds = dict.fromkeys(task.kind for task in tasks)
    return [
        task
        for kind in kinds
        for task in itertools.islice(itertools.cycle([one for one in tasks if one.kind == kind]), count)
    ]


def _prompt(tokenizer: Tokenizer, line: Line) -> list[int]:
    messages = list(line.messages)
    while messages and messages[-1].get("role") == "assistant":
        messages.pop()
    if not messages:
        raise RequestError("nobody asks anything")
    return tokenizer.encode(tokenizer.render_chat(messages, tools=line.tools), add_special_tokens=False)


async def _load_grammars(
    core: EngineCore, schemas: Mapping[int, dict[str, Any] | bool], report: Report
) -> dict[int, str]:
    """The keys of the grammars, by line."""
    compiler = Compiler(core.folder, core.vocab_size, core.eos_token_ids)
    await compiler.start()
    keys: dict[int, str] = {}
    try:
        for number, schema in schemas.items():
            try:
                grammar = await compiler.compile(Constraint("json_schema", schema))
            except WorkerError:
                raise
            except StructuredError as error:
                report(BadLine(number, f"its schema is refused: {error}"))
                continue
            core.load_grammar(LoadGrammar(grammar.key, grammar.backend, grammar.data))
            keys[number] = grammar.key
    finally:
        await compiler.close()
    return keys
