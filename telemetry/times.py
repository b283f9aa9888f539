"""Moments as text."""

from datetime import UTC, datetime


def iso(nanoseconds: int) -> str:
    """UTC with microseconds; in integers, because a float holds no nanoseconds since 1970."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
