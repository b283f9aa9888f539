"""The official JSON Schema test suite, put through the whole path: audit, compile, grammar, validator.

`make schema-suite` runs all of it on the demo model's vocabulary; OUTRIDER_SCHEMA_SUITE says where the suite lies.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from outrider.structured.checker import Checker
from outrider.structured.compiler import Compiler
from outrider.structured.constraint import CompiledGrammar, Constraint
from outrider.structured.errors import CompileFailed, SchemaError
from outrider.structured.grammar import GrammarLoader
from outrider.structured.keywords import TYPED
from outrider.structured.literals import types_of
from outrider.structured.validator import Validator
from outrider.structured.vocabulary import tokenizer_info

ROOT = Path(__file__).parents[2]
SUITE = Path(os.environ.get("OUTRIDER_SCHEMA_SUITE", ROOT.parent / "shared" / "data" / "json-schema-test-suite"))
ABSENT = f"there is no JSON Schema test suite at {SUITE}: name its folder in OUTRIDER_SCHEMA_SUITE"
_DRAFT_07 = "http://json-schema.org/draft-07/schema#"


@dataclass(frozen=True)
class Group:
    """One schema of the suite and its instances: description, value, whether it is valid."""

    name: str
    draft: str
    schema: Any
    tests: list[tuple[str, Any, bool]]


@dataclass
class Score:
    """What came of the suite, by route `exact`, `validated` or `refused`."""

    schemas: Counter[str] = field(default_factory=Counter)
    tests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)  # by keyword, or by what else is wrong
    accepted_invalid: list[str] = field(default_factory=list)
    rejected_valid: dict[str, list[str]] = field(default_factory=dict)  # by cause
    num_accepted_valid: int = 0

    def share(self, *routes: str) -> float:
        """Of all schemas, those on these routes."""
        return sum(self.schemas[route] for route in routes) / self.schemas.total()


def groups(suite: Path = SUITE) -> Iterator[Group]:
    """Everything in the suite for draft 2020-12 and draft-07, optional parts and formats too."""
    for draft in ("draft2020-12", "draft7"):
        for path in sorted((suite / "tests" / draft).rglob("*.json")):
            for group in json.loads(path.read_text()):
                schema = group["schema"]
                if draft == "draft7" and isinstance(schema, dict):
                    schema = {"$schema": _DRAFT_07, **schema}
                name = f"{path.relative_to(suite / 'tests')}: {group['description']}"
                tests = [(test["description"], test["data"], test["valid"]) for test in group["tests"]]
                yield Group(name, draft, schema, tests)


class WholePath:
    """The path of an answer through a gateway and an engine, without a model."""

    def __init__(self, tokenizer: Path, vocab_size: int, stop_token_ids: tuple[int, ...]) -> None:
        self.compiler = Compiler(tokenizer, vocab_size, stop_token_ids)
        self.checker = Checker()
        self._loader = GrammarLoader(tokenizer, vocab_size, stop_token_ids)
        pieces = tokenizer_info(tokenizer, vocab_size, stop_token_ids).decoded_vocab
        self._bytes = {piece[0]: token_id for token_id, piece in reversed(list(enumerate(pieces))) if len(piece) == 1}
        self._stop = stop_token_ids[0]
        self._mask = torch.zeros((1, -(-vocab_size // 32)), dtype=torch.int32)

    async def close(self) -> None:
        await self.compiler.close()
        await self.checker.close()

    async def problem(self, compiled: CompiledGrammar, text: str) -> str | None:
        """Who rejects an answer, and why; None when it comes through."""
        self._loader.load(compiled)
        grammar = self._loader.matcher(compiled.key)
        for byte in text.encode():
            if not grammar.accept(self._bytes[byte]):
                return "grammar"
        if not grammar.accept(self._stop):
            return "grammar"
        if compiled.left:
            violations = await self.checker.check(compiled.schema, text)
            if violations:
                return f"validator: {violations[0].keyword}"
        return None


async def run(path: WholePath, chosen: list[Group]) -> Score:
    """Put groups through the path."""
    score = Score()
    for group in chosen:
        try:
            compiled = await path.compiler.compile(Constraint("json_schema", group.schema))
        except (SchemaError, CompileFailed) as error:
            score.schemas["refused"] += 1
            score.tests["refused"] += len(group.tests)
            keyword = getattr(error, "keyword", "")
            score.refused[keyword or ("false" if "is `false`" in str(error) else str(error)[:80])] += 1
            continue
        route = "validated" if compiled.left else "exact"
        score.schemas[route] += 1
        score.tests[route] += len(group.tests)
        for description, value, is_valid in group.tests:
            problem = await path.problem(compiled, canonical(value, group.schema))
            where = f"{group.name}: {description}"
            if problem is None and is_valid:
                score.num_accepted_valid += 1
            elif problem is None:
                score.accepted_invalid.append(f"{route}: {where}")
            elif is_valid:
                score.rejected_valid.setdefault(_cause(problem, value, group.schema), []).append(where)
    return score


def canonical(value: Any, schema: Any) -> str:
    """The text of a value as grammars write it: compact, keys in the order of the schema, 1.0 as 1."""
    order = {name: rank for rank, name in enumerate(dict.fromkeys(_names(schema)))}
    return json.dumps(_ordered(value, order), ensure_ascii=False, separators=(",", ":"))


def _ordered(value: Any, order: dict[str, int]) -> Any:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: order.get(name, len(order)))
        return {name: _ordered(value[name], order) for name in names}
    if isinstance(value, list):
        return [_ordered(item, order) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e20:
        return int(value)
    return value


def _names(schema: Any) -> Iterator[str]:
    """Property names in the order in which a grammar writes them."""
    if isinstance(schema, list):
        for item in schema:
            yield from _names(item)
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"]
        if isinstance(schema.get("required"), list):
            yield from (name for name in schema["required"] if isinstance(name, str))
        for item in schema.values():
            yield from _names(item)


def _cause(problem: str, value: Any, schema: Any) -> str:
    """Why a valid instance is rejected, as far as can be told from the outside."""
    if not Validator(schema).permits(value):
        return "format: asserted here, an annotation in the suite"
    if problem != "grammar":
        return problem
    constrained = {TYPED[keyword] for keyword in schema if keyword in TYPED}
    words = json.dumps(schema)
    causes = {
        "no `type`: only values of the type that its keywords constrain are generated": (
            constrained and "type" not in schema and not constrained & types_of(value)
        ),
        "object: an undeclared property where none is allowed by name, or another order": isinstance(value, dict),
        "number: more digits than are generated, or an exponent": isinstance(value, (int, float)),
        "format: narrower than its standard": '"format"' in words,
        "pattern: only characters on which all dialects agree": '"pattern' in words,
        "other": True,
    }
    return next(cause for cause, applies in causes.items() if applies)


def report(score: Score) -> bool:
    """Print the scoreboard; whether it keeps what is promised."""
    total = score.schemas.total()
    for route in ("exact", "validated", "refused"):
        share = 100 * score.schemas[route] / total
        print(f"{route:10} {score.schemas[route]:5} schemas {share:5.1f} %  {score.tests[route]:5} instances")
    print(f"{'all':10} {total:5} schemas          {score.tests.total():5} instances")
    print("\nrefused, by keyword:")
    for keyword, count in score.refused.most_common():
        print(f"  {count:4}  {keyword}")
    num_rejected = sum(map(len, score.rejected_valid.values()))
    print(f"\nvalid instances accepted: {score.num_accepted_valid}; rejected: {num_rejected}, by cause:")
    for cause, where in sorted(score.rejected_valid.items(), key=lambda item: -len(item[1])):
        print(f"  {len(where):4}  {cause}")
        for one in where if "-v" in sys.argv else ():
            print(f"          {one}")
    print(f"\ninvalid instances accepted: {len(score.accepted_invalid)}")
    for one in score.accepted_invalid:
        print(f"  {one}")
    return not score.accepted_invalid and score.share("exact") >= 0.5 and score.share("exact", "validated") >= 0.9


async def _main() -> int:
    target = ROOT / "demo" / "target"
    config = json.loads((target / "config.json").read_text())
    path = WholePath(target, config["vocab_size"], (config["eos_token_id"],))
    await path.compiler.start()
    try:
        return 0 if report(await run(path, list(groups()))) else 1
    finally:
        await path.close()


if __name__ == "__main__":
    if not SUITE.is_dir():
        sys.exit(ABSENT)
    sys.exit(asyncio.run(_main()))
