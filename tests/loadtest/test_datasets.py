"""Datasets, traces, mixtures, and what the options say of every request."""

import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from outrider.cli.loadtest_tasks import demo_tasks
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.job import Turn
from outrider.loadtest.parse import parse_counts, parse_pairs, read_keys, read_schema
from outrider.loadtest.sample import Sample
from outrider.loadtest.weights import parse_weighted
from outrider.loadtest.workload import load_workload, make_offer

CONFIG = LoadtestConfig(base_url="http://127.0.0.1:8000", num_prompts=16)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def written(folder: Path, name: str, *lines: object, **options: object) -> LoadtestConfig:
    path = folder / "data"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return replace(CONFIG, dataset_name=name, dataset_path=path, num_prompts=None, **options)


def prompts(config: LoadtestConfig) -> list[str]:
    return [sample.messages[0]["content"] for sample in load_workload(config).samples]


def bodies(config: LoadtestConfig) -> list[dict[str, object]]:
    jobs = make_offer(config, load_workload(config, demo_tasks()), "m", None).jobs
    return [msgspec.json.decode(job.body) for job in jobs]


def test_random_lengths_lie_within_their_range() -> None:
    """Behind a prefix that all share."""
    config = replace(CONFIG, num_prompts=200, random_input_len=20, random_range_ratio=0.5, random_prefix_len=4)
    lengths = [len(prompt.split()) - 4 for prompt in prompts(config)]

    assert (10, 30) == (min(lengths), max(lengths))
    assert len({tuple(prompt.split()[:4]) for prompt in prompts(config)}) == 1


def test_prefixes_repeat_and_what_follows_does_not() -> None:
    """For measuring a prefix cache."""
    config = replace(CONFIG, num_prompts=100, dataset_name="prefix_repetition", prefix_repetition_num_prefixes=3)
    split = [(tuple(prompt.split()[:256]), tuple(prompt.split()[256:])) for prompt in prompts(config)]

    assert (3, 100) == (len({prefix for prefix, _ in split}), len({rest for _, rest in split}))


def test_a_mixture_keeps_its_weights() -> None:
    """Three of four from the demo, each dataset in its own order."""
    config = replace(CONFIG, num_prompts=400, dataset_name="mix", mix=parse_weighted("--mix", "demo=3,random=1"))
    kinds = Counter(sample.kind == "random" for sample in load_workload(config, demo_tasks()).samples)

    assert kinds[True] == pytest.approx(100, abs=30)


def test_sharegpt_asks_what_people_asked(tmp_path: Path) -> None:
    """The first question, or with --multi-turn all of them, each after a pause of its own."""
    said = [{"from": who, "value": what} for who, what in (("human", "A"), ("gpt", "B" * 40), ("human", "C"))]
    config = written(tmp_path, "sharegpt", [{"conversations": said}, {"conversations": said[1:]}])
    single = load_workload(replace(config, num_prompts=1)).samples[0]
    several = load_workload(replace(config, num_prompts=1, multi_turn=True, think_time=2.0)).samples[0]

    assert single == Sample.from_prompt("A", 11, kind="sharegpt")
    assert [turn.text for turn in several.turns] == ["C"]
    assert several.turns[0].think_time > 0


