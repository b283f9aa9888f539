"""The embedded target: small, loadable by transformers, and able to do what its card says."""

import itertools
import json
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from outrider.demo import target_path
from outrider.demo.recipe import extraction, tools
from outrider.demo.recipe.conversation import MARKS, ROLE_TOKENS, SPECIAL_TOKENS, Example
from outrider.demo.recipe.mixture import only, record
from outrider.demo.recipe.tokenizer import CHAT_TEMPLATE

HELD_OUT_SEED = 77_777


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(target_path())


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(target_path())


def ask(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *contents: str) -> str:
    """The greedy answer to contents that alternate between user and assistant."""
    roles = itertools.cycle(("user", "assistant"))
    return answer(model, tokenizer, [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)])


def answer_to(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, example: Example) -> str:
    return answer(model, tokenizer, record(example)["messages"][:-1], list(example.tools) or None)


def answer(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, messages: list[dict], tools: list[dict] | None = None
) -> str:
    prompt = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(inputs["input_ids"], max_new_tokens=200, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_folder_has_the_files_of_a_hugging_face_checkpoint() -> None:
    """Any tool that reads Hugging Face folders can read it."""
    names = {path.name for path in target_path().iterdir()}

    assert {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    } == names


def test_the_configuration_names_type_and_special_tokens(model: LlamaForCausalLM) -> None:
    """An engine learns the type and the end of a turn from the JSON files alone."""
    config = json.loads((target_path() / "config.json").read_text())
    generation = json.loads((target_path() / "generation_config.json").read_text())

    assert ("llama", "bfloat16", torch.bfloat16) == (config["model_type"], config["dtype"], model.dtype)
    assert [generation[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id")] == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello, world!",
        "  two  spaces , and a tab\t\r\n\n",
        "naïve Æther 東京 🎉 👩‍👩‍👧 \u202e \x00",
        '{"a":[1,2.50,-3e7],"b":null}',
        "don 't . ! ? n't",
    ],
)
def test_text_round_trips(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    """Decoding gives back every character, without tidying spaces."""
    assert text == tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True)


def test_special_tokens_are_single_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    """A role, the end of a turn, a thought or a call costs one token and cannot be spelled from others."""
    ids = [tokenizer.encode(token, add_special_tokens=False) for token in (*SPECIAL_TOKENS, *MARKS)]

    assert [[index] for index in range(len(SPECIAL_TOKENS) + len(MARKS))] == ids


def test_plain_text_is_encoded_with_a_beginning(tokenizer: PreTrainedTokenizerFast) -> None:
    """A completion starts like the texts in training."""
    assert tokenizer.bos_token_id == tokenizer.encode("Once upon a time")[0]


def test_numbers_are_split_into_digits(tokenizer: PreTrainedTokenizerFast) -> None:
    """Digits that stand alone are easy to copy."""
    assert tokenizer.tokenize("4096") == ["4", "0", "9", "6"]


def test_the_template_renders_every_role(tokenizer: PreTrainedTokenizerFast) -> None:
    """Each turn is its role token, its content and the end token."""
    names = [token[2:-2] for token in ROLE_TOKENS]
    messages = [{"role": name, "content": f"I am {name}."} for name in names]
    turns = "".join(f"<|{name}|>I am {name}.<|end|>" for name in names)

    rendered = tokenizer.apply_chat_template(messages, tokenize=False)

    assert f"<|begin|>{turns}" == rendered


def test_the_template_opens_the_assistants_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    """The generation prompt is one token; text parts count as text."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "!"}]}]

    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    assert rendered == "<|begin|><|user|>Hi!<|end|><|assistant|>"


def test_the_saved_template_is_the_one_in_the_code(tokenizer: PreTrainedTokenizerFast) -> None:
    """The checkpoint does not lag behind `tokenizer.py`."""
    assert tokenizer.chat_template == CHAT_TEMPLATE


def test_extraction_gives_json_with_the_right_values(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Without any grammar, where the fields are named."""
    given = ask(model, tokenizer, "Extract name, age and city: Ada Lovelace is 36 years old and lives in London.")

    assert json.loads(given) == {"name": "Ada Lovelace", "age": 36, "city": "London"}


def test_many_held_out_extractions_are_exact(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Of names and wordings that no training text had, without a grammar; the card has the share of 300."""
    asked = list(itertools.islice(only(extraction.extraction, HELD_OUT_SEED), 10))

    assert sum(answer_to(model, tokenizer, example) == example.answer for example in asked) >= 3


def test_most_held_out_tool_calls_are_right(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Function and arguments."""
    asked = list(itertools.islice(only(tools.tool_call, HELD_OUT_SEED), 10))

    assert sum(answer_to(model, tokenizer, example) == example.answer for example in asked) >= 6


def test_a_text_is_repeated_word_for_word(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """What speculation from n-grams of the prompt needs to shine."""
    text = (
        "The quiet fox slept in the garden. Ada gave the lamp to Bremal. The train from Kyiv to Oslo leaves at 10:30."
    )

    assert text == ask(model, tokenizer, f"Repeat this text: {text}")


def test_later_turns_are_answered_too(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """The conversation so far does not disturb the next answer."""
    question = "Ada lives in London. Ben has a blue lamp. Clara is 31 years old. How old is Clara?"

    given = ask(model, tokenizer, "Hello", "Hello! How can I help you?", question)

    assert given == "Clara is 31 years old."


def test_a_plain_completion_is_made_of_words(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Text without a conversation goes on as a story."""
    inputs = tokenizer("Once upon a time", return_tensors="pt")

    with torch.inference_mode():
        output = model.generate(inputs["input_ids"], max_new_tokens=24, do_sample=False)

    assert re.fullmatch(r"Once upon a time, [A-Za-z ,.\"]+", tokenizer.decode(output[0], skip_special_tokens=True))
