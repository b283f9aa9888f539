"""Medusa heads in their published formats: what the files mean, and what is refused.

Known are three. The authors' first files hold blocks and an output layer for each head (`0.0.linear.weight`,
`0.1.weight`). "Version 2" holds the blocks alone, and the target's output layer serves all heads; this is written.
vLLM's calls them `blocks.0.layers.0.weight` and `lm_heads.0.weight`, or has one `lm_head.weight` for all heads; it may
guess some of the target's tokens only, those in `token_map`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from outrider.speculative.files import CheckpointError, fill, read_config, read_tensors, write_checkpoint
from outrider.speculative.medusa import MedusaConfig, MedusaHeads

WEIGHTS: Final = "medusa_lm_head.safetensors"

_BLOCK: Final = re.compile(r"(\d+)\.(\d+)\.linear\.weight")
_VLLM_BLOCK: Final = re.compile(r"blocks\.(\d+)\.layers\.(\d+)\.(weight|bias)")


def save_medusa(heads: MedusaHeads, folder: Path, target: str, card: str) -> None:
    """Writes config.json and medusa_lm_head.safetensors, in bfloat16; of heads that share the target's output layer."""
    config = {
        "version": "2",
        "base_model_name_or_path": target,
        "medusa_num_heads": heads.config.num_heads,
        "medusa_num_layers": heads.config.num_layers,
        "hidden_size": heads.config.hidden_size,
    }
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in heads.state_dict().items()}
    write_checkpoint(folder, config, tensors, card, WEIGHTS)


def load_medusa(folder: Path) -> MedusaHeads:
    """The heads that a folder holds, in float32.

    The weights say how many heads there are: configurations of the first files say two where there are five.

    Raises:
        CheckpointError: the folder holds no heads that can be run, or lacks something; the message names it.
    """
    written = read_config(folder)
    if "medusa_num_heads" in written and "num_attention_heads" in written:
        raise CheckpointError(
            f"`{folder}` is a whole model with Medusa heads inside: move its `medusa_head.*` tensors, without this "
            f"prefix, to a {WEIGHTS} of their own, and serve the rest as the target"
        )
    tensors = {name.removeprefix("medusa_heads."): tensor for name, tensor in read_tensors(folder).items()}
    places = [found for name in tensors if (found := _VLLM_BLOCK.fullmatch(name))]
    if places:
        tensors = _named_by_head(written, tensors, places)
    places = [found for name in tensors if (found := _BLOCK.fullmatch(name))]
    _check_blocks(folder, written, tensors, places)
    num_heads, num_layers = _count(places)
    outputs = [name for head in range(num_heads) if (name := f"{head}.{num_layers}.weight") in tensors]
    if "token_map" in tensors:
        tensors["token_map"] = token_map = _parse_token_map(folder, tensors, outputs)
        # Some files keep the rows of all tokens.
        tensors |= {name: tensors[name][token_map] for name in outputs if len(tensors[name]) > len(token_map)}
    config = MedusaConfig(
        hidden_size=tensors["0.0.linear.weight"].shape[-1],
        num_heads=num_heads,
        num_layers=num_layers,
        output_size=len(tensors[outputs[0]]) if outputs else None,
        has_token_map="token_map" in tensors,
    )
    with torch.device("meta"):
        heads = MedusaHeads(config)
    fill(heads, tensors, folder)
    return heads


def _count(places: Sequence[re.Match[str]]) -> tuple[int, int]:
    """How many heads, and how many blocks of each, from the numbers in the names of blocks."""
    return 1 + max(int(place[1]) for place in places), 1 + max(int(place[2]) for place in places)


def _named_by_head(
    written: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], places: Sequence[re.Match[str]]
) -> dict[str, torch.Tensor]:
    """Tensors of vLLM's format by the names of the authors' files, which number a head's parts."""
    num_heads, num_layers = _count(places)
    named = {name: tensor for name, tensor in tensors.items() if not name.startswith(("blocks.", "lm_head"))}
    named |= {f"{place[1]}.{place[2]}.linear.{place[3]}": tensors[place[0]] for place in places}
    # Most are without biases, which are zeros then; but the ones that a file has are never left out.
    if not written.get("medusa_fc_bias") and not any(place[3] == "bias" for place in places):
        named |= {f"{place[1]}.{place[2]}.linear.bias": torch.zeros(tensors[place[0]].shape[:1]) for place in places}
    shared = tensors.get("lm_head.weight")
    if shared is None and written.get("original_lm_head"):
        shared = tensors.get("lm_heads.0.weight")
    for head in range(num_heads):
        own = tensors.get(f"lm_heads.{head}.weight") if shared is None else shared
        if own is not None:
            named[f"{head}.{num_layers}.weight"] = own
    return named


def _check_blocks(
    folder: Path, written: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], places: Sequence[re.Match[str]]
) -> None:
    """Refuses a folder without blocks, with gaps between them, or with fewer than its configuration says."""
    if not places:
        raise CheckpointError(
            f"`{folder}` does not hold Medusa heads: it has neither `0.0.linear.weight` nor "
            f"`blocks.0.layers.0.weight`, but `{min(tensors, default='no tensors')}`"
        )
    num_heads, num_layers = _count(places)
    said_heads = written.get("medusa_num_heads", written.get("num_heads"))
    said_layers = written.get("medusa_num_layers", written.get("num_hidden_layers"))
    if isinstance(said_heads, int) and said_heads > num_heads:
        raise CheckpointError(
            f"config.json of `{folder}` says {said_heads} heads, its weights are those of {num_heads}"
        )
    if isinstance(said_layers, int) and said_layers > num_layers:
        raise CheckpointError(
            f"config.json of `{folder}` says {said_layers} layers in each head, its weights are those of {num_layers}"
        )
    if len(places) != num_heads * num_layers:
        raise CheckpointError(
            f"the Medusa heads `{folder}` have {len(places)} blocks: {num_heads} heads of {num_layers} need "
            f"{num_heads * num_layers}"
        )
    flat = [name for name, tensor in tensors.items() if name.endswith(".weight") and tensor.ndim != 2]
    if flat:
        raise CheckpointError(f"`{flat[0]}` of `{folder}` is not a matrix")


def _parse_token_map(folder: Path, tensors: Mapping[str, torch.Tensor], outputs: Sequence[str]) -> torch.Tensor:
    """The target's ids of what the heads guess, int64.

    Raises:
        CheckpointError: it is no list of ids, or names rows that an output layer does not have.
    """
    token_map = tensors["token_map"].long()
    if not outputs:
        raise CheckpointError(f"the Medusa heads `{folder}` have a `token_map`, but no output layer that it belongs to")
    if token_map.ndim != 1 or not len(token_map) or int(token_map.min()) < 0:
        raise CheckpointError(f"`token_map` of `{folder}` is not a list of token ids")
    for name in outputs:
        rows = len(tensors[name])
        if rows < len(token_map) or (rows > len(token_map) and int(token_map.max()) >= rows):
            raise CheckpointError(
                f"`token_map` of `{folder}` names {len(token_map)} tokens up to {int(token_map.max())}, `{name}` has "
                f"{rows} rows"
            )
    return token_map
