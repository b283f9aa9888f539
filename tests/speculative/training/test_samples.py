"""Reading training data: what is learned, and what happens to lines that are no samples."""

import json
from pathlib import Path

import pytest

from outrider.speculative.training.answers import ANSWERS_FILE, answer
from outrider.speculative.training.samples import BadLine, Prompt, Reader, Sample
from outrider.speculative.training.target import Target

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Bye"},
]


def learned_text(sample: Sample, target: Target) -> str:
    return target.tokenizer.decode([t for t, flag in zip(sample.token_ids, sample.learned, strict=True) if flag])


def read(path: Path, target: Target, max_length: int = 128) -> tuple[list[Sample], list[BadLine]]:
    bad: list[BadLine] = []
    return Reader(target.tokenizer).samples(path, max_length, bad.append), bad


def parse(record: dict, target: Target) -> Sample:
    (sample,) = Reader(target.tokenizer).parse_sample(record)
    return sample


def test_only_answers_are_learned(target: Target) -> None:
    """Each answer with its end; never what the user or the system says."""
    sample = parse({"messages": CHAT}, target)

    assert learned_text(sample, target) == "Hello<end>Bye<end>"


def test_the_ids_are_those_that_a_server_would_have(target: Target) -> None:
    """The whole dialogue renders as the chat template writes it."""
    sample = parse({"messages": CHAT}, target)
    rendered = target.tokenizer.apply_chat_template(CHAT, tokenize=False)

    assert target.tokenizer.encode(rendered, add_special_tokens=False) == sample.token_ids


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"prompt": "<user>Hi<end><assistant>", "completion": "Hello"},
        {"text": "Hello<end>"},
    ],
)
def test_other_formats_are_read(record: dict, target: Target) -> None:
    """ShareGPT's turns, prompt and completion, and plain text."""
    assert learned_text(parse(record, target), target) == "Hello<end>"


def test_answers_that_the_template_rewrites_stand_alone(target: Target) -> None:
    """Some templates drop the thoughts of earlier turns: each answer is learned as it was while it was the last."""
    tokenizer = type(target.tokenizer).from_pretrained(target.name)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>"
        "{{ m.content if loop.last or m.role != 'assistant' else 'cut' }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )

    samples = Reader(tokenizer).parse_sample({"messages": CHAT})

    assert sorted(learned_text(sample, target) for sample in samples) == ["Bye<end>", "Hello<end>"]


def test_nothing_behind_the_end_of_an_answer_is_learned(target: Target) -> None:
    """Templates write a new line there, which no server generates."""
    tokenizer = type(target.tokenizer).from_pretrained(target.name)
    tokenizer.chat_template = target.tokenizer.chat_template.replace("<end>", "<end>\n")

    (sample,) = Reader(tokenizer).parse_sample({"messages": CHAT})

    assert learned_text(sample, target) == "Hello<end>Bye<end>"


def test_arguments_reach_the_template(target: Target) -> None:
    """Such as whether to think."""
    tokenizer = type(target.tokenizer).from_pretrained(target.name)
    tokenizer.chat_template = "{{ mood }}" + target.tokenizer.chat_template

    prompt = Reader(tokenizer, {"mood": "calm"}).parse_prompt({"messages": CHAT})

    assert target.tokenizer.decode(prompt.token_ids).startswith("calm<system>")


def test_text_parts_and_call_arguments_are_what_templates_expect(target: Target) -> None:
    """Parts joined, arguments parsed."""
    tokenizer = type(target.tokenizer).from_pretrained(target.name)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.arguments.city }}{% endfor %}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    call = {"type": "function", "function": {"name": "f", "arguments": '{"city":"Oslo"}'}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]

    (sample,) = Reader(tokenizer).parse_sample({"messages": messages})

    assert target.tokenizer.decode(sample.token_ids) == "<user>ab<end><assistant>Oslo<end>"


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_a_prompt_ends_with_a_question(count: int, target: Target) -> None:
    """With the last answer left out, or never there."""
    prompt = Reader(target.tokenizer).parse_prompt({"messages": CHAT[: count + 1] if count < 5 else CHAT})

    assert target.tokenizer.decode(prompt.token_ids).endswith("<end><assistant>")


BAD_LINES = [
    ("not json", "Expecting value"),
    ("[1]", "not a JSON object"),
    ('{"messages": []}', "empty conversation"),
    ('{"messages": [{"role": "user", "content": "Hi"}]}', "the assistant says nothing"),
    ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "a part that is not text"),
    ('{"messages": 3}', ""),
    ('{"conversations": [{"from": "gpt"}]}', "'value' is missing"),
    ('{"prompt": 1, "completion": "x"}', "`prompt` is not a string"),
    ('{"other": 1}', "none of messages"),
    ('"\udcff"', ""),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_reported_with_its_number(line: str, reason: str, target: Target, tmp_path: Path) -> None:
    """The run goes on with the lines around it."""
    good = json.dumps({"messages": CHAT})
    path = tmp_path / "data.jsonl"
    path.write_bytes(f"{good}\n\n{line}\n{good}\n".encode(errors="surrogateescape"))

    samples, bad = read(path, target)

    assert (2, [3]) == (len(samples), [each.number for each in bad])
    assert reason in bad[0].reason


def test_a_sample_whose_answer_is_cut_off_is_reported(target: Target, tmp_path: Path) -> None:
    """Nothing could be learned from it."""
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"messages": CHAT}))

    samples, bad = read(path, target, max_length=6)

    assert ([], "no answer within 6 tokens") == (samples, bad[0].reason)


def test_a_json_array_is_refused_at_once(target: Target, tmp_path: Path) -> None:
    """Not line by line."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"messages": CHAT}], indent=1))

    with pytest.raises(ValueError, match="one object a line"):
        read(path, target)


def prompts(count: int) -> list[Prompt]:
    return [Prompt([3, 10 + number, 11 + number, 1, 4], "count") for number in range(count)]


def test_answers_are_kept_and_come_back(target: Target, tmp_path: Path) -> None:
    """The second time nothing is generated."""
    path = tmp_path / ANSWERS_FILE
    first = answer(target, prompts(5), path, seed=1, max_new_tokens=8)
    counts: list[int] = []

    again = answer(target, prompts(5), path, seed=1, max_new_tokens=8, on_answers=counts.append)

    assert first == again
    assert counts == [5]
    assert {"count"} == {sample.kind for sample in again}


def test_answers_go_on_where_they_stopped(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill in the middle of a line, with what an unbroken run says."""
    monkeypatch.setattr("outrider.speculative.training.answers._CHUNK", 4)
    whole = answer(target, prompts(10), tmp_path / "whole", seed=1, max_new_tokens=8)
    path = tmp_path / "broken"
    path.write_bytes((tmp_path / "whole").read_bytes()[:-90])

    assert whole == answer(target, prompts(10), path, seed=1, max_new_tokens=8)
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_answers_to_other_prompts_are_refused(target: Target, tmp_path: Path) -> None:
    """They would be learned under a card that says otherwise."""
    path = tmp_path / ANSWERS_FILE
    answer(target, prompts(2), path, seed=1, max_new_tokens=8)

    with pytest.raises(ValueError, match="remove it to start anew"):
        answer(target, prompts(3), path, seed=1, max_new_tokens=8)
