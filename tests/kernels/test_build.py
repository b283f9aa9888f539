"""Building and choosing the C kernels."""

import logging
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from outrider.kernels import build, compiler, linear, paged_attention

NAMES = [target.name for target in build.usable_targets()]
# What each operation promises: rows of the same bits in any batch, and agreement with the definition.
PROMISES = "same_bits or agrees or definition or plain_linear or same_token or alone or no_numbers"


@pytest.fixture
def fresh_build(monkeypatch, tmp_path):
    """No library is remembered, and the cache folder is empty."""
    build.find_build.cache_clear()
    monkeypatch.delenv(build.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path
    build.find_build.cache_clear()


@pytest.fixture
def use_build(monkeypatch):
    """Makes all kernels run in the build of that name, which this user's cache folder keeps."""
    cached = (build.find_build, linear._kernel, paged_attention._cpu_kernel)

    def use(name: str) -> None:
        monkeypatch.setenv(build.VARIABLE, name)
        for function in cached:
            function.cache_clear()

    yield use
    for function in cached:
        function.cache_clear()


@pytest.fixture(scope="module")
def library():
    """One that loads on this machine."""
    return compiler.compiled(Path(build.__file__).with_name("linear.c"), compiler.native())


@pytest.fixture
def wheel(library, fresh_build, monkeypatch):
    """Puts a library of this machine where a wheel has that of a target."""
    monkeypatch.setattr(build, "_prebuilt", lambda name, target: fresh_build / f"{name}-{target.name}.so")

    def have(*names: str) -> None:
        for name in names:
            shutil.copy(library, fresh_build / f"linear-{name}.so")

    return have


def test_a_kernel_is_built_once_and_found_again(fresh_build) -> None:
    """The second process of a machine does not wait for the compiler."""
    assert build.load_library("linear") is not None
    first = list((fresh_build / "outrider").glob("*.so"))
    build.find_build.cache_clear()
    assert build.load_library("linear") is not None

    assert 1 == len(first)
    assert first == list((fresh_build / "outrider").glob("*.so"))


def test_a_machine_without_a_compiler_gets_none_and_one_line(fresh_build, monkeypatch, caplog) -> None:
    """The line says what is lost and what to install."""
    monkeypatch.setenv("CC", "no-such-compiler")

    with caplog.at_level(logging.WARNING, "outrider.kernels"):
        assert build.load_library("linear") is None
        assert build.load_library("linear") is None
    assert ["no C compiler found"] == [record.message[:19] for record in caplog.records]


def test_a_compiler_that_fails_is_no_error(fresh_build, monkeypatch, caplog) -> None:
    """The torch implementation takes over."""
    monkeypatch.setenv("CC", "false")

    with caplog.at_level(logging.WARNING, "outrider.kernels"):
        assert build.load_library("linear") is None
    assert "could not be built" in caplog.text


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are those of x86-64")
@pytest.mark.parametrize(
    ("flags", "has_compiler", "expected"),
    [
        (compiler._TARGETS["x86_64"][0].needs, True, "avx512bf16"),
        (compiler._TARGETS["x86_64"][1].needs, True, "avx512"),
        (compiler._TARGETS["x86_64"][2].needs, True, "avx2"),
        (compiler._TARGETS["x86_64"][2].needs - {"fma"}, False, "baseline"),
        (compiler._TARGETS["x86_64"][2].needs - {"fma"}, True, "native"),
        (set(), True, "native"),
        (set(), False, "baseline"),
    ],
)
def test_the_best_library_that_the_processor_runs_is_loaded(flags, has_compiler, expected, wheel, monkeypatch) -> None:
    """A prebuilt one before the compiler, one for any processor after it, never one with instructions it lacks."""
    wheel("avx512bf16", "avx512", "avx2", "baseline")
    monkeypatch.setattr(build, "processor_flags", lambda: frozenset(flags))
    if not has_compiler:
        monkeypatch.setenv("CC", "no-such-compiler")

    assert expected == build.find_build("linear").name


@pytest.mark.skipif(not NAMES, reason="nothing is built ahead for such machines")
def test_a_library_that_does_not_load_is_skipped(wheel, fresh_build, monkeypatch, caplog) -> None:
    """A broken or foreign file costs speed, not the server."""
    monkeypatch.setenv("CC", "no-such-compiler")
    wheel("baseline")
    (fresh_build / f"linear-{NAMES[0]}.so").write_bytes(b"no library")
    caplog.set_level(logging.WARNING, "outrider.kernels")

    found = build.find_build("linear")

    assert (found.name, found.library is None) == (("torch", True) if NAMES == ["baseline"] else ("baseline", False))
    assert 1 == len(caplog.records)


@pytest.mark.parametrize("value", ["avx1024", "avx2" if "avx2" not in NAMES else "neon"])
def test_a_build_that_the_processor_cannot_run_is_named_and_ignored(value, use_build, caplog) -> None:
    """One line for all kernels, and no illegal instruction."""
    use_build(value)
    build._wanted.cache_clear()
    caplog.set_level(logging.ERROR, "outrider.kernels")

    assert {"native"} == {build.find_build(name).name for name in ("linear", "paged_attention")}
    assert 1 == len(caplog.records)
    assert f"{build.VARIABLE}={value} is ignored" in caplog.text


def test_torch_can_be_chosen(fresh_build, monkeypatch, caplog) -> None:
    """To tell whether a kernel is at fault."""
    monkeypatch.setenv(build.VARIABLE, "torch")

    assert build.load_library("linear") is None
    assert [] == caplog.records


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_build_keeps_the_promises_of_the_kernels(name) -> None:
    """The kernels' own tests, in the builds that this processor can run; the best of them is what it builds itself."""
    files = [
        str(Path(__file__).with_name(f"test_{kernel}.py"))
        for kernel in ("linear", "paged_attention", "decoder", "sample")
    ]
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", PROMISES, *files],
        cwd=Path(__file__).parents[2],
        env={**os.environ, build.VARIABLE: name},
        capture_output=True,
        check=False,
        text=True,
    )

    assert 0 == ran.returncode, ran.stdout[-3000:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_builds_compute_the_same(dtype, use_build) -> None:
    """In float32 bit for bit, but for a baseline without fused multiply-adds; in bfloat16 nearly."""
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((70, 300), (9, 300)))
    cache = paged_attention.allocate_kv(2, 1, 32, 16, dtype)
    cache.keys.copy_(torch.randn(cache.keys.shape, generator=generator))
    cache.values.copy_(torch.randn(cache.values.shape, generator=generator))
    rows = torch.zeros(1, dtype=torch.int64)
    batch = paged_attention.AttentionBatch(
        torch.tensor([[1, 0]]).int(), torch.tensor([0]).int(), torch.tensor([40]).int(), rows, rows
    )
    query = torch.randn(1, 2, 16, generator=generator).to(dtype)
    options = paged_attention.AttentionOptions(0.25, softcap=5.0)
    results = {}
    for name in ("native", *NAMES):
        use_build(name)
        assert name == build.find_build("linear").name
        product = linear.multiply(x, linear.project(linear.LinearWeights(weight)))
        attended = paged_attention.paged_attention(query, cache, batch, options)
        results[name] = torch.cat((product.flatten(), attended.flatten()))

    expected = results.pop("native")
    for name, result in results.items():
        if dtype == torch.float32 and name != "baseline":
            assert torch.equal(result, expected), name
        assert torch.allclose(result.float(), expected.float(), atol=1e-4 if dtype == torch.float32 else 3e-2), name
