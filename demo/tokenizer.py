"""The demo tokenizer: byte-level BPE, its special tokens and its chat template.

Owns how text becomes ids. Digits stand alone, and a space joins a word only if the word starts with a
lower-case letter: a name or a number then has the same tokens in prose and inside JSON quotes, which makes
copying values easy to learn for a small model. Every byte has a token, so every text round-trips.
"""

from collections.abc import Iterable
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from outrider.demo.conversation import BEGIN, END, PAD, SPECIAL_TOKENS, Example

VOCAB_SIZE: Final = 4096
# The label of a position that is not learned; torch's cross-entropy leaves it out.
IGNORED: Final = -100

# Lower-case word with the space before it | capitalised word | other letters | one digit | one space | marks | space.
_PIECES: Final = r" ?\p{Ll}+|\p{Lu}\p{Ll}*|\p{L}+|\p{N}| (?=\S)|[^\s\p{L}\p{N}]+|\s+"

CHAT_TEMPLATE: Final = """\
{{- bos_token -}}
{%- for message in messages -%}
    {%- set role = "system" if message["role"] == "developer" else message["role"] -%}
    {{- "<|" + role + "|>" -}}
    {%- if message["content"] is string -%}
        {{- message["content"] -}}
    {%- elif message["content"] -%}
        {%- for part in message["content"] if part["type"] == "text" -%}
            {{- part["text"] -}}
        {%- endfor -%}
    {%- endif -%}
    {{- eos_token -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|assistant|>" -}}
{%- endif -%}
"""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose merges come from the texts; the same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, begin)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def encode_example(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[list[int], list[int]]:
    """Token ids as the chat template renders them, and the labels: ids to predict, -100 where nothing is learned.

    Learned are the assistant's messages with their end and plain text, but not what users and systems say.
    """
    ids = tokenizer.encode(BEGIN, add_special_tokens=False)
    labels = [IGNORED]
    for message in example.messages:
        plain = message.role == "text"
        head = "" if plain else f"<|{message.role}|>"
        head_ids = tokenizer.encode(head, add_special_tokens=False) if head else []
        body_ids = tokenizer.encode(message.content + END, add_special_tokens=False)
        learned = plain or message.role == "assistant"
        ids += head_ids + body_ids
        labels += [IGNORED] * len(head_ids) + (body_ids if learned else [IGNORED] * len(body_ids))
    return ids, labels
