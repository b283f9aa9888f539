"""Options that more than one sub-command takes, and how they become a configuration."""

import os
import re
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

MEMORY_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}

Model = Annotated[
    str | None, typer.Argument(help="Checkpoint folder or hub id; the embedded demo model when left out.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
Dtype = Annotated[str, typer.Option(help="auto (the checkpoint's own), float32 or bfloat16.")]
KvDtype = Annotated[str, typer.Option(help="Of keys and values in the cache: auto (the model's) or int8.")]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N.")]
MaxModelLen = Annotated[int | None, typer.Option(help="Context in tokens, prompt and answer; the model's own.")]
MaxNumSeqs = Annotated[int, typer.Option(help="Requests that share a step.")]
MaxNumBatchedTokens = Annotated[int, typer.Option(help="Tokens of one step; longer prompts are split.")]
KvMemory = Annotated[str, typer.Option(help="Most memory for the KV cache: 512M, 4G; auto: --memory-utilization.")]
MemoryUtilization = Annotated[
    float, typer.Option(help="Share of the memory that is free once the model is loaded, for the KV cache.")
]
Threads = Annotated[int | None, typer.Option(help="Threads of the engine; by the size of the model.")]
PrefixCaching = Annotated[bool, typer.Option(help="Whether requests share the KV of what they begin with.")]
Speculation = Annotated[str, typer.Option(help="Of requests that say nothing: off, auto, or methods between commas.")]
SpeculationAllowed = Annotated[
    bool, typer.Option(" /--no-speculation", help="No request may speculate.", show_default=False)
]
SuffixSharing = Annotated[
    bool,
    typer.Option(
        "--suffix-sharing",
        help="Let suffix learn from answers for later requests of the same cache_salt; each tenant must have its own.",
    ),
]
SpeculationMaxTokens = Annotated[int, typer.Option(help="The most drafted tokens of one request in one step.")]
Draft = Annotated[
    str | None, typer.Option(help="Folder or hub id of a smaller model that drafts (method `draft`).", metavar="PATH")
]
Eagle = Annotated[
    str | None,
    typer.Option(
        help="Folder or hub id of an EAGLE head, of any kind, for the model (method `eagle`).", metavar="PATH"
    ),
]
Medusa = Annotated[
    str | None, typer.Option(help="Folder or hub id of Medusa heads for the model (method `medusa`).", metavar="PATH")
]


def fail(message: str) -> NoReturn:
    """Ends the command with one line on standard error and status 1."""
    typer.echo(f"outrider: {message}", err=True)
    raise typer.Exit(1)


def parse_memory(text: str) -> int | None:
    """Bytes of `512M`, `4G`, `4GiB` or a plain number; None for `auto`."""
    if text.strip().lower() == "auto":
        return None
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if found is None:
        fail(f"--kv-memory {text} is not a size: write 512M, 4G or auto")
    return int(float(found[1]) * MEMORY_UNITS[found[2]])


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def demo_if_none(model: str | None) -> str:
    """The folder of the model; the embedded one when none is named."""
    if model is not None:
        return model
    from outrider.demo import target_path

    return str(target_path())


Speculators = tuple[str | None, str | None, str | None]


def with_demo_speculators(model: str | None, *named: str | None) -> Speculators:
    """Draft model, EAGLE head and Medusa heads as named; with no model and none of them named, the embedded ones."""
    draft, eagle, medusa = named
    if model is not None or any(named):
        return draft, eagle, medusa
    from outrider.demo import speculator_path

    return str(speculator_path("draft")), str(speculator_path("eagle3")), str(speculator_path("medusa"))


def wait_passively() -> None:
    """Lets threads that wait for each other sleep; call it before torch is imported.

    By default they spin, and on processors that another process uses too a step then takes up to 40 times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
