r"""An automaton as EBNF rules.

A state that several others lead to becomes a rule; the rest are written where they are used, so that a mask finds most
of a token within one rule:

    t0 ::= "\u0022" t0_1
    t0_1 ::= "\u0022" | [\u0020\u0021\u0023-\u007e] t0_1 | "\u005c" [\u0022bfnrt] t0_1
"""

from typing import Final

from outrider.structured.automaton import Automaton
from outrider.structured.characters import Ranges

_MAX_DEPTH: Final = 32  # of states written within one another


def rules_of(automaton: Automaton, name: str) -> dict[str, str]:
    """Rules by name; the one called `name` is the start."""
    return _Writer(automaton, name).rules


class _Writer:
    def __init__(self, automaton: Automaton, name: str) -> None:
        self.automaton = automaton
        self.name = name
        self.rules: dict[str, str] = {}
        uses = [0] * len(automaton.transitions)
        for moves in automaton.transitions:
            for to in moves:
                uses[to] += 1
        self.shared = {0, *(state for state, count in enumerate(uses) if count > 1)}
        waiting = [0]
        while waiting:
            state = waiting.pop()
            rule = self.rule_name(state)
            if rule not in self.rules:
                self.rules[rule] = ""
                self.referred: list[int] = []
                self.rules[rule] = " | ".join(self.alternatives(state, 0))
                waiting.extend(self.referred)

    def rule_name(self, state: int) -> str:
        return f"{self.name}_{state}" if state else self.name

    def alternatives(self, state: int, depth: int) -> list[str]:
        """What may follow in a state; the end, when it may."""
        following = [
            f"{character_class(ranges)}{self.state(to, depth + 1)}"
            for to, ranges in self.automaton.transitions[state].items()
        ]
        return following if state not in self.automaton.accepting else [*following, '""']

    def state(self, state: int, depth: int) -> str:
        """What follows in a state, behind a character: nothing, a rule, or its alternatives."""
        if not self.automaton.transitions[state]:
            return ""
        if state in self.shared or depth > _MAX_DEPTH:
            self.referred.append(state)
            return f" {self.rule_name(state)}"
        alternatives = self.alternatives(state, depth)
        return f" {alternatives[0]}" if len(alternatives) == 1 else f" ({' | '.join(alternatives)})"


def character_class(ranges: Ranges) -> str:
    """One character of the set, in EBNF."""
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return f'"{_escaped(ranges[0][0])}"'
    spans = (_escaped(first) if first == last else f"{_escaped(first)}-{_escaped(last)}" for first, last in ranges)
    return f"[{''.join(spans)}]"


def _escaped(code: int) -> str:
    r"""A letter or digit as it is, all else with a fixed number of hexadecimal digits: `\x` would take more."""
    character = chr(code)
    if character.isascii() and character.isalnum():
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