def test_a_line_may_be_a_conversation_with_schema_and_tools(tmp_path: Path) -> None:
    """All that a jsonl line can say."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    config = written(tmp_path, "jsonl", {"prompt": "a", "turns": ["b"], "schema": SCHEMA, "tools": [tool], "kind": "k"})
    sample = load_workload(replace(config, num_prompts=1)).samples[0]

    assert ((Turn("b"),), SCHEMA, [tool], "k") == (sample.turns, sample.schema, sample.tools, sample.kind)
    assert sample.response_format["json_schema"]["schema"] == SCHEMA


def test_a_mooncake_trace_comes_at_its_times_with_its_common_beginnings(tmp_path: Path) -> None:
    """Milliseconds, chunks of 512 tokens, sorted; equal hash ids are equal words."""
    lines = [
        {"timestamp": 3000, "input_length": 600, "output_length": 9, "hash_ids": [1, 2]},
        {"timestamp": 1000, "input_length": 700, "output_length": 5, "hash_ids": [1, 3]},
    ]
    workload = load_workload(written(tmp_path, "mooncake", *lines))
    first, second = (sample.messages[0]["content"].split() for sample in workload.samples)

    assert workload.offsets == (0.0, 2.0)
    assert [5, 9] == [sample.max_tokens for sample in workload.samples]
    assert (700, 600, first[:512]) == (len(first), len(second), second[:512])
    assert first[512:600] != second[512:600]


def test_a_simple_trace_brings_its_own_prompts(tmp_path: Path) -> None:
    """Lines of jsonl with a timestamp in seconds."""
    config = written(
        tmp_path, "jsonl", {"prompt": "a", "timestamp": 7.5}, {"prompt": "b", "timestamp": 7}, self_timed=True
    )

    assert (load_workload(config).offsets, prompts(config)) == ((0.0, 0.5), ["b", "a"])


@pytest.mark.parametrize(
    ("name", "line", "options", "message"),
    [
        ("mooncake", "{", {}, "line 2"),
        ("mooncake", '{"timestamp": 1, "input_length": 5}', {}, "line 2.*output_length"),
        ("mooncake", '{"timestamp": 1, "input_length": 0, "output_length": 1}', {}, "line 2.*at least 1"),
        ("timed_trace", '{"timestamp": "now", "input_length": 5, "output_length": 1}', {}, "line 2.*timestamp"),
        ("jsonl", '{"prompt": "a"}', {"self_timed": True}, "line 2.*timestamp"),
        ("jsonl", '{"prompt": "a", "timestamp": 1, "schema": {"type": 5}}', {"self_timed": True}, "line 2.*schema"),
    ],
)
def test_a_line_that_is_none_is_named(
    tmp_path: Path, name: str, line: str, options: dict[str, object], message: str
) -> None:
    """Before anything is sent; blank lines are nothing."""
    with pytest.raises(InvalidOptionError, match=message):
        load_workload(written(tmp_path, name, "", line, **options))


@pytest.mark.parametrize("content", ["{}", "[]", '[{"conversations": [{"from": "gpt", "value": "a"}]}]', "no"])
def test_a_sharegpt_file_without_dialogues_is_refused(tmp_path: Path, content: str) -> None:
    """The file is named."""
    with pytest.raises(InvalidOptionError, match=f"--dataset-path {tmp_path}"):
        load_workload(replace(written(tmp_path, "sharegpt", content), num_prompts=1))


def test_requests_differ_by_weight() -> None:
    """Speculation, priority and key; `a+b` is the long form."""
    config = replace(
        CONFIG,
        num_prompts=300,
        speculation=parse_weighted("--speculation", "off=2,ngram+suffix"),
        priority=parse_weighted("--priority", "0,5"),
        api_keys=parse_weighted("--api-keys", "x=9,y"),
    )
    sent = bodies(config)
    keys = Counter(job.headers["Authorization"] for job in make_offer(config, load_workload(config), "m", None).jobs)
    asked = Counter(str(body["speculation"]) for body in sent)

    assert asked["off"] == pytest.approx(200, abs=40)
    assert asked[str({"methods": ["ngram", "suffix"]})] == 300 - asked["off"]
    assert {0, 5} == {body["priority"] for body in sent}
    assert keys["Bearer x"] > 5 * keys["Bearer y"] > 0
    assert all(body["return_metrics"] for body in sent)


def test_a_schema_for_all_is_asked_for_by_its_part() -> None:
    """And every answer is held to it."""
    config = replace(CONFIG, num_prompts=200, schema=SCHEMA, structured_output_ratio=0.25)
    samples = load_workload(config).samples

    assert all(sample.schema == SCHEMA for sample in samples)
    assert sum(sample.response_format is not None for sample in samples) == pytest.approx(50, abs=20)


def test_stages_bring_as_many_prompts_as_arrive() -> None:
    """--num-prompts is then the most."""
    config = replace(CONFIG, num_prompts=None, stages=load_stages("10:1,20:1"))

    assert len(load_workload(config).samples) == pytest.approx(30, abs=15)
    assert len(load_workload(replace(config, num_prompts=5)).samples) == 5


def load_stages(text: str) -> tuple:
    from outrider.loadtest.arrival import parse_stages

    return parse_stages(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"request_rate": 1.0, "stages": ("x",)}, "--request-rate and --stages"),
        ({"dataset_name": "mix"}, "--mix"),
        ({"priority": parse_weighted("--priority", "high")}, "--priority high"),
        ({"self_timed": True}, "--self-timed"),
        ({"processes": 0}, "--processes"),
        ({"structured_output_ratio": 2.0}, "--structured-output-ratio"),
        ({"random_range_ratio": 1.0}, "--random-range-ratio"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, object], message: str) -> None:
    """By name."""
    with pytest.raises(InvalidOptionError, match=message):
        replace(CONFIG, **options)


@pytest.mark.parametrize("text", ["", "a=0", "a=-1", "a=x", "a=inf"])
def test_weights_that_are_none_are_refused(text: str) -> None:
    """The option is named."""
    with pytest.raises(InvalidOptionError, match="--speculation"):
        parse_weighted("--speculation", text)


def test_options_that_are_text_are_refused_by_name(tmp_path: Path) -> None:
    """What stands in files too."""
    (tmp_path / "schema").write_text('{"type": 1}')
    for refused in (
        lambda: parse_pairs("--header", ["a"]),
        lambda: parse_counts("--sweep-concurrency", "1,0"),
        lambda: read_schema(tmp_path / "schema"),
        lambda: read_schema(tmp_path / "absent"),
        lambda: read_keys(tmp_path / "absent"),
    ):
        with pytest.raises(InvalidOptionError, match=r"^--"):
            refused()


def test_demo_tasks_are_other_ones_with_another_seed() -> None:
    """Rounds of a measurement do not repeat each other's prompts."""
    first, second = ([str(each.messages) for each in islice(demo_tasks()(seed), 12)] for seed in (0, 1))

    assert len(set(first) & set(second)) < 4
