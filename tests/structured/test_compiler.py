"""Compiling in a worker process: once per content, within bounds, and without leaving anything behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from outrider.structured.compiler import Compiler
from outrider.structured.constraint import Constraint
from outrider.structured.errors import CompileTimeout, SchemaError, WorkerError
from outrider.structured.grammar import GrammarLoader
from outrider.structured.plain import PLAIN, plain_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRING = {"type": "string"}
INTEGER = {"type": "integer"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object that requires its properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def json_schema(schema: Any) -> Constraint:
    return Constraint("json_schema", schema)


def new_compiler(vocabulary: Any, **options: Any) -> Compiler:
    return Compiler(vocabulary.path, vocabulary.size, vocabulary.stop_token_ids, **options)


def worker_pid(compiler: Compiler) -> int:
    """The process behind a compiler of one worker, as it says of itself."""
    return int(repr(compiler).partition("worker ")[2].partition("]")[0])


def is_running(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def compiler(vocabulary: Any) -> AsyncIterator[Compiler]:
    shared = new_compiler(vocabulary, wall_seconds=20, cpu_seconds=20)
    await shared.start()
    yield shared
    await shared.close()


async def test_grammars_load_in_the_engine(compiler: Compiler, loader: GrammarLoader, vocabulary: Any) -> None:
    """What the worker compiles, the engine's loader takes."""
    constraint = json_schema(closed(a=INTEGER))
    compiled = await compiler.compile(constraint)
    loader.load(compiled)
    grammar = loader.matcher(compiled.key)

    assert constraint.key == compiled.key
    assert all(grammar.accept(token_id) for token_id in vocabulary.tokens('{"a":12}'))
    assert grammar.is_done


async def test_json_object_is_any_object(compiler: Compiler, loader: GrammarLoader, vocabulary: Any) -> None:
    """`json_object` takes objects of every content, and no arrays."""
    compiled = await compiler.compile(Constraint("json_object"))
    loader.load(compiled)
    grammar = loader.matcher(compiled.key)

    assert not grammar.accept(vocabulary.tokens("[")[0])
    assert all(grammar.accept(token_id) for token_id in vocabulary.tokens('{"a":[1,{"b":null}],"a":"x"}'))
    assert grammar.is_done


async def test_equal_content_is_compiled_once(compiler: Compiler) -> None:
    """A second request is answered from memory; another order of properties is another content."""
    assert not compiler.is_cached(json_schema(closed(x=INTEGER, y=STRING)))
    first = await compiler.compile(json_schema(closed(x=INTEGER, y=STRING)))

    assert compiler.is_cached(json_schema(closed(x=INTEGER, y=STRING)))
    assert first == await compiler.compile(json_schema(closed(x=INTEGER, y=STRING)))
    assert not compiler.is_cached(json_schema(closed(y=STRING, x=INTEGER)))


