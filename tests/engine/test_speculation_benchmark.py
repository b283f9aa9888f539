"""Measuring speculation: every variant does the same work, and the figures follow from its rounds."""

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from command import invoke
from inline_engine import run_deltas, submit
from random_speculators import write_speculators
from tiny_target import counting_text, write_target

from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.errors import EngineError
from outrider.engine.protocol import SpeculationParams
from outrider.engine.speculation_benchmark import (
    SpeculationRow,
    Task,
    crossover,
    emulate,
    mean_speed_up,
    measure_speculation,
    speed_up,
)

TASKS = [Task("words", (5, 6, 7, 5, 6, 7, 5), 12), Task("words", (9, 8), 5), Task("more", (3, 4, 3, 4), 8)]
NGRAM = SpeculationParams(("ngram",), 4)


def a_row(kind: str, variant: str, concurrency: int, *rates: float) -> SpeculationRow:
    return SpeculationRow(kind, variant, concurrency, num_tokens=12, num_steps=8, rates=rates)


def test_every_variant_answers_every_task(make_core) -> None:
    """With `off` beside them, at most as many at once as asked; the tokens are the same, the steps fewer."""
    core = make_core()
    sizes: list[int] = []
    step = core.step
    core.step = lambda: (sizes.append(len(core._sequences)), step())[1]
    asked = [submit(str(index), list(task.prompt_ids), max_tokens=task.max_tokens) for index, task in enumerate(TASKS)]
    answers = run_deltas(make_core(), asked)
    tasks = [
        replace(task, prediction_ids=tuple(token_id for delta in deltas for token_id in delta.token_ids))
        for task, deltas in zip(TASKS, answers.values(), strict=True)
    ]
    variants = {"ngram": NGRAM, "prediction": SpeculationParams(("ngram", "prediction"), 4)}
    rows = measure_speculation(core, tasks * 2, variants, concurrency=2, num_rounds=3)

    names = [(kind, name) for kind in ("words", "more") for name in ("off", "ngram", "prediction")]
    assert names == [(row.kind, row.variant) for row in rows]
    assert {3} == {len(row.rates) for row in rows}
    assert 2 == max(sizes)
    words = {row.variant: row for row in rows if row.kind == "words"}
    assert {2 * sum(len(task.prediction_ids) for task in tasks[:2])} == {row.num_tokens for row in words.values()}
    assert 1.0 == words["off"].tokens_per_step < 2.0 < words["prediction"].tokens_per_step


def test_a_variant_that_changes_an_answer_is_named(make_core, monkeypatch) -> None:
    """It is no speculation, and its speed is worth nothing."""
    core = make_core()
    add = core.add
    monkeypatch.setattr(
        core,
        "add",
        lambda submit: add(msgspec.structs.replace(submit, prompt_ids=[9]) if submit.speculation.methods else submit),
    )

    with pytest.raises(EngineError, match="speculation `ngram` has changed an answer of kind `words`"):
        measure_speculation(core, TASKS, {"ngram": NGRAM}, concurrency=2, num_rounds=1)


def test_a_prediction_drafts_only_where_there_is_one(make_core) -> None:
    """Other tasks go without."""
    core = make_core()
    add, asked = core.add, []
    core.add = lambda submit: (asked.append(submit), add(submit))[1]
    variants = {"both": SpeculationParams(("prediction", "ngram"), 4)}
    tasks = [replace(TASKS[0], prediction_ids=(2, 3)), TASKS[1]]
    measure_speculation(core, tasks, variants, concurrency=2, num_rounds=1)

    drafted = {tuple(one.prompt_ids): one.speculation for one in asked if one.speculation.methods}
    assert [(("prediction", "ngram"), (2, 3)), (("ngram",), ())] == [
        (drafted[task.prompt_ids].methods, drafted[task.prompt_ids].prediction_ids) for task in tasks
    ]


def test_speed_ups_are_of_the_same_round() -> None:
    """Their median, not the medians' quotient; over kinds the geometric mean; slower is below 1 at some concurrency."""
    rows = [
        *(a_row("a", "off", 1, 10.0, 40.0, 20.0), a_row("a", "ngram", 1, 80.0, 80.0, 10.0)),
        *(a_row("b", "off", 1, 10.0, 10.0, 10.0), a_row("b", "ngram", 1, 80.0, 80.0, 10.0)),
        *(a_row("a", "off", 4, 10.0), a_row("a", "ngram", 4, 9.0)),
        *(a_row("b", "off", 4, 10.0), a_row("b", "ngram", 4, 11.0)),
        *(a_row("a", "off", 9, 10.0), a_row("a", "ngram", 9, 5.0)),
        *(a_row("b", "off", 9, 10.0), a_row("b", "ngram", 9, 5.0)),
    ]

    assert [2.0, 8.0] == [speed_up(rows, row) for row in (rows[1], rows[3])]
    assert 1.5 == rows[0].tokens_per_step
    assert 4.0 == pytest.approx(mean_speed_up(rows, "ngram", 1))
    assert 4 == crossover(rows, "ngram")
    assert crossover(rows[:4], "ngram") is None


