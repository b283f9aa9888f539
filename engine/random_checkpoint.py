"""Checkpoints of random weights, for measuring a shape without its weights.

Owns the shapes that come with the package. What is written is an ordinary checkpoint folder with a tokenizer,
so that any server can be measured on the same files.
"""

import json
import string
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
        seed: of the weights; a GPU draws others than the CPU

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
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # billions of numbers are drawn
            model = AutoModelForCausalLM.from_config(config, dtype=config.dtype or torch.bfloat16)
    except Exception as error:  # a foreign configuration raises anything; each becomes one clear line
        raise LoadError(f"`{path}` is not the configuration of a model: {first_line(error)}") from error
    model.save_pretrained(folder)
    _letter_tokenizer(config.vocab_size).save_pretrained(folder)


def _letter_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Bytes, then pairs and triples of letters, with and without a space before, as many as the vocabulary holds.

    Every token shows text, so that clients see each token of a stream, and text has about as many tokens as random
    tokens have text.
    """
    letters = string.ascii_lowercase
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(" ")[0][0]
    pairs = [(a, b) for a in letters for b in letters]
    triples = [(a + b, c) for a, b in pairs for c in letters]
    merges = [
        *pairs,
        *triples,
        *((space, a) for a in letters),
        *((space + a, b) for a, b in pairs),
        *((space + ab[0], ab[1] + c) for ab, c in triples),
    ]
    merges = merges[: max(0, vocab_size - len(_SPECIAL) - len(alphabet))]
    tokens = [*_SPECIAL, *alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")  # noqa: S106 - marks, no secrets