async def test_a_cancelled_caller_does_not_take_others_along(compiler: Compiler, examples: dict[str, Any]) -> None:
    """Equal requests wait for one compile, which outlives the one that began it."""
    constraint = json_schema(examples["formats"])
    first = asyncio.create_task(compiler.compile(constraint))
    others = [asyncio.create_task(compiler.compile(constraint)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()

    keys = {compiled.key for compiled in await asyncio.gather(*others)}

    assert {constraint.key} == keys
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_refusals_name_every_keyword_and_are_remembered(compiler: Compiler) -> None:
    """The caller reads what to change, and asking again costs nothing."""
    constraint = json_schema(closed(a={"$ref": "other.json"}, b={"const": 1, "type": "null"}))
    for _ in range(2):
        with pytest.raises(SchemaError, match=r"`\$ref` at `#/properties/a`.*`const` at `#/properties/b`") as caught:
            await compiler.compile(constraint)

        assert ("#/properties/a", "$ref") == (caught.value.pointer, caught.value.keyword)
    assert compiler.is_cached(constraint)


CHAIN = {f"{i}": closed(a={"$ref": f"#/$defs/{i + 1}"}) for i in range(400)} | {"400": INTEGER}
STRANGE: dict[str, Any] = {
    "exploding pattern": {"type": "string", "pattern": "^(a|b)*a(a|b){30}$"},
    "wide gaps": {"type": "string", "pattern": "^.{0,256}x.{0,256}y.{0,256}$"},
    "chain of references": {"$ref": "#/$defs/0", "$defs": CHAIN},
    "huge maxItems": {"type": "array", "items": INTEGER, "maxItems": 10**12},
    "nested loops": {"type": "string", "pattern": "^(((a*)*)*)*$"},
}


@pytest.mark.parametrize("schema", STRANGE.values(), ids=STRANGE)
async def test_strange_schemas_compile(schema: Any, compiler: Compiler) -> None:
    """What looks costly and is not gets its grammar."""
    assert (await compiler.compile(json_schema(schema))).data


async def test_what_is_left_to_the_validator_travels_with_the_grammar(compiler: Compiler) -> None:
    """A grammar says what it leaves out, and carries the schema to check answers against."""
    constraint = json_schema(closed(a={"type": "array", "uniqueItems": True}))
    compiled = await compiler.compile(constraint)

    assert [("#/properties/a", "uniqueItems")] == [(one.pointer, one.keyword) for one in compiled.left]
    assert constraint.text == compiled.schema
    assert () == (await compiler.compile(json_schema(STRING))).left


# On xgrammar, whatever it takes, a state for each of some thousand characters.
LENGTHS = {f"f{length}": {"type": "string", "maxLength": length} for length in range(69, 129)}


async def test_a_schema_that_costs_too_much_gets_plain_json(vocabulary: Any, loader: GrammarLoader) -> None:
    """At the deadline the worker is killed and replaced; the validator does what is left, and others go on."""
    compiler = new_compiler(vocabulary, wall_seconds=0.5, cpu_seconds=20, retry_seconds=30, budget_seconds=1000)
    await compiler.start()
    try:
        slow = json_schema(closed(**LENGTHS))
        compiled = await compiler.compile(slow)
        pid = worker_pid(compiler)
        assert compiler.is_cached(slow)
        assert () == (await compiler.compile(json_schema(INTEGER))).left
        assert pid == worker_pid(compiler)
        # Of other forms nobody could check the answers.
        tag = Constraint("structural_tag", {"type": "structural_tag", "format": {"type": "json_schema"}})
        tag.value["format"]["json_schema"] = slow.value
        with pytest.raises(CompileTimeout, match=r"0\.5 s"):
            await compiler.compile(tag)
        pid = worker_pid(compiler)
    finally:
        await compiler.close()
    assert not is_running(pid)
    loader.load(compiled)
    grammar = loader.matcher(compiled.key)
    (finding,) = compiled.left

    assert ("#", "validated") == (finding.pointer, finding.verdict)
    assert "took more than 0.5 s to compile" in finding.reason
    assert slow.text == compiled.schema
    assert not grammar.accept(vocabulary.tokens("[")[0])
    assert all(grammar.accept(token_id) for token_id in vocabulary.tokens('{"a":1}'))
    assert grammar.is_done


@pytest.mark.parametrize(
    ("schema", "form"),
    [({"type": "object"}, {"type": "object"}), ({"type": "array"}, {"type": "array"}), ({"type": "string"}, {}),
     ({"type": ["array", "null"]}, {}), (True, {})],
)  # fmt: skip
async def test_plain_json_is_of_the_type_of_the_schema(schema: Any, form: Any) -> None:
    """Where it names one of the two that hold others; every form is among those that the worker has at hand."""
    for whitespace in ("compact", "free"):
        key = plain_key(json_schema(schema).text, whitespace)

        assert key == Constraint("json_schema", form, whitespace).key
        assert key in {constraint.key for constraint in PLAIN}


async def test_a_dead_worker_is_replaced(vocabulary: Any) -> None:
    """A worker that somebody kills costs no request."""
    compiler = new_compiler(vocabulary)
    await compiler.start()
    try:
        await compiler.compile(json_schema(INTEGER))
        os.kill(worker_pid(compiler), signal.SIGKILL)

        assert (await compiler.compile(json_schema(STRING))).data
    finally:
        await compiler.close()


async def test_a_worker_that_cannot_start_is_our_fault(vocabulary: Any, tmp_path: Any) -> None:
    """Without a tokenizer there is an error that is not the schema's, and it is not remembered."""
    compiler = Compiler(tmp_path / "none", vocabulary.size, vocabulary.stop_token_ids)
    await compiler.start()
    try:
        with pytest.raises(WorkerError, match="could not start"):
            await compiler.compile(json_schema(INTEGER))
        assert not compiler.is_cached(json_schema(INTEGER))
    finally:
        await compiler.close()


GATEWAY = """
import asyncio, os, sys
from outrider.structured.compiler import Compiler
from outrider.structured.constraint import Constraint

async def main():
    compiler = Compiler(sys.argv[1], int(sys.argv[2]), (int(sys.argv[3]),))
    await compiler.start()
    await compiler.compile(Constraint("json_object"))
    foreign = sorted({"torch", "xgrammar", "transformers", "jsonschema"} & sys.modules.keys())
    print(repr(compiler).partition("worker ")[2].partition("]")[0], *foreign, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_the_gateway_stays_light_and_leaves_nothing(vocabulary: Any) -> None:
    """A process that compiles imports no torch, and when it is killed its worker ends by itself."""
    arguments = [str(vocabulary.path), str(vocabulary.size), str(vocabulary.stop_token_ids[0])]
    gateway = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-c", GATEWAY, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    pid, *foreign = gateway.stdout.split()

    assert [] == foreign
    async with asyncio.timeout(10):
        while is_running(int(pid)):
            await asyncio.sleep(0.05)


async def test_pydantic_models_compile(compiler: Compiler, examples: dict[str, Any]) -> None:
    """A model of ordinary size is ready well within a second."""
    start = time.monotonic()
    await compiler.compile(json_schema(examples["Person"]))

    assert time.monotonic() - start < 5
