"""Prompts of common English words, about a token each: exact lengths would need the tokenizer."""

import random

_COMMON = """
the of and a to in is you that it he was for on are as with his they I at be this have from or one had by word but not
what all were we when your can said there use an each which she do how their if will up other about out many then them
these so some her would make like him into time has look two more write go see number no way could people my than first
water been call who oil its now find long down day did get come made may part
"""
COMMON_WORDS = tuple(_COMMON.split())


def words(generator: random.Random, count: int) -> str:
    """So many, drawn evenly."""
    return " ".join(generator.choices(COMMON_WORDS, k=count))


def near(generator: random.Random, length: int, ratio: float) -> int:
    """A length drawn evenly from `length` times 1 - ratio to 1 + ratio, at least 1."""
    return max(1, generator.randint(round(length * (1 - ratio)), round(length * (1 + ratio))))
