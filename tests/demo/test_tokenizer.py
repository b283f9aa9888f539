"""The recipe's tokenizer and chat template, as a family gets them."""

import itertools
import json

import pytest
from transformers import PreTrainedTokenizerFast

from outrider.demo.recipe import tools
from outrider.demo.recipe.conversation import MARKS, SPECIAL_TOKENS
from outrider.demo.recipe.mixture import examples, record
from outrider.demo.recipe.tokenizer import VOCAB_SIZE, encode_example, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    texts = itertools.islice(examples(1), 6000)
    return train_tokenizer(message.content for example in texts for message in example.messages)


def test_the_vocabulary_is_full(tokenizer: PreTrainedTokenizerFast) -> None:
    """Marks and special tokens come first, one id each."""
    ids = [tokenizer.encode(token, add_special_tokens=False) for token in (*SPECIAL_TOKENS, *MARKS)]

    assert [[index] for index in range(len(SPECIAL_TOKENS) + len(MARKS))] == ids
    assert len(tokenizer) == VOCAB_SIZE


def test_a_client_sees_thoughts_and_calls(tokenizer: PreTrainedTokenizerFast) -> None:
    """Decoding drops roles and ends, not the marks that a parser needs."""
    text = '<think>Hm.</think><tool_call>{"name":"f","arguments":{}}</tool_call>'

    assert text == tokenizer.decode(tokenizer.encode(f"{text}<|end|>"), skip_special_tokens=True)


def test_training_sees_what_the_template_renders(tokenizer: PreTrainedTokenizerFast) -> None:
    """Training builds its ids by hand; they are those of the chat template, tools and calls among them."""
    chats = [example for example in itertools.islice(examples(5), 400) if example.kind != "story"]

    for example in chats:
        rendered = tokenizer.apply_chat_template(
            record(example)["messages"], tools=list(example.tools) or None, tokenize=False
        )

        assert tokenizer.encode(rendered, add_special_tokens=False) == encode_example(tokenizer, example).token_ids


def test_calls_in_a_message_render_as_the_model_writes_them(tokenizer: PreTrainedTokenizerFast) -> None:
    """OpenAI's `tool_calls`, with arguments as text or as an object."""
    call = {"name": "get_weather", "arguments": {"city": "Oslo"}}
    as_text = {"name": "get_weather", "arguments": json.dumps(call["arguments"], separators=(",", ":"))}
    for function in (call, as_text):
        messages = [{"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}]

        assert (
            tokenizer.apply_chat_template(messages, tokenize=False)
            == f"<|begin|><|assistant|>{tools.written_call(call['name'], call['arguments'])}<|end|>"
        )
