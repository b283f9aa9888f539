"""Constrained answers at temperature 1 with every way of speculation, judged by a validator that is not ours.

`make constrained` draws a thousand of them; ARGS says how many.
"""

import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

sys.path.insert(0, str(Path(__file__).parent))

from realistic_schemas import EXTRACTIONS, TOOLS

from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.protocol import (
    FinishReason,
    LoadGrammar,
    SamplingParams,
    SpeculationFigures,
    SpeculationParams,
    Submit,
)
from outrider.engine.tokenizer import Tokenizer
from outrider.structured.backends import Backends
from outrider.structured.constraint import Constraint
from outrider.structured.vocabulary import tokenizer_info

DEMO = Path(__file__).parents[2] / "demo"
NUM_SCHEMAS = 40
NUM_AT_ONCE = 16
MAX_TOKENS = 512
WHITESPACE = re.compile(r"\s+")
LONGEST_WHITESPACE = 64  # characters: a line end and deep indentation have less, a loop more
BUDGETS = {"xgrammar": 1000.0, "llguidance": -1.0}  # seconds that xgrammar may take: each backend whatever it costs


@dataclass
class Score:
    """What came of the answers."""

    num_valid: int = 0
    num_cut: int = 0  # ended by `max_tokens`, and told so
    num_tokens: int = 0
    invalid: list[str] = field(default_factory=list)
    looping: list[str] = field(default_factory=list)
    longest_whitespace: int = 0
    accepted: Counter[str] = field(default_factory=Counter)  # drafted tokens, by method
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every answer is valid or told to be cut, and none repeats whitespace."""
        return not self.invalid and not self.looping


def schemas() -> dict[str, Any]:
    """Forty: tools and extractions in turn."""
    pairs = itertools.zip_longest(TOOLS.items(), EXTRACTIONS.items())
    return dict([one for pair in pairs for one in pair if one is not None][:NUM_SCHEMAS])


def make_core() -> EngineCore:
    """The demo model with all of its speculators."""
    speculators = {"draft": str(DEMO / "draft"), "eagle": str(DEMO / "eagle3"), "medusa": str(DEMO / "medusa")}
    return EngineCore(EngineConfig(model=str(DEMO / "target"), max_num_seqs=NUM_AT_ONCE, **speculators))


def make_requests(core: EngineCore, count: int, max_tokens: int = MAX_TOKENS) -> list[Submit]:
    """So many: each schema, backend, kind of whitespace and speculation in turn. Their grammars are loaded."""
    tokenizer = Tokenizer(core.folder)
    info = tokenizer_info(core.folder, core.vocab_size, core.eos_token_ids)
    backends = {name: Backends(info, budget) for name, budget in BUDGETS.items()}
    methods = core.speculation_methods
    ways = [(), *((name,) for name in methods), *itertools.combinations(methods, 2), methods]
    found = []
    for number, (name, schema) in zip(range(count), itertools.cycle(schemas().items())):
        backend = list(BUDGETS)[(number + number // NUM_SCHEMAS) % 2]
        constraint = Constraint("json_schema", schema, "free" if number % 3 == 0 else "compact")
        key = f"{backend} {constraint.key}"
        compiled = backends[backend].compile(constraint.kind, constraint.text, constraint.whitespace)
        assert not compiled.left, f"the schema {name} is not exact"
        core.load_grammar(LoadGrammar(key, compiled.backend, compiled.data))
        text = f"Answer with JSON that matches this schema: {json.dumps(schema)}"
        prompt = tokenizer.encode(tokenizer.render_chat([{"role": "user", "content": text}]), add_special_tokens=False)[
            -(core.max_model_len - max_tokens) :
        ]
        way = ways[number % len(ways)]
        guess = json.dumps(dict.fromkeys(schema["properties"], "none")) if "prediction" in way else ""
        prediction = tuple(tokenizer.encode(guess, add_special_tokens=False))
        speculation = SpeculationParams(way, 6, prediction, auto=way == methods, tree=number % 5 != 0)
        params = SamplingParams(seed=number, max_tokens=max_tokens, temperature=1.0)
        found.append(Submit(f"{number} {name}", list(prompt), params, speculation, grammar_key=key))
    return found


def run(core: EngineCore, requests: Sequence[Submit]) -> Score:
    """Answers all requests, sixteen at once, and judges each answer."""
    score, tokenizer, started = Score(), Tokenizer(core.folder), time.perf_counter()
    waiting, token_ids = list(reversed(requests)), {one.request_id: list[int]() for one in requests}
    while waiting or core.has_work:
        while waiting and core.stats().num_running + core.stats().num_waiting < NUM_AT_ONCE:
            core.add(waiting.pop())
        for delta in core.step():
            token_ids[delta.request_id] += delta.token_ids
            if delta.finish_reason is not None:
                ids = [one for one in token_ids[delta.request_id] if one not in core.eos_token_ids]
                figures = delta.figures.speculation if delta.figures is not None else ()
                _judge(score, delta.request_id, tokenizer.decode(ids), delta.finish_reason, figures)
    score.num_tokens = sum(map(len, token_ids.values()))
    score.seconds = time.perf_counter() - started
    return score


def _judge(
    score: Score, request_id: str, text: str, reason: FinishReason, figures: Sequence[SpeculationFigures]
) -> None:
    for one in figures:
        score.accepted[one.method] += one.num_accepted_tokens
    longest = max((len(found) for found in WHITESPACE.findall(text)), default=0)
    score.longest_whitespace = max(score.longest_whitespace, longest)
    if longest > LONGEST_WHITESPACE:
        score.looping.append(f"{request_id}: {text}")
    if reason is FinishReason.LENGTH:
        score.num_cut += 1
        return
    validator = jsonschema.Draft202012Validator(
        schemas()[request_id.partition(" ")[2]], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    try:
        errors = [error.message for error in validator.iter_errors(json.loads(text))]
    except ValueError as error:
        errors = [f"no JSON: {error}"]
    if reason is not FinishReason.STOP or errors:
        score.invalid.append(f"{request_id}: {reason}, {errors}: {text}")
    else:
        score.num_valid += 1


def report(score: Score) -> None:
    """Prints the figures, and every answer that should not be."""
    total = score.num_valid + score.num_cut + len(score.invalid)
    rate = score.num_tokens / score.seconds
    print(f"{total} answers, {score.num_tokens} tokens in {score.seconds:.0f} s ({rate:.0f}/s)")
    print(f"  valid                    {score.num_valid:5}")
    print(f"  cut, and told so         {score.num_cut:5}")
    print(f"  invalid                  {len(score.invalid):5}")
    print(f"  loops on whitespace      {len(score.looping):5}   longest {score.longest_whitespace} characters")
    print(f"  accepted drafted tokens: {', '.join(f'{name} {count}' for name, count in score.accepted.most_common())}")
    for one in (*score.invalid, *score.looping):
        print(f"  {one}")


def main() -> None:
    """Ends with 0 when every answer is as it should be."""
    core = make_core()
    score = run(core, make_requests(core, int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
    report(score)
    sys.exit(0 if score.holds else 1)


if __name__ == "__main__":
    main()
