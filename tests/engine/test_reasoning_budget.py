"""The budget of a section of reasoning, in the engine itself and under speculation."""

import pytest
from inline_engine import run_deltas, submit
from msgspec.structs import replace

from outrider.demo import target_path
from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.protocol import LoadGrammar
from outrider.engine.tokenizer import Tokenizer
from outrider.structured.backends import Backends
from outrider.structured.constraint import Constraint
from outrider.structured.tools.answer import answer_constraint
from outrider.structured.vocabulary import tokenizer_info

CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
REPEAT = "Repeat this text: the red fox saw the red fox, and the red fox saw the blue bird near the red fox."


@pytest.fixture(scope="module")
def core() -> EngineCore:
    return EngineCore(EngineConfig(model=str(target_path()), dtype="float32", num_threads=1))


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_reasoning_ends_at_its_budget_whatever_is_drafted(core, temperature) -> None:
    """To the token; drafts that reach over the end change nothing, and the answer behind it is constrained."""
    tokenizer = Tokenizer(target_path())
    end = tokenizer.encode("</think>", add_special_tokens=False)[0]
    backends = Backends(tokenizer_info(target_path(), core.vocab_size, (2,)))
    prompt = tokenizer.encode(tokenizer.render_chat([{"role": "user", "content": REPEAT}]) + REPEAT[18:60] + "<think>")
    places, accepted = [], 0
    for budget in (0, 1, 7, 20):
        constraint = answer_constraint(Constraint("json_schema", CITY), None, "open", budget)
        assert constraint is not None
        compiled = backends.compile(constraint.kind, constraint.text)
        core.load_grammar(LoadGrammar(constraint.key, compiled.backend, compiled.data))
        answers = []
        for methods in ((), ("ngram",), ("ngram", "suffix", "grammar")):
            asked = submit("r", prompt, methods=methods, max_tokens=80, temperature=temperature, seed=budget)
            deltas = run_deltas(core, [replace(asked, grammar_key=constraint.key)])["r"]
            answers.append([token for delta in deltas for token in delta.token_ids])
            figures = deltas[-1].figures
            accepted += figures.whole_drafts.num_accepted_tokens if figures.whole_drafts else 0
        assert answers[0] == answers[1] == answers[2]
        places.append(answers[0].index(end))
        assert tokenizer.decode(answers[0]).split("</think>")[1].strip() in ('{"city":"Paris"}', '{"city":"Rome"}')

    assert [0, 1, 7, 20] == places
    assert accepted > 0
