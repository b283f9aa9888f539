"""Building the C kernels."""

import logging

import pytest

from outrider.kernels import build


@pytest.fixture
def fresh_build(monkeypatch, tmp_path):
    """No library is remembered, and the cache folder is empty."""
    build.load_library.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path
    build.load_library.cache_clear()


def test_a_kernel_is_built_once_and_found_again(fresh_build) -> None:
    """The second process of a machine does not wait for the compiler."""
    assert build.load_library("paged_attention") is not None
    first = list((fresh_build / "outrider").glob("*.so"))
    build.load_library.cache_clear()
    assert build.load_library("paged_attention") is not None

    assert first == list((fresh_build / "outrider").glob("*.so"))


def test_a_machine_without_a_compiler_gets_none_and_one_line(fresh_build, monkeypatch, caplog) -> None:
    """The line says what is lost and what to install."""
    monkeypatch.setenv("CC", "no-such-compiler")

    with caplog.at_level(logging.WARNING, "outrider.kernels"):
        assert build.load_library("paged_attention") is None
        assert build.load_library("paged_attention") is None
    assert ["no C compiler found"] == [record.message[:19] for record in caplog.records]


def test_a_compiler_that_fails_is_no_error(fresh_build, monkeypatch, caplog) -> None:
    """The torch implementation takes over."""
    monkeypatch.setenv("CC", "false")

    with caplog.at_level(logging.WARNING, "outrider.kernels"):
        assert build.load_library("paged_attention") is None
    assert "could not be built" in caplog.text
