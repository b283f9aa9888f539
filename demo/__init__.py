"""The embedded demo family: a target, a speculator of each kind trained for it, and the recipe that made them."""

from pathlib import Path


def target_path() -> Path:
    """The folder of the embedded target, in a checkout as well as in an installed package."""
    return Path(__file__).parent / "target"


def speculator_path(kind: str) -> Path:
    """The folder of the embedded speculator of a kind: `draft`, `eagle3` or `medusa`."""
    return Path(__file__).parent / kind
