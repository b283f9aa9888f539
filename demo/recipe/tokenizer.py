"""The demo tokenizer: byte-level BPE, its special tokens and its chat template.

Owns how text becomes ids. Digits stand alone, and a space joins a word only if the word starts with a
lower-case letter: a name or a number then has the same tokens in prose and inside JSON quotes, which makes
copying values easy to learn for a small model. Every byte has a token, so every text round-trips.
"""

from collections.abc import Iterable
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from outrider.demo.recipe.conversation import BEGIN, END, MARKS, PAD, SPECIAL_TOKENS, Example, Message
from outrider.demo.recipe.extraction import compact
from outrider.speculative.training.samples import Sample

VOCAB_SIZE: Final = 8192
# The label of a position that is not learned; torch's cross-entropy leaves it out.

# Lower-case word with the space before it | capitalised word | other letters | one digit | one space | marks | space.
_PIECES: Final = r" ?\p{Ll}+|\p{Lu}\p{Ll}*|\p{L}+|\p{N}| (?=\S)|[^\s\p{L}\p{N}]+|\s+"

_TEXT_OF: Final = """\
{%- macro text_of(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content -%}
        {%- for part in content if part["type"] == "text" -%}
            {{- part["text"] -}}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
"""
CHAT_TEMPLATE: Final = (
    _TEXT_OF
    + """\
{{- bos_token -}}
{%- if tools -%}
    {{- "<|system|>" -}}
    {%- if messages[0]["role"] in ["system", "developer"] -%}
        {{- text_of(messages[0]["content"]) + "\n\n" -}}
        {%- set messages = messages[1:] -%}
    {%- endif -%}
    {{- "Tools:" -}}
    {%- for tool in tools -%}
        {{- "\n" + tool["function"] | tojson(separators=[",", ":"]) -}}
    {%- endfor -%}
    {{- eos_token -}}
{%- endif -%}
{%- for message in messages -%}
    {%- set role = "system" if message["role"] == "developer" else message["role"] -%}
    {{- "<|" + role + "|>" -}}
    {{- text_of(message["content"]) -}}
    {%- for call in message["tool_calls"] or [] -%}
        {%- if not loop.first -%}{{- "\n" -}}{%- endif -%}
        {%- set arguments = call["function"]["arguments"] -%}
        {{- '<tool_call>{"name":' + call["function"]["name"] | tojson + ',"arguments":' -}}
        {{- arguments if arguments is string else arguments | tojson(separators=[",", ":"]) -}}
        {{- "}</tool_call>" -}}
    {%- endfor -%}
    {{- eos_token -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|assistant|>" -}}
{%- endif -%}
"""
)


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
        special_tokens=[*SPECIAL_TOKENS, *MARKS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Marks are one token each, yet a client sees them: clean text would hide where thoughts and calls begin.
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in MARKS])
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


def encode_example(tokenizer: PreTrainedTokenizerFast, example: Example) -> Sample:
    """The example as the chat template renders it.

    Learned are the assistant's messages with their end and plain text, but not what users and systems say.
    """
    ids = tokenizer.encode(BEGIN, add_special_tokens=False)
    learned = [False]
    for message in _with_tools(example):
        plain = message.role == "text"
        head = "" if plain else f"<|{message.role}|>"
        head_ids = tokenizer.encode(head, add_special_tokens=False) if head else []
        body_ids = tokenizer.encode(message.content + END, add_special_tokens=False)
        ids += head_ids + body_ids
        learned += [False] * len(head_ids) + [plain or message.role == "assistant"] * len(body_ids)
    return Sample(ids, learned)


def _with_tools(example: Example) -> tuple[Message, ...]:
    """The messages with the tools in the system message, where the chat template puts them."""
    if not example.tools:
        return example.messages
    listed = "".join(f"\n{compact(tool['function'])}" for tool in example.tools)
    first = example.messages[0]
    if first.role == "system":
        return (Message("system", f"{first.content}\n\nTools:{listed}"), *example.messages[1:])
    return (Message("system", f"Tools:{listed}"), *example.messages)
