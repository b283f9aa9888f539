"""A tiny target that can count, with a chat template."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIAL = ("<pad>", "<end>", "<system>", "<user>", "<assistant>")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte and for each special mark."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = TEMPLATE
    return fast


def write_target(folder: Path, hidden_size: int = 32, num_layers: int = 4) -> Path:
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=64,
            num_hidden_layers=num_layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )
    _teach_to_count(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def counting(start: int, length: int) -> list[int]:
    """Token ids in steps of one, round and round through fifty of them."""
    return [len(SPECIAL) + (start + index) % 50 for index in range(length)]


def counting_text(start: int, length: int) -> str:
    """The same as text: the first byte of the alphabet is an exclamation mark."""
    return "".join(chr(ord("!") + token - len(SPECIAL)) for token in counting(start, length))


def _teach_to_count(model: LlamaForCausalLM) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        ids = torch.tensor(
            [[3, *counting(7 * step + 11 * row, 9), 1, 4, *counting(7 * step + 11 * row + 9, 16)] for row in range(16)]
        )
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
