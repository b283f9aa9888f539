"""Checkpoints of random weights, for measuring a shape without its weights.

Owns the shapes that come with the package. What is written is an ordinary checkpoint folder with a tokenizer of bytes,
so that any server can be measured on the same files.
"""

import json
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from outrider.engine.errors import LoadError, first_line

SHAPES: Final = Path(__file__).parent / "shapes"
_SPECIAL: Final = ("<unk>", "<s>", "</s>")


def shape_names() -> list[str]:
    """The shapes that come with the package."""
    return sorted(path.stem for path in SHAPES.glob("*.json"))


def write_random_checkpoint(shape: str, folder: Path, seed: int = 0) -> None:
    """Writes config.json, safetensors weights and a byte tokenizer.

    Args:
        shape: a name of `shape_names`, or the path of a config.json
        folder: to write to
        seed: of the weights

    Raises:
        LoadError: there is no such shape, or transformers does not know it.
    """
    path = Path(shape) if shape.endswith(".json") else SHAPES / f"{shape}.json"
    if not path.is_file():
        raise LoadError(f"there is no shape `{shape}`: pass a config.json, or one of {', '.join(shape_names())}")
    try:
        settings = json.loads(path.read_text())
        config = AutoConfig.for_model(**settings)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype or torch.bfloat16)
    except Exception as error:  # a foreign configuration raises anything; each becomes one clear line
        raise LoadError(f"`{path}` is not the configuration of a model: {first_line(error)}") from error
    model.save_pretrained(folder)
    _byte_tokenizer().save_pretrained(folder)


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte; the rest of a vocabulary stays unused."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate((*_SPECIAL, *alphabet))}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")  # noqa: S106 - marks, no secrets
