"""The embedded demo model, and in `recipe/` how a demo family is made."""

from pathlib import Path


def target_path() -> Path:
    """The folder of the embedded model, in a checkout as well as in an installed package."""
    return Path(__file__).parent / "checkpoint"
