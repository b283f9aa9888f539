"""What pyproject.toml cannot say: a wheel carries the C kernels, compiled for several kinds of processors.

They are plain libraries that know nothing of Python: one wheel for each platform serves every Python. Without a
compiler the wheel has the sources alone. An editable install compiles what it needs at the first start instead.

Libraries name libgomp.so.1, which torch brings and loads: a tool that puts another copy into the wheel (`auditwheel
repair` without `--exclude libgomp.so.1`) would give the kernels a second pool of threads.
"""

import os
import runpy
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

KERNELS = Path(__file__).parent / "kernels"
compiler = runpy.run_path(str(KERNELS / "compiler.py"))  # the package itself needs torch


class BuildKernels(Command):
    """Compiles each `kernels/*.c` for each target, as far as this machine can."""

    description = "compile the C kernels (optional)"
    user_options = ()

    def initialize_options(self) -> None:
        """Sets what setuptools knows of a part of `build`."""
        self.build_lib = ""
        self.editable_mode = False
        self.libraries: list[str] = []

    def finalize_options(self) -> None:
        """Takes the folder from `build_py`."""
        self.build_lib = self.get_finalized_command("build_py").build_lib

    def run(self) -> None:
        """Compiles on all cores; where one fails, the wheel does without it."""
        targets = () if self.editable_mode else compiler["targets"]()
        jobs = [(source, target) for source in sorted(KERNELS.glob("*.c")) for target in targets]
        problems: dict[str, str] = {}
        folder = Path(self.build_lib) / "outrider" / "kernels" / "prebuilt"
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier build may have left
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for (source, target), result in zip(jobs, pool.map(self._compile, jobs), strict=True):
                if isinstance(result, str):
                    problems[target.name] = result
                    continue
                library = folder / f"{source.stem}-{target.name}.so"
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(result, library)
                self.libraries.append(str(library))
        if problems:
            lost, reason = ", ".join(problems), next(iter(problems.values()))
            self.warn(f"no prebuilt kernels for {lost}: without gcc, users of this wheel run in torch ({reason})")

    def get_source_files(self) -> list[str]:
        """The kernels; their headers are data of the package."""
        return [f"kernels/{source.name}" for source in sorted(KERNELS.glob("*.c"))]

    def get_outputs(self) -> list[str]:
        """The libraries in the build folder."""
        return self.libraries

    def get_output_mapping(self) -> dict[str, str]:
        """None: an editable install has no libraries."""
        return {}

    @staticmethod
    def _compile(job: tuple[Path, Any]) -> Path | str:
        """The library, or what is wrong."""
        try:
            return compiler["compiled"](*job)
        except subprocess.CalledProcessError as error:
            return error.stderr.decode(errors="replace")[:200]
        except OSError as error:
            return str(error)


class Build(build):
    """`build`, and the kernels."""

    sub_commands = [*build.sub_commands, ("build_kernels", None)]  # noqa: RUF012 - as the class above has it


class Wheel(bdist_wheel):
    """A wheel for one platform and every Python, where it has libraries."""

    def get_tag(self) -> tuple[str, str, str]:
        """Asked once all is built."""
        self.root_is_pure = not self.get_finalized_command("build_kernels").libraries
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)


setup(cmdclass={"build": Build, "build_kernels": BuildKernels, "bdist_wheel": Wheel})
