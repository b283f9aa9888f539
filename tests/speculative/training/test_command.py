"""`outrider train` as a user runs it."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from command import invoke
from server import COMMAND
from tiny_target import counting_text, write_target

PLAN = ["--batch-tokens", "128", "--threads", "1"]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160", "PYTHONUNBUFFERED": "1"},
    )


def run(*arguments: str | Path) -> tuple[int, str, str]:
    return invoke("train", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty dialogues that count, and two lines that are none."""
    path = tmp_path_factory.mktemp("data") / "counting.jsonl"
    lines = []
    for number in range(20):
        question, answer = counting_text(5 * number, 9), counting_text(5 * number + 9, 16)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"kind": f"kind {number % 2}", "messages": messages}))
    path.write_text("\n".join([*lines[:3], "{broken", *lines[3:], '{"messages": 1}']) + "\n")
    return path


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, target_folder: Path, data: Path) -> Path:
    """An EAGLE-3 head that the command trained."""
    out = tmp_path_factory.mktemp("head")
    code, printed, err = run("eagle3", "--target", target_folder, "--data", data, "--out", out, "--epochs", "30", *PLAN)

    assert code == 0, err
    assert "acceptance" in printed
    assert "counting.jsonl:4: left out: " in err
    assert "counting.jsonl:22: left out: " in err
    return out


def test_training_leaves_a_checkpoint_with_its_card_and_its_figures(head: Path) -> None:
    """And nothing else: the state of a finished run is of no use."""
    assert {"README.md", "config.json", "metrics.jsonl", "model.safetensors"} == {p.name for p in head.iterdir()}
    card = (head / "README.md").read_text()
    assert all(word in card for word in ("base_model: ", "counting.jsonl, 20 samples", "seed 0"))
    figures = [json.loads(line) for line in (head / "metrics.jsonl").read_text().splitlines()]
    assert figures[-1]["loss"] < figures[0]["loss"]


def test_evaluation_prints_a_table_by_kind(target_folder: Path, data: Path, head: Path, tmp_path: Path) -> None:
    """A trained head emits more than one token a step; counting repeats nothing that n-grams could find."""
    figures = tmp_path / "figures.json"
    code, printed, err = run(
        "evaluate", "--target", target_folder, "--data", data, "--eagle3", head, "--output", figures, "--threads", "1"
    )

    assert code == 0, err
    assert all(word in printed for word in ("kind 0", "kind 1", "overall", "ngram (k=4)", "eagle3 (k=4)"))
    assert json.loads(figures.read_text())["eagle3 (k=4)"]["overall"]["tokens_per_step"] > 1.5


def test_a_target_that_does_not_fit_is_refused(head: Path, data: Path, tmp_path: Path) -> None:
    """Before anything is measured, naming both sizes."""
    other = write_target(tmp_path / "wide", hidden_size=64)

    code, _, err = run("evaluate", "--target", other, "--data", data, "--eagle3", head)

    assert code == 1
    assert f"the speculator `{head}` has hidden size 32, the target `{other}` has 64" in err


def test_a_draft_of_another_tokenizer_is_refused(target_folder: Path, data: Path) -> None:
    """The embedded model's vocabulary is not the tiny target's."""
    from outrider.demo import target_path

    code, _, err = run("evaluate", "--target", target_folder, "--data", data, "--draft", target_path())

    assert code == 1
    assert "draft model" in err
    assert str(target_path()) in err
    assert str(target_folder) in err


def test_an_interrupted_run_goes_on(target_folder: Path, tmp_path: Path) -> None:
    """With the target's answers of the first part; the same command is all it takes."""
    command = (
        "medusa",
        "--target",
        target_folder,
        "--self-generate",
        "8",
        "--out",
        tmp_path,
        "--epochs",
        "2000",
        *PLAN,
    )
    process = start(*command)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    answers = (tmp_path / "samples.jsonl").read_bytes()

    code, printed, _ = run(*command, "--minutes", "0.01")

    assert process.returncode == 130
    assert "the same command goes on" in err
    assert code == 0
    assert "going on after step" in printed
    assert answers == (tmp_path / "samples.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eagle3", "--out", "x"], "pass --data FILE, --self-generate N, or both"),
        (["medusa", "--out", "x", "--target", "/nowhere", "--self-generate", "2"], "`/nowhere` is not a checkpoint"),
        (["draft", "--out", "x", "--hidden-size", "96", "--self-generate", "2"], "not a multiple of 64"),
        (["medusa", "--out", "x", "--data", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["evaluate", "--output", "/nowhere/x.json"], "no folder `/nowhere`"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, with what to change."""
    monkeypatch.chdir(tmp_path)

    code, _, err = run(*arguments)

    assert code == 1
    assert message in err
    assert err.count("\n") == 1
