"""The tiny target as a folder and loaded."""

from pathlib import Path

import pytest
from tiny_target import write_target

from outrider.speculative.training.target import Target, load_target


@pytest.fixture(scope="session")
def target_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="session")
def target(target_folder: Path) -> Target:
    return load_target(str(target_folder))
