"""Weight files of speculators: what is read, and what is refused with which words."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from outrider.speculative.files import CheckpointError, read_tensors

TENSORS = {"fc.weight": torch.arange(6.0).view(2, 3), "d2t": torch.arange(4)}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "medusa_lm_head.pt"])
@pytest.mark.parametrize("as_archive", [True, False])
def test_pytorch_files_are_read(as_archive: bool, name: str, tmp_path: Path) -> None:
    """Those of today, and those from before they were archives."""
    torch.save(TENSORS, tmp_path / name, _use_new_zipfile_serialization=as_archive)
    found = read_tensors(tmp_path)

    assert TENSORS.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in TENSORS.items())


def test_safetensors_come_first(tmp_path: Path) -> None:
    """Some folders have both."""
    save_file({"new": torch.zeros(1)}, tmp_path / "model.safetensors")
    torch.save({"old": torch.zeros(1)}, tmp_path / "pytorch_model.bin")

    assert {"new"} == read_tensors(tmp_path).keys()


class Harmful:
    """What a pickle could run."""

    def __reduce__(self) -> tuple:
        return (print, ("harm",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Harmful(), "cannot be read"),
        ({"fc.weight": Harmful()}, "cannot be read"),
        ([torch.zeros(1)], "not a mapping from names to tensors"),
        ({"state_dict": TENSORS}, "not a mapping from names to tensors"),
    ],
)
def test_pytorch_files_of_anything_else_are_refused(content: object, said: str, tmp_path: Path, capsys) -> None:
    """And nothing in them is run."""
    torch.save(content, tmp_path / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=said):
        read_tensors(tmp_path)
    assert "" == capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04" + b"\0" * 64])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    """In one line that names the file."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=rf"{name}` cannot be read: .+") as refusal:
        read_tensors(tmp_path)
    assert "\n" not in str(refusal.value)


def test_an_interrupted_download_is_refused(tmp_path: Path) -> None:
    """The end of the file is missing."""
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            "split into several files: save them as one",
        ),
        (
            ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"],
            "split into several files: save them as one",
        ),
        (["head.safetensors"], "rename `head.safetensors` to one of model.safetensors"),
        (["config.json"], "has no weights: it needs one of model.safetensors"),
    ],
)
def test_a_folder_without_a_known_file_is_refused(names: list[str], said: str, tmp_path: Path) -> None:
    """With the way out."""
    for name in names:
        (tmp_path / name).touch()

    with pytest.raises(CheckpointError, match=said):
        read_tensors(tmp_path)
