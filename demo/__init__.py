"""The embedded demo model: its checkpoint, and the recipe that made it."""

from pathlib import Path


def checkpoint_path() -> Path:
    """The folder of the embedded checkpoint, in a checkout as well as in an installed package."""
    return Path(__file__).parent / "checkpoint"
