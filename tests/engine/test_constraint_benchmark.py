"""Measuring what a grammar costs and gives: the ratios are of the same prompts in the same round."""

import msgspec
import pytest
from command import invoke
from tiny_target import counting_text, write_target

from outrider.engine.constraint_benchmark import step_seconds
from outrider.engine.errors import EngineError
from outrider.engine.protocol import TokenDelta
from outrider.engine.speculation_benchmark import Task


def test_the_command_prints_three_ratios(tmp_path_factory, tmp_path) -> None:
    """Of the lines that have a schema, each with the rounds it comes from."""
    target = write_target(tmp_path_factory.mktemp("target"))
    ask = {"messages": [{"role": "user", "content": counting_text(3, 9)}]}
    schema = {"type": "object", "properties": {"age": {"type": "boolean"}}, "required": ["age"]}
    data, output = tmp_path / "data.jsonl", tmp_path / "figures.json"
    data.write_bytes(b"\n".join(map(msgspec.json.encode, [ask, ask | {"schema": schema}])))
    status, printed, errors = invoke(
        *("bench", "constraint", str(target), "--data", str(data), "--output", str(output), "--threads", "1"),
        *("--rounds", "2", "--concurrency", "3", "--max-tokens", "12"),
    )

    assert 0 == status, errors
    for name in ("ngram and suffix / off", "auto: tokens per second", "off: time per token"):
        assert name in printed
    figures = msgspec.json.decode(output.read_bytes())
    assert 0 == figures.pop("num_alike")  # a model that counts writes no JSON by itself
    assert {"free": 2, "auto": 2, "overhead": 2} == {name: len(values) for name, values in figures.items()}
    assert min(figures["free"]) > 1.0  # most of the answer is forced


def test_only_steps_in_which_all_get_a_token_count(make_core, monkeypatch) -> None:
    """Not the one that reads prompts, nor those behind the first end: of steps of 1, 2, 3 ... seconds the third."""
    core, now, count = make_core(), [0.0], [0]
    tasks = [Task("all", (5, 6, 7, 5, 6, 7, 5), 6), Task("all", (9, 8), 4), Task("all", (4, 3, 2), 9)]
    step = core.step

    def slow_step() -> list[TokenDelta]:
        count[0] += 1
        now[0] += count[0]
        return step()

    core.step = slow_step
    monkeypatch.setattr("outrider.engine.constraint_benchmark.time.perf_counter", lambda: now[0])

    assert 3.0 == step_seconds(core, tasks)
    assert 9 == count[0]
    with pytest.raises(EngineError, match="no second token"):
        step_seconds(make_core(), [Task("all", (5, 6), 1)])
