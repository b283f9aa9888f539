"""`--config`: a TOML file of a command's own options. What is given as a flag or in the environment comes before it."""

import difflib
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from outrider.cli import options


def read_config_file(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the file's values the defaults of the command's options; ends the command at a mistake, with its place."""
    if path is None:
        return None
    from outrider.gateway.access import TABLES
    from outrider.gateway.toml_file import ConfigError, TomlFile

    try:
        file = TomlFile(path)
    except ConfigError as error:
        options.fail(str(error))
    types = get_type_hints(context.command.callback)
    parameters = {name: one for one in context.command.params for name in _names(one)}
    defaults: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, value in file.data.items():
        if name in TABLES:
            continue  # limits, which are read where they are read again on SIGHUP
        if name not in parameters:
            near = difflib.get_close_matches(name, [*parameters, *TABLES], 1)
            hint = f": did you mean `{near[0]}`?" if near else ""
            mistakes.append(f"{file.place([name])}: {name}: there is no such setting{hint}")
            continue
        problem = _problem(types[parameters[name].name], value)
        if problem is not None:
            mistakes.append(f"{file.place([name])}: {name}: {problem}")
        defaults[parameters[name].name] = value
    if mistakes:
        options.fail("\noutrider: ".join(mistakes))
    context.default_map = defaults
    return path


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=read_config_file,
        is_eager=True,
        metavar="FILE",
        help="TOML file of these options by their names, and of limits. Flags and OUTRIDER_... come before it.",
    ),
]


def place(context: typer.Context, name: str) -> str:
    """`file:line: ` of a value that came from the file, nothing of any other."""
    from outrider.gateway.toml_file import TomlFile

    source = context.get_parameter_source(name)
    if source is None or source.name != "DEFAULT_MAP":
        return ""
    return f"{TomlFile(context.params['config']).place([name])}: "


def _names(parameter: Any) -> list[str]:
    """By which a file may set an option: those of its flags, with underscores."""
    if parameter.name in {"config", "check_config", "help"}:
        return []
    flags = [flag.lstrip("-").replace("-", "_") for flag in parameter.opts if flag.startswith("--")]
    return flags or [parameter.name]


def _problem(kind: Any, value: object) -> str | None:
    """What is wrong with a value; TOML's own types count, so that "8000" is no port."""
    import msgspec

    try:
        msgspec.convert(value, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        return f"{error}"[:1].lower() + f"{error}"[1:]
    return None


def _decode(kind: type, value: object) -> object:
    if kind is not Path or not isinstance(value, str):
        raise TypeError(f"Expected a path as `str`, got `{type(value).__name__}`")
    return Path(value)
