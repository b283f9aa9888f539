"""The engine without a model: what tests and measurements may rely on."""

import subprocess
import sys
from collections.abc import Sequence

import pytest
from inline_engine import run, run_deltas

from outrider.demo import target_path
from outrider.engine.errors import LoadError, MissingGrammarError
from outrider.engine.null import NullCore
from outrider.engine.protocol import FinishReason, LoadGrammar, SamplingParams, Submit
from outrider.engine.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def core() -> NullCore:
    return NullCore(target_path())


def submit(seed: int, output_ids: Sequence[int] = (), **options) -> Submit:
    params = SamplingParams(seed=seed, max_tokens=10)
    return Submit(request_id="r", prompt_ids=[5, 6, 7], params=params, output_ids=[*output_ids], **options)


def test_tokens_depend_on_seed_and_position_alone(core) -> None:
    """The same request gives the same answer, another seed another one."""
    first, again, other = (run(core, [submit(seed)])["r"] for seed in (1, 1, 2))

    assert (10, first) == (len(again), again)
    assert first != other


def test_an_answer_goes_on_from_where_another_engine_left_it(core) -> None:
    """Whatever the place, the rest is the rest."""
    whole = run(core, [submit(3)])["r"]

    assert [whole[place:] for place in range(10)] == [run(core, [submit(3, whole[:place])])["r"] for place in range(10)]


def test_sixteen_tokens_come_in_four_frames(core) -> None:
    """What the overhead of a gateway is measured with."""
    request = Submit(request_id="r", prompt_ids=[5], params=SamplingParams(seed=0, max_tokens=16))
    deltas = run_deltas(core, [request])["r"]

    assert [4, 4, 4, 4] == [len(delta.token_ids) for delta in deltas]
    assert [None, None, None, FinishReason.LENGTH] == [delta.finish_reason for delta in deltas]


def test_its_tokens_are_words(core) -> None:
    """So every frame shows text."""
    tokens = run(core, [submit(4)])["r"]
    tokenizer = Tokenizer(target_path())

    assert all(tokenizer.decode([token]).strip().isalpha() for token in tokens)


def test_a_grammar_is_asked_for_as_a_real_engine_does(core) -> None:
    """Unknown until it is loaded."""
    with pytest.raises(MissingGrammarError):
        core.add(submit(5, grammar_key="g"))
    core.load_grammar(LoadGrammar("g", "any", b""))

    assert 10 == len(run(core, [submit(5, grammar_key="g")])["r"])


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path) -> None:
    """It names the folder."""
    with pytest.raises(LoadError, match=str(tmp_path)):
        NullCore(tmp_path)


def test_neither_null_engine_nor_gateway_imports_torch() -> None:
    """Both are there before a model would be, and small."""
    modules = "outrider.cli.main, outrider.cli.serve, outrider.engine.null, outrider.engine.process"
    code = f"import sys, outrider.gateway.process, {modules}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()
