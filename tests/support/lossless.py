"""Requests of every kind, what engines answer to them, and whose answers differ."""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from inline_engine import run_deltas
from speculated_target import EOS, VOCAB_SIZE

from outrider.engine.core import EngineCore
from outrider.engine.protocol import FinishReason, LoadGrammar, SamplingParams, SpeculationParams, Submit, TokenLogprobs
from outrider.structured.backends import Backends
from outrider.structured.constraint import Constraint
from outrider.structured.vocabulary import tokenizer_info

METHODS = ("grammar", "prediction", "ngram", "suffix", "medusa", "draft", "eagle")
# Off, then each proposer, every pair and `auto`, once as trees and once as chains: 59.
SPECULATIONS = (
    SpeculationParams(),
    *(
        SpeculationParams(methods, 6, auto=methods == METHODS, tree=tree)
        for tree in (True, False)
        for methods in (*((name,) for name in METHODS), *itertools.combinations(METHODS, 2), METHODS)
    ),
)
FEW_TOKENS = dict.fromkeys(range(10, 14), 9.0)
# The counts of these two have no common divisor, nor one with 59: a run of requests goes through all combinations.
DRAWS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 0.7, "top_k": 20, "typical_p": 0.9},
    {"temperature": 1.3, "min_p": 0.05},
    {"temperature": 0.0, "num_logprobs": 2},
    {"temperature": 1.3, "top_k": 50, "top_p": 0.95, "num_logprobs": 1, "processed_logprobs": True},
)
DEMANDS: tuple[dict[str, Any], ...] = (
    {},
    {"frequency_penalty": 0.9, "presence_penalty": 0.5},
    {"repetition_penalty": 1.3, "num_logprobs": 0},
    {"grammar": 0},
    {"logit_bias": FEW_TOKENS, "stop_token_ids": (40,)},
    {"logit_bias": FEW_TOKENS, "bad_words": ((10, 11), (12,), (11, 13, 11)), "num_logprobs": 3},
    {"logit_bias": {EOS: 5.0}, "min_tokens": 12, "ignore_eos": False},
    {"stop_token_ids": tuple(range(3, VOCAB_SIZE, 25)), "min_tokens": 4},
    {"grammar": 1, "frequency_penalty": 0.3},
    {"num_prompt_logprobs": 1},
    {"allowed_token_ids": tuple(range(20, 60)), "repetition_penalty": 1.1, "presence_penalty": 0.4},
)
SCHEMAS = (
    {
        "type": "object",
        "properties": {
            "name": {"enum": ["Ada", "Adele", "Bob"]},
            "age": {"type": "integer"},
            "ok": {"type": "boolean"},
        },
        "required": ["name", "age", "ok"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"enum": ["quick", "quiet", "brown", {"lazy": "dog"}]}, "minItems": 3, "maxItems": 9},
)
NUM_COMMON = 70  # tokens that half of the prompts begin with: two blocks


@dataclass(frozen=True)
class Answer:
    """All that a client sees of one."""

    token_ids: list[int]
    logprobs: list[TokenLogprobs]
    prompt_logprobs: list[TokenLogprobs]
    finish_reason: FinishReason | None
    error: str | None


def make_requests(numbers: Iterable[int], folder: str) -> list[Submit]:
    """Requests by their numbers, without speculation; the same number is the same request."""
    keys = [grammar.key for grammar in compile_grammars(folder)]
    return [_request(number, keys) for number in numbers]


def _request(number: int, grammar_keys: Sequence[str]) -> Submit:
    # Every eighth has the prompt of the one before, and another seed: as with `n=2`.
    generator = random.Random(number - 1 if number % 8 == 7 else number)
    own = [generator.randrange(3, VOCAB_SIZE) for _ in range(generator.randint(2, 24))]
    common = [random.Random(0).randrange(3, VOCAB_SIZE)] + [3 + place * 37 % 350 for place in range(NUM_COMMON - 1)]
    demand = dict(DEMANDS[number % len(DEMANDS)])
    grammar = demand.pop("grammar", None)
    options = {"max_tokens": 28, "ignore_eos": True, **DRAWS[number % len(DRAWS)], **demand}
    return Submit(
        request_id=f"r{number}",
        prompt_ids=(common if number // 2 % 2 else []) + own * (1 + number % 2),
        params=SamplingParams(seed=number, **options),
        grammar_key=None if grammar is None else grammar_keys[grammar],
    )


def speculating(items: Sequence[Submit], plain: dict[str, Answer]) -> list[Submit]:
    """The same requests, each with the speculation that is its number's turn, and a prediction that is half right."""
    found = []
    for item in items:
        number = int(item.request_id[1:])
        found.append(with_speculation(item, SPECULATIONS[number % len(SPECULATIONS)], plain))
    return found


def with_speculation(item: Submit, speculation: SpeculationParams, plain: dict[str, Answer]) -> Submit:
    """The same request with a speculation, for which its plain answer is known."""
    if "prediction" in speculation.methods:
        right = plain[item.request_id].token_ids
        ids = [token if place % 7 < 5 else 3 for place, token in enumerate(right)]
        speculation = msgspec.structs.replace(speculation, prediction_ids=tuple(ids))
    return msgspec.structs.replace(item, speculation=speculation)


def answers(core: EngineCore, items: Sequence[Submit]) -> dict[str, Answer]:
    """Runs all requests to their end, checking the engine's records after every step."""
    for grammar in compile_grammars(core.folder):
        core.load_grammar(grammar)
    return {
        name: Answer(
            [token for delta in deltas for token in delta.token_ids],
            [one for delta in deltas for one in delta.logprobs],
            [one for delta in deltas for one in delta.prompt_logprobs],
            deltas[-1].finish_reason,
            deltas[-1].error,
        )
        for name, deltas in run_deltas(core, list(items)).items()
    }


def differing(plain: dict[str, Answer], drafted: dict[str, Answer]) -> list[str]:
    """The requests whose answers are not the same, bit for bit: where speculation is lossless, none."""
    assert plain.keys() == drafted.keys()
    return [name for name, answer in plain.items() if answer != drafted[name]]


_compiled: dict[str, list[LoadGrammar]] = {}


def compile_grammars(folder: str) -> list[LoadGrammar]:
    """The grammars of SCHEMAS for a target's tokenizer."""
    if folder not in _compiled:
        info = tokenizer_info(folder, VOCAB_SIZE, (EOS,))
        backends = Backends(info)
        _compiled[folder] = []
        for schema in SCHEMAS:
            constraint = Constraint("json_schema", schema)
            compiled = backends.compile(constraint.kind, constraint.text)
            _compiled[folder].append(LoadGrammar(constraint.key, compiled.backend, compiled.data))
    return _compiled[folder]
