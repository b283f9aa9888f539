"""Prompts and request bodies."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import jsonschema
import msgspec
import pytest

from outrider.cli.loadtest_tasks import KINDS, demo_tasks
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.workload import Sample, load_workload, request_body

CONFIG = LoadtestConfig(base_url="http://127.0.0.1:8000", num_prompts=16)
SAMPLE = Sample.from_prompt("Hello", max_tokens=8, response_format={"type": "json_object"})


def body_of(sample: Sample = SAMPLE, **options: object) -> dict[str, object]:
    return msgspec.json.decode(request_body(sample, replace(CONFIG, **options), "m"))


def write_lines(folder: Path, *lines: str) -> LoadtestConfig:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(lines))
    return replace(CONFIG, dataset_name="jsonl", dataset_path=path, num_prompts=len(lines))


def test_the_demo_brings_six_kinds_of_tasks() -> None:
    """In turn, new ones each, the same with the same seed; extraction has a schema and tool calls have tools."""
    found = list(islice(demo_tasks()(1), 24))

    assert list(KINDS) == [sample.kind for sample in found[:6]]
    assert len({str(sample.messages) for sample in found}) > 20
    assert found == list(islice(demo_tasks()(1), 24))
    assert {"extraction"} == {sample.kind for sample in found if sample.schema is not None}
    assert {"tool call"} == {sample.kind for sample in found if sample.tools}
    for sample in found:
        jsonschema.Draft202012Validator.check_schema(sample.schema or {})
        assert sample.messages[-1]["role"] == "user"


def test_a_kind_of_task_can_be_chosen() -> None:
    """One that is none is refused by name."""
    assert {"edit", "talk"} == {sample.kind for sample in islice(demo_tasks(["edit", "talk"])(0), 8)}
    with pytest.raises(InvalidOptionError, match="--demo-kind poetry"):
        demo_tasks(["poetry"])


def test_warm_ups_are_other_prompts_than_the_measured() -> None:
    """Otherwise a prefix cache would know the measured ones."""
    workload = load_workload(replace(CONFIG, num_warmups=4))
    prompts = [sample.messages[0]["content"] for sample in workload.samples]
    warmups, samples = prompts[: workload.num_warmups], prompts[workload.num_warmups :]

    assert (4, 16, 0) == (len(warmups), len(samples), workload.num_repeated)
    assert set(warmups).isdisjoint(samples)


def test_a_chat_body_carries_messages_and_schema() -> None:
    """The usage chunk is asked for: output tokens come from it."""
    expected = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_completion_tokens": 8,
        "response_format": {"type": "json_object"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    assert expected == body_of()


def test_a_completion_body_carries_a_prompt() -> None:
    """The completions API has no response_format."""
    expected = {
        "model": "m",
        "prompt": "Hello",
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    assert expected == body_of(endpoint="/v1/completions")


def test_options_become_request_fields() -> None:
    """Fields that were not asked for are absent."""
    body = body_of(temperature=0.0, ignore_eos=True)

    assert (0.0, True) == (body["temperature"], body["ignore_eos"])


def test_extra_body_takes_a_field_away() -> None:
    """For servers that refuse what they do not know."""
    assert "temperature" not in body_of(temperature=0.0, extra_body={"temperature": None})


def test_extra_body_wins() -> None:
    """Each request carries it."""
    body = body_of(temperature=0.0, extra_body={"temperature": 0.5, "speculation": {"methods": ["ngram"]}})

    assert (0.5, {"methods": ["ngram"]}) == (body["temperature"], body["speculation"])


def test_random_prompts_have_the_length_asked_for() -> None:
    """Lengths are forced with ignore_eos, as in vLLM."""
    config = replace(CONFIG, dataset_name="random", random_input_len=100, random_output_len=20)
    sample = load_workload(config).samples[0]
    body = msgspec.json.decode(request_body(sample, config, "m"))

    assert len(str(sample.messages[0]["content"]).split()) == 100
    assert (20, True) == (body["max_completion_tokens"], body["ignore_eos"])


def test_jsonl_lines_are_read(tmp_path: Path) -> None:
    """A prompt or messages, with a length and fields of its own; empty lines are skipped."""
    config = write_lines(
        tmp_path,
        '{"prompt": "a", "output_tokens": 5, "extra_body": {"seed": 1}}',
        "",
        '{"messages": [{"role": "system", "content": "b"}]}',
    )
    workload = load_workload(replace(config, num_prompts=3))

    assert workload.samples[0] == Sample(
        messages=[{"role": "user", "content": "a"}], max_tokens=5, extra_body={"seed": 1}, kind="jsonl"
    )
    assert workload.samples[1] == Sample(messages=[{"role": "system", "content": "b"}], kind="jsonl")
    assert (workload.samples[0], 1) == (workload.samples[2], workload.num_repeated)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1"),
        ('{"promt": "a"}', "promt"),
        ("{}", "either prompt or messages"),
        ('{"prompt": 1}', "line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    """A field that is misspelt would otherwise be ignored in silence."""
    with pytest.raises(InvalidOptionError, match=message):
        load_workload(write_lines(tmp_path, line))


def test_messages_need_the_chat_endpoint(tmp_path: Path) -> None:
    """A prompt cannot be made of them here."""
    config = write_lines(tmp_path, '{"messages": [{"role": "user", "content": "a"}]}')

    with pytest.raises(InvalidOptionError, match="/v1/chat/completions"):
        load_workload(replace(config, endpoint="/v1/completions"))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_dataset_is_refused(tmp_path: Path, content: str) -> None:
    """There is nothing to repeat."""
    with pytest.raises(InvalidOptionError, match="no lines"):
        load_workload(write_lines(tmp_path, content))


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "localhost:8000"},
        {"num_prompts": 0},
        {"max_concurrency": 0},
        {"num_warmups": -1},
        {"request_rate": 0.0},
        {"request_rate": float("nan")},
        {"burstiness": 0.0},
        {"dataset_name": "jsonl"},
        {"dataset_path": Path("prompts.jsonl")},
        {"metric_percentiles": (101.0,)},
        {"percentile_metrics": ("latency",)},
    ],
)
def test_an_impossible_option_is_refused(options: dict[str, object]) -> None:
    """Before anything is sent."""
    with pytest.raises(
        InvalidOptionError, match=next(iter(options)).replace("_", "-").replace("dataset-name", "dataset-path")
    ):
        replace(CONFIG, **options)
