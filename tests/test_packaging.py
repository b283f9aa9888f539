"""The wheel works without the repository."""

import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path, PurePath

import pytest

from outrider.kernels.compiler import targets

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the files that are not ignored."""
    folder = tmp_path_factory.mktemp("source")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in listed.rstrip("\0").split("\0"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return folder


def build_wheel(source: Path, out: Path, **env: str) -> tuple[Path, str]:
    """The wheel, and what its build said."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)]
    env = {**os.environ, **env}
    ran = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (wheel,) = out.glob("*.whl")
    return wheel, ran.stdout


def libraries(wheel: Path) -> set[str]:
    """Names of the compiled kernels in it."""
    names = zipfile.ZipFile(wheel).namelist()
    return {PurePath(name).stem for name in names if name.endswith(".so")}


def test_a_wheel_is_built_without_a_compiler(source, tmp_path) -> None:
    """It has the sources, serves every platform, and its builder reads in one line what is lost."""
    wheel, said = build_wheel(source, tmp_path, CC="no-such-compiler")

    assert wheel.name.endswith("-py3-none-any.whl")
    assert set() == libraries(wheel)
    assert (said.count("no prebuilt kernels for"), said.count("no C compiler found")) == (
        (1, 1) if targets() else (0, 0)
    )


def test_the_wheel_serves_from_an_empty_environment(source, tmp_path) -> None:
    """Installed elsewhere: every module and the checkpoint are in it, and kernels that need no compiler."""
    wheel, said = build_wheel(source, tmp_path)
    kernels = [path.stem for path in (ROOT / "kernels").glob("*.c")]
    assert {f"{kernel}-{target.name}" for kernel in kernels for target in targets()} == libraries(wheel), said
    if targets():
        assert "-py3-none-linux_" in wheel.name
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)

    # What Outrider needs is taken from here; the editable Outrider is not, because PYTHONPATH runs no import hooks.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(site.getsitepackages()), "CC": "no-such-compiler"}
    code = """
import outrider.kernels.build as b, outrider.demo as d
print(b.__file__, d.target_path(), *filter(None, [b.find_build("linear").path]))
"""
    places = subprocess.run(
        [python, "-P", "-c", code], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
    )
    assert all(place.startswith(str(tmp_path / "env")) for place in places.stdout.split())
    assert (3 if targets() else 2) == len(places.stdout.split()), places.stderr
    server = subprocess.Popen(
        [tmp_path / "env" / "bin" / "outrider", "serve", "--port", "0"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    lines: list[str] = []
    for line in server.stdout:
        lines.append(line)
        if "Stop it" in line:
            break
    server.terminate()
    server.communicate(timeout=30)

    assert 0 == server.returncode, lines
    assert any("`outrider-demo`" in line for line in lines)
    assert not targets() or not any("runs in torch" in line for line in lines)
