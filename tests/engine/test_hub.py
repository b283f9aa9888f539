"""Models by the name that the hub has for them."""

import logging
import shutil

import pytest

from outrider.engine import hub
from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.errors import LoadError
from outrider.engine.hub import checkpoint_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(tiny_folder, tmp_path, monkeypatch):
    """The hub's own cache with one model in it, and no network."""
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    whole = hub.snapshot_download

    def offline(model, **options):
        return whole(model, cache_dir=tmp_path, local_files_only=True, **options)

    monkeypatch.setattr(hub, "snapshot_download", offline)
    return repository / "snapshots" / COMMIT


def test_a_hub_id_is_loaded_and_its_commit_told(cached, caplog) -> None:
    """An engine runs on it as on any folder."""
    with caplog.at_level(logging.INFO, "outrider.engine"):
        core = EngineCore(EngineConfig(model="someone/tiny", num_threads=1))

    assert core.hello().model_path == str(cached)
    assert f"someone/tiny is at commit {COMMIT}" in caplog.text


def test_a_commit_can_be_named(cached) -> None:
    """And another one is not there."""
    assert checkpoint_folder("someone/tiny", COMMIT) == str(cached)
    with pytest.raises(LoadError, match="there is no folder `someone/tiny`, and the hub does not give it"):
        checkpoint_folder("someone/tiny", "f" * 40)


def test_a_folder_stays_one(tiny_folder) -> None:
    """Even one that looks like a hub id; a revision makes no sense there."""
    assert checkpoint_folder(str(tiny_folder)) == str(tiny_folder)
    with pytest.raises(LoadError, match="--revision main is for models of the hub"):
        checkpoint_folder(str(tiny_folder), "main")
