"""Span attributes before they are sent, and what of them can be sent.

One value that cannot be encoded costs the whole batch of up to 512 spans, and clients choose some of the values.
"""

from typing import TypeAlias

AttributeValue: TypeAlias = str | bool | int | float | list[str] | list[int]
Attributes: TypeAlias = dict[str, AttributeValue | None]

_MAX_TEXT = 1024  # characters


def sendable(attributes: Attributes) -> dict[str, AttributeValue]:
    """Leaves out what is None (the SDK would send it) or beyond OTLP's signed 64 bits, and mends the strings."""
    return {
        name: _sendable_value(value)
        for name, value in attributes.items()
        if value is not None and not (isinstance(value, int) and not -(2**63) <= value < 2**63)
    }


def sendable_text(text: str) -> str:
    """At most 1024 characters, and no lone surrogate, which a client's JSON or header may hold and UTF-8 may not."""
    text = text[:_MAX_TEXT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _sendable_value(value: AttributeValue) -> AttributeValue:
    if isinstance(value, str):
        return sendable_text(value)
    if isinstance(value, list):
        return [sendable_text(one) if isinstance(one, str) else one for one in value]  # type: ignore[return-value]
    return value
