"""Choices by weight: `ngram=2,off=1` is ngram twice as often as off. Pure."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from outrider.loadtest.errors import InvalidOptionError


@dataclass(frozen=True, slots=True)
class Weighted:
    """Names and how often each is drawn, beside the others."""

    names: tuple[str, ...]
    weights: tuple[float, ...]

    def draws(self, seed: str) -> Iterator[str]:
        """Endless; the same seed draws the same names."""
        generator = random.Random(seed)  # noqa: S311 (reproducible, not secret)
        while True:
            yield from generator.choices(self.names, self.weights, k=64)


def parse_weighted(option: str, text: str) -> Weighted:
    """`a`, `a,b` or `a=2,b=1`; a name without a weight has 1. Raises InvalidOptionError that names the option."""
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if not pairs:
        raise InvalidOptionError(f"{option} {text!r}: give names, with weights where wanted: a=2,b=1")
    weights: list[float] = []
    for name, equals, weight in pairs:
        try:
            weights.append(float(weight) if equals else 1.0)
        except ValueError as error:
            raise InvalidOptionError(f"{option} {text}: the weight of {name} is no number") from error
        if not 0 < weights[-1] < math.inf:
            raise InvalidOptionError(f"{option} {text}: the weight of {name} must be above 0")
    return Weighted(tuple(name for name, _, _ in pairs), tuple(weights))
