"""Building the C kernels."""

import logging
import platform

import pytest
import torch

from outrider.kernels import build, linear, paged_attention


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


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are those of x86-64")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_processors_without_avx512_compute_the_same(dtype, monkeypatch, tmp_path) -> None:
    """The generic vectors, built for AVX2: a product and attention agree with torch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "FLAGS", ("-march=x86-64-v3", *(f for f in build.FLAGS if f != "-march=native")))
    for cached in (build.load_library, linear._kernel, paged_attention._cpu_kernel):
        cached.cache_clear()
    try:
        weight, x = torch.randn(70, 48).to(dtype), torch.randn(9, 48).to(dtype)
        plain = torch.nn.Linear(48, 70, bias=False, dtype=dtype)
        plain.weight.data = weight
        product = linear.PackedLinear(plain)(x)
        keys, values = paged_attention.allocate_kv(2, 1, 32, 16, dtype)
        keys.copy_(torch.randn(keys.shape))
        values.copy_(torch.randn(values.shape))
        rows = torch.zeros(1, dtype=torch.int64)
        batch = paged_attention.AttentionBatch(
            torch.tensor([[1, 0]]).int(), torch.tensor([0]).int(), torch.tensor([40]).int(), rows, rows
        )
        arguments = (torch.randn(1, 2, 16).to(dtype), keys, values, batch, paged_attention.AttentionOptions(0.25))
        attended = paged_attention.paged_attention(*arguments)
    finally:
        for cached in (build.load_library, linear._kernel, paged_attention._cpu_kernel):
            cached.cache_clear()

    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    assert torch.allclose(product.float(), x.float() @ weight.float().T, atol=tolerance, rtol=tolerance)
    expected = paged_attention.paged_attention_reference(*arguments)
    assert torch.allclose(attended.float(), expected.float(), atol=tolerance)
    assert len(list((tmp_path / "outrider").glob("*.so"))) == 2
