"""GPU kernels run here without a GPU: Triton's interpreter takes them one program after the other on the CPU.

The variable counts when a kernel is defined, as the test modules are imported, and when one runs. In between it is
taken back: processes that other tests start shall not inherit it.
"""

import importlib.util
import os

import pytest

if importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") == "0":
    collect_ignore_glob = ["*"]  # Triton exists for Linux only, and as tests/conftest.py imports it

patch = pytest.MonkeyPatch()
patch.setenv("TRITON_INTERPRET", "1")


def pytest_collection_finish() -> None:
    """Takes the variable back once every module is imported."""
    patch.undo()


@pytest.fixture(scope="module", autouse=True)
def interpreter():
    """Sets it for this folder's tests."""
    with pytest.MonkeyPatch.context() as during:
        during.setenv("TRITON_INTERPRET", "1")
        yield
