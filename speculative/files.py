"""The folder of a speculator: config.json, model.safetensors, README.md; whole or not there at all.

Owns reading and writing. What the files mean is known by `eagle_checkpoint.py` and `medusa_checkpoint.py`.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

# What published speculators call their weights; the first that is there is read.
WEIGHTS: Final = ("model.safetensors", "medusa_lm_head.safetensors", "pytorch_model.bin", "medusa_lm_head.pt")


class CheckpointError(ValueError):
    """A speculator's folder cannot be used; the message is for the user."""


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json.

    Raises:
        CheckpointError: there is none, or it is not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"`{path}` cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"`{path}` is not a JSON object")
    return config


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the folder's weight file, by name; of a PyTorch file they are mapped, not read.

    Raises:
        CheckpointError: there is none, or it is split, called otherwise, damaged, or holds something else.
    """
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise CheckpointError(_why_no_weights(folder))
    try:
        if found.suffix == ".safetensors":
            return load_file(found)
        # Files of the first versions of PyTorch are no archives, and cannot be mapped.
        tensors = torch.load(found, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(found))
    except Exception as error:  # a damaged file raises anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"`{found}` cannot be read: {reason}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"`{found}` is not a mapping from names to tensors: save the speculator's state dict")
    return tensors


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Makes tensors the module's own, in float32; the module may be on torch's meta device before.

    Raises:
        CheckpointError: a tensor is absent, unknown, of another shape, or not finite; the message names it.
    """
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise CheckpointError(f"the speculator `{folder}` lacks the tensor `{name}`")
        if tensors[name].shape != tensor.shape:
            found = tuple(tensors[name].shape)
            raise CheckpointError(
                f"`{name}` of `{folder}` has shape {found}, its config.json and its other tensors mean "
                f"{tuple(tensor.shape)}"
            )
        if tensors[name].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(
                f"`{name}` of `{folder}` has type {tensors[name].dtype}: quantized speculators are not supported"
            )
    unknown = tensors.keys() - wanted.keys()
    if unknown:
        raise CheckpointError(f"the speculator `{folder}` has the tensor `{min(unknown)}`, which is not supported")
    module.load_state_dict(dict(tensors), assign=True)
    module.float()
    for name, parameter in module.named_parameters():
        if not parameter.isfinite().all():
            raise CheckpointError(f"`{name}` of `{folder}` holds numbers that are not finite: the file is damaged")


def _why_no_weights(folder: Path) -> str:
    """One sentence with the way out."""
    names = sorted(path.name for path in folder.glob("*") if path.suffix in (".safetensors", ".bin", ".pt", ".pth"))
    if any(folder.glob("*.index.json")):
        return f"the weights of `{folder}` are split into several files: save them as one, called model.safetensors"
    if names:
        return f"`{folder}` has no weights by a name that is known: rename `{names[0]}` to one of {', '.join(WEIGHTS)}"
    return f"`{folder}` has no weights: it needs one of {', '.join(WEIGHTS)}"


def write_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    card: str,
    weights: str = "model.safetensors",
) -> None:
    """Writes the files beside their places, then renames them.

    Raises:
        OSError: the disk is full or not writable; the files before are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The same file system, or the rename would not be one step.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(scratch, weights))
        Path(scratch, "config.json").write_text(json.dumps(config, indent=2) + "\n")
        Path(scratch, "README.md").write_text(card)
        replace_files(Path(scratch), folder)


def replace_files(scratch: Path, folder: Path) -> None:
    """Moves a new checkpoint's files to its folder; without a config.json meanwhile, so that it is never a mixture."""
    (folder / "config.json").unlink(missing_ok=True)
    for path in sorted(scratch.iterdir(), key=lambda path: path.name == "config.json"):
        place = folder / path.name
        if path.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            path.chmod(0o644)  # safetensors leaves its files to their owner alone
        path.replace(place)
