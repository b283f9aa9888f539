"""The wheel works without the repository."""

import os
import site
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_serves_from_an_empty_environment(tmp_path) -> None:
    """Built from a copy of the tracked files, installed elsewhere: every module and the checkpoint are in it."""
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in tracked.rstrip("\0").split("\0"):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)

    # What Outrider needs is taken from here; the editable Outrider is not, because PYTHONPATH runs no import hooks.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(site.getsitepackages())}
    code = "import outrider.kernels.linear as m, outrider.demo as d; print(m.__file__, d.target_path())"
    places = subprocess.run(
        [python, "-P", "-c", code], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
    )
    assert all(place.startswith(str(tmp_path / "env")) for place in places.stdout.split())
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
