"""The promises that pyproject.toml and the folder layout make."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = sorted(SETUPTOOLS["package-dir"].values())

# Who may import what of ours; a folder that is not a key imports none of the others.
MAY_IMPORT = {
    "cli": set(FOLDERS),
    "gateway": {
        *("engine.answer_text", "engine.errors", "engine.prefix", "engine.protocol", "engine.tokenizer"),  # torch-free
        *("structured", "telemetry"),
    },
    "engine": {"kernels", "speculative", "structured", "telemetry"},
    "demo": {"speculative"},
    "speculative": {"kernels"},
    "structured": {"kernels"},
}

# Where a foreign library may be imported.
ONLY_IN = {
    "opentelemetry": {"telemetry"},
    "aiohttp": {"gateway", "loadtest", "engine/transport.py"},
    "xgrammar": {"structured"},
    "llguidance": {"structured"},
    "jsonschema_rs": {"structured"},
    "redis": {"gateway"},
    "triton": {"kernels"},
    "typer": {"cli"},
}


def imported_modules(path: Path) -> set[str]:
    """Dotted names; a relative import starts with a dot."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            modules |= {f"{prefix}.{alias.name}" for alias in node.names}
    return modules


def is_within(module: str, allowed: set[str]) -> bool:
    return any(f"{module}.".startswith(f"{name}.") for name in allowed)


def test_every_folder_with_code_is_packaged() -> None:
    """A sub-folder missing from the list works in an editable install and is absent from the wheel."""
    on_disk = {path.parent.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}

    assert sorted(SETUPTOOLS["packages"]) == sorted(".".join(("outrider", *path.parts)) for path in on_disk)


def test_the_makefile_links_every_folder() -> None:
    """A folder that is not linked is not type-checked."""
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("FOLDERS = "))

    assert line.removeprefix("FOLDERS = ").split() == FOLDERS


def test_kernels_yields_to_the_hugging_face_package() -> None:
    """With an __init__.py, `kernels/` on sys.path would shadow the package that transformers imports."""
    assert not (ROOT / "kernels" / "__init__.py").exists()


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_are_absolute(folder: str) -> None:
    """A bare `import engine` would load a second copy; a relative import would escape the tests below."""
    for path in (ROOT / folder).rglob("*.py"):
        bare = {name for name in imported_modules(path) if name.startswith(".") or name.split(".")[0] in FOLDERS}

        assert set() == bare, path


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_downward(folder: str) -> None:
    """Each folder imports only what lies below it."""
    allowed = MAY_IMPORT.get(folder, set()) | {folder}
    for path in (ROOT / folder).rglob("*.py"):
        ours = {name.removeprefix("outrider.") for name in imported_modules(path) if name.startswith("outrider.")}

        assert {name for name in ours if not is_within(name, allowed)} == set(), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_foreign_libraries_stay_in_their_place(folder: str) -> None:
    """A library that may change under us is known to one folder."""
    for path in (ROOT / folder).rglob("*.py"):
        place = str(path.relative_to(ROOT))
        libraries = {name.split(".")[0] for name in imported_modules(path)}
        homeless = {name for name in libraries & ONLY_IN.keys() if not place.startswith(tuple(ONLY_IN[name]))}

        assert set() == homeless, path