def test_an_emulated_model_is_slower_and_the_same(make_core, tiny_folder) -> None:
    """Each pass takes at least its time by its rows; no token changes."""
    (plain,) = measure_speculation(make_core(), TASKS[:1], {}, concurrency=1, num_rounds=1)
    asked: list[int] = []

    def seconds(num_rows: int) -> float:
        asked.append(num_rows)
        return 0.01

    config = EngineConfig(model=str(tiny_folder), num_threads=1)
    slow = EngineCore(config, lambda model: emulate(model, seconds))
    asked.clear()
    started = time.perf_counter()
    (paced,) = measure_speculation(slow, TASKS[:1], {}, concurrency=1, num_rounds=1)

    assert time.perf_counter() - started >= 0.01 * len(asked)
    assert len(TASKS[0].prompt_ids) == asked[0]
    assert plain.num_tokens == paced.num_tokens
    assert 100.0 > paced.rate


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Path:
    """A model that counts, with a chat template."""
    return write_target(tmp_path_factory.mktemp("target"))


def run(*arguments: str) -> tuple[int, str, str]:
    return invoke("bench", "speculation", "--threads", "1", *arguments)


def test_the_command_measures_the_lines_of_a_file(target, tmp_path) -> None:
    """A line that is none is told by its number; a table for each concurrency, and what was measured."""
    ask = {"messages": [{"role": "user", "content": counting_text(3, 9)}], "kind": "counting"}
    schema = {"type": "object", "properties": {"age": {"type": "boolean"}}, "required": ["age"]}
    lines: list[object] = [
        ask,
        {"messages": "none"},
        ask | {"kind": "schema", "schema": schema | {"additionalProperties": False}, "prediction": "{"},
        ask | {"schema": {"type": "nonsense"}},
        ask | {"shcema": {}},
        {"messages": [{"role": "user", "content": "x" * 500}]},
    ]
    data, output = tmp_path / "data.jsonl", tmp_path / "figures.json"
    data.write_bytes(b"\n".join(map(msgspec.json.encode, lines)) + b"\n{broken")
    medusa = write_speculators(target, tmp_path)["medusa"]
    status, printed, errors = run(
        *(str(target), "--data", str(data), "--medusa", medusa, "--emulate", "1.5", "--output", str(output)),
        *("--method", "medusa", "--method", "ngram+grammar", "--requests", "2", "--rounds", "1", "--max-tokens", "12"),
        *("--concurrency", "1", "--concurrency", "3"),
    )

    assert 0 == status, errors
    told = [line.split(":")[1] for line in errors.splitlines() if "left out: " in line]
    assert ["2", "4", "5", "6", "7"] == sorted(told)
    assert 2 == printed.count("emulated step time of 1.5 ms")
    assert "every variant gave the same answers" in printed
    figures = msgspec.json.decode(output.read_bytes())
    assert {"medusa", "ngram+grammar"} == figures["crossovers"].keys()
    found = {(row["kind"], row["variant"], row["concurrency"]) for row in figures["rows"]}
    assert {
        (kind, variant, count)
        for kind in ("counting", "schema")
        for variant in ("off", "medusa", "ngram+grammar")
        for count in (1, 3)
    } == found
    per_step = {(row["kind"], row["variant"]): row["tokens_per_step"] for row in figures["rows"]}
    assert per_step["schema", "ngram+grammar"] > 1.5


def test_the_command_measures_the_recipe_by_itself(tmp_path) -> None:
    """Every held-out kind, with what is loaded."""
    status, printed, errors = run(
        *("--method", "auto", "--concurrency", "1", "--requests", "1", "--rounds", "1", "--max-tokens", "8")
    )

    assert 0 == status, errors
    for kind in ("extraction", "edit", "tool call", "passage question", "code", "talk", "geometric mean"):
        assert kind in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--method", "ngram+lookahead"],
            "--method ngram+lookahead: `lookahead` is not loaded: use auto, or of grammar, ",
        ),
        (["--emulate", "0"], "--emulate 0: milliseconds must be above 0"),
        (["--emulate", "llama-9b"], "there is no shape `llama-9b`"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, said) -> None:
    """Without a traceback."""
    status, _, errors = run(*arguments)

    assert 1 == status
    assert said in errors.splitlines()[-1]
