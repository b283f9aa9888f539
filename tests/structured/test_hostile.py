"""Schemas that would hang, break or kill a server: each is refused or honestly validated, soon, and others go on."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from outrider.structured.checker import Checker
from outrider.structured.compiler import Compiler
from outrider.structured.constraint import Constraint
from outrider.structured.errors import CompileFailed, SchemaError

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_SECONDS = 10.0  # a busy machine is no failure: alone each takes less than 3
STRING = {"type": "string"}
INTEGER = {"type": "integer"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object that requires its properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def nested(depth: int) -> Any:
    schema: Any = INTEGER
    for _ in range(depth):
        schema = closed(a=schema)
    return schema


def chain(depth: int, *, across: bool) -> Any:
    """References that double at each of `depth` steps: at the same value, or at the values of a property."""
    definitions: dict[str, Any] = {f"d{depth}": STRING}
    for step in range(depth):
        following: Any = {"$ref": f"#/$defs/d{step + 1}"}
        if across:
            following = {"properties": {"x": following}}
        definitions[f"d{step}"] = {"allOf": [following, dict(following)]}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


SPIRAL: Any = "s"
for _ in range(40):
    SPIRAL = {"x": SPIRAL}
LOOKS_LIKE = "a" * 60 + "!"

# name -> schema, an answer to check where it is validated, whether that answer is valid
HOSTILE: dict[str, tuple[Any, Any, bool]] = {
    "nesting 300": (nested(300), {}, False),
    "nesting 5000": (nested(5000), {}, False),
    "deep JSON in an enum": ({"enum": [json.loads("[" * 900 + "]" * 900)]}, [], False),
    "enum 100k": ({"enum": [f"value {i}" for i in range(100_000)]}, "value 1", True),
    "enum 5k": ({"enum": list(range(5000))}, 4999, True),
    "1000 optional properties": ({"properties": {f"p{i}": STRING for i in range(1000)}}, {"p1": 1}, False),
    "1000 required properties": (closed(**{f"p{i}": STRING for i in range(1000)}), {}, False),
    "maxLength 1000000": (closed(a={"type": "string", "maxLength": 1_000_000}), {"a": "x" * 1_000_001}, False),
    "huge counts": ({"type": "string", "minLength": 10**12}, "x", False),
    "huge bounds": ({"type": "number", "minimum": 1e308}, 1, False),
    "many minimum items": ({"type": "array", "items": INTEGER, "minItems": 10**9}, [1], False),
    "unsatisfiable": ({"allOf": [{"type": "integer", "minimum": 5, "maximum": 3}, INTEGER]}, 4, False),
    "false": (False, 1, False),
    "nested repetitions": ({"type": "string", "pattern": "((a{0,100}){0,100}){0,100}"}, "a", True),
    "wide gaps": ({"type": "string", "pattern": "^.{0,256}x.{0,256}y.{0,256}$"}, "x" * 800, False),
    "many gaps": ({"anyOf": [{"type": "string", "pattern": f"a.{{{i + 9}}}$"} for i in range(120)]}, "no", False),
    "exploding pattern": ({"type": "string", "pattern": "^(a|b)*a(a|b){30}$"}, "a" * 99, True),
    "backtracking": ({"type": "string", "pattern": "^(?=a)(a+)+$"}, LOOKS_LIKE, False),
    "backtracking with a reference": ({"type": "string", "pattern": "^(a+)+\\1$"}, LOOKS_LIKE, False),
    "invalid pattern": ({"type": "string", "pattern": "(["}, "", False),
    "lookbehind": ({"type": "string", "pattern": "(?<=a)b"}, "cb", False),
    "null byte": ({"type": "string", "pattern": "a\0b"}, "a\0b", True),
    "null byte in a name": ({"type": "object", "properties": {"a\0": {"not": {}}}}, {}, True),
    "recursion without end": (
        {"$defs": {"A": closed(a={"$ref": "#/$defs/A"}, b={"$ref": "#/$defs/A"})}, "$ref": "#/$defs/A"}, {}, False,
    ),
    "reference to itself": ({"$ref": "#"}, 1, True),
    "references that double": (chain(40, across=False), "s", True),
    "references that double across properties": (chain(40, across=True), SPIRAL, False),
    "a chain of 1500 references": (
        {"$defs": {f"{i}": {"allOf": [{"$ref": f"#/$defs/{i + 1}"}, {}]} for i in range(1500)} | {"1500": STRING},
         "$ref": "#/$defs/0"}, "s", True,
    ),
    "remote reference": ({"$ref": "http://127.0.0.1:9/schema"}, 1, True),
    "file reference": ({"$ref": "file:///etc/passwd"}, 1, True),
    "1 MB": ({"type": "object", "description": "x" * 2**20}, {}, True),
    "not JSON": ({"type": {1, 2}}, 1, False),
}  # fmt: skip
REFUSED = {
    "nesting 300", "nesting 5000", "deep JSON in an enum", "enum 100k", "unsatisfiable", "false", "nested repetitions",
    "invalid pattern", "recursion without end", "reference to itself", "references that double",
    "a chain of 1500 references", "remote reference", "file reference", "1 MB", "not JSON",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def compiler(vocabulary: Any) -> AsyncIterator[Compiler]:
    shared = Compiler(vocabulary.path, vocabulary.size, vocabulary.stop_token_ids)
    await shared.start()
    await shared.compile(Constraint("json_object"))
    yield shared
    await shared.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def checker() -> AsyncIterator[Checker]:
    shared = Checker()
    await shared.check(b"true", "1")
    yield shared
    await shared.close()


@pytest.mark.parametrize("name", HOSTILE)
async def test_each_is_refused_or_honestly_validated(name: str, compiler: Compiler, checker: Checker) -> None:
    """Soon, with a sentence that names the keyword or the limit, and the next request is served."""
    schema, value, is_valid = HOSTILE[name]
    start = time.monotonic()
    try:
        compiled = await compiler.compile(Constraint("json_schema", schema))
        outcome = "validated" if compiled.left else "exact"
    except (SchemaError, CompileFailed) as error:
        outcome = "refused"
        assert str(error)
    else:
        assert is_valid is not bool(await checker.check(compiled.schema or b"true", json.dumps(value)))
    seconds = time.monotonic() - start

    assert (name in REFUSED) == (outcome == "refused")
    assert seconds < MAX_SECONDS
    assert () == await checker.check(b"true", "1")


async def test_the_audit_itself_is_bounded(checker: Checker) -> None:
    """The same schemas cost the audit's process nothing but their own answer."""
    for schema, _, _ in HOSTILE.values():
        try:
            text = Constraint("json_schema", schema).text
            await checker.audit(text)
        except SchemaError as error:
            assert str(error)

    assert "exact" == (await checker.audit(b'{"type": "integer"}')).route
