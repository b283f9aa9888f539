"""Deterministic automata over characters, from expressions that the pattern parser or our own code puts together.

The grammar library has regular expressions of its own, but some of them (an optional part that ends in a loop, a
repeated part that may be empty) match more than they say. A deterministic automaton leaves it nothing to get wrong, and
makes the masks of ambiguous patterns as cheap as those of plain ones.

Thompson's construction, subset construction, then merging of equal states until none are left.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from outrider.structured.characters import Ranges, one_of, union

MAX_STATES: Final = 1000


class TooComplexError(ValueError):
    """The automaton has more states than a grammar should."""


@dataclass(frozen=True, slots=True)
class Characters:
    """Any one character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequenced:
    """Parts one after another; none is the empty text."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Either:
    """One of the parts."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Repeated:
    """A part `least` to `most` times, without end when `most` is None."""

    part: "Expression"
    least: int
    most: int | None


Expression = Characters | Sequenced | Either | Repeated


def literal(text: str) -> Expression:
    """Exactly this text."""
    return Sequenced(tuple(Characters(one_of(character)) for character in text))


def is_empty(expression: Expression) -> bool:
    """Whether no text matches."""
    match expression:
        case Characters(ranges):
            return not ranges
        case Sequenced(parts):
            return any(is_empty(part) for part in parts)
        case Either(parts):
            return all(is_empty(part) for part in parts)
        case Repeated(part, least, _):
            return least > 0 and is_empty(part)


def num_positions(expression: Expression) -> int:
    """Characters of the expression with its repetitions written out: about the states of its automaton."""
    match expression:
        case Characters():
            return 1
        case Sequenced(parts) | Either(parts):
            return sum(num_positions(part) for part in parts)
        case Repeated(part, least, most):
            return num_positions(part) * max(1, least, most or 0)


@dataclass(frozen=True, slots=True)
class Automaton:
    """States are indices, 0 is the start; from every state an accepting one can be reached."""

    transitions: tuple[dict[int, Ranges], ...]  # by state: where to, over which characters
    accepting: frozenset[int]

    @property
    def is_empty(self) -> bool:
        """Whether no text is accepted."""
        return not self.accepting

    def accepts(self, text: str) -> bool:
        """Whether the automaton accepts the whole text."""
        state = 0
        for character in text:
            code = ord(character)
            targets = self.transitions[state].items()
            following = next((to for to, ranges in targets if any(a <= code <= b for a, b in ranges)), None)
            if following is None:
                return False
            state = following
        return state in self.accepting


def build(expression: Expression) -> Automaton:
    """The smallest automaton for an expression. Raises TooComplexError."""
    thompson = _Thompson()
    start, end = thompson.add(expression)
    return _minimal(*thompson.determinised(start, end))


@dataclass(slots=True)
class _Thompson:
    """A nondeterministic automaton under construction: every part has one way in and one way out."""

    empty: list[list[int]] = field(default_factory=list)  # by state: where one gets without a character
    moves: list[tuple[Ranges, int] | None] = field(default_factory=list)  # by state: at most one move

    def state(self) -> int:
        if len(self.empty) >= MAX_STATES * 8:
            raise TooComplexError
        self.empty.append([])
        self.moves.append(None)
        return len(self.empty) - 1

    def add(self, expression: Expression) -> tuple[int, int]:
        match expression:
            case Characters(ranges):
                start, end = self.state(), self.state()
                self.moves[start] = (ranges, end)
                return start, end
            case Sequenced(parts):
                start = end = self.state()
                for part in parts:
                    end = self.attach(end, part)
                return start, end
            case Either(parts):
                start, end = self.state(), self.state()
                for part in parts:
                    self.empty[self.attach(start, part)].append(end)
                return start, end
            case Repeated(part, least, most):
                start = before = self.state()
                for _ in range(least):
                    before = self.attach(before, part)
                end = self.state()
                if most is None:
                    loop = self.state()
                    self.empty[before].append(loop)
                    self.empty[self.attach(loop, part)].append(loop)
                    before = loop
                for _ in range((most or 0) - least):
                    self.empty[before].append(end)
                    before = self.attach(before, part)
                self.empty[before].append(end)
                return start, end

    def attach(self, before: int, part: Expression) -> int:
        """Put a part behind a state; returns the state behind the part."""
        start, end = self.add(part)
        self.empty[before].append(start)
        return end

    def closure(self, states: frozenset[int]) -> frozenset[int]:
        reached = set(states)
        waiting = list(states)
        while waiting:
            for state in self.empty[waiting.pop()]:
                if state not in reached:
                    reached.add(state)
                    waiting.append(state)
        return frozenset(state for state in reached if self.moves[state] is not None or not self.empty[state])

    def determinised(self, start: int, end: int) -> tuple[list[dict[int, Ranges]], set[int]]:
        first = self.closure(frozenset({start}))
        numbers = {first: 0}
        waiting = [first]
        transitions: list[dict[int, Ranges]] = []
        accepting = set()
        for states in waiting:  # grows
            if end in states:
                accepting.add(numbers[states])
            moves = [move for state in states if (move := self.moves[state]) is not None]
            found: dict[int, list[tuple[int, int]]] = {}
            for span, targets in _split(moves):
                following = self.closure(targets)
                if following not in numbers:
                    if len(numbers) >= MAX_STATES:
                        raise TooComplexError
                    numbers[following] = len(numbers)
                    waiting.append(following)
                found.setdefault(numbers[following], []).append(span)
            transitions.append({to: union(tuple(spans)) for to, spans in found.items()})
        return transitions, accepting


def _split(moves: Sequence[tuple[Ranges, int]]) -> list[tuple[tuple[int, int], frozenset[int]]]:
    """Cut overlapping character sets into spans that lead to one set of states each."""
    bounds = sorted({bound for ranges, _ in moves for first, last in ranges for bound in (first, last + 1)})
    targets: list[set[int]] = [set() for _ in bounds]
    for ranges, to in moves:
        for first, last in ranges:
            for index in range(bisect_right(bounds, first) - 1, bisect_right(bounds, last)):
                targets[index].add(to)
    spans = zip(bounds, bounds[1:], targets, strict=False)
    return [((first, after - 1), frozenset(states)) for first, after, states in spans if states]


def _minimal(transitions: list[dict[int, Ranges]], accepting: set[int]) -> Automaton:
    """Drop states that lead nowhere and merge those that cannot be told apart."""
    alive = _distances(transitions, accepting)
    if 0 not in alive:
        return Automaton(({},), frozenset())
    # States at different distances from the end differ, which settles most of it at once.
    groups = [alive.get(state, -1) for state in range(len(transitions))]
    count = 0
    while True:
        keys: dict[tuple[int, frozenset[tuple[int, Ranges]]], int] = {}
        refined = [-1] * len(transitions)
        for state in sorted(alive):  # 0 first, so that its group is 0
            outgoing = frozenset(_by_group(transitions[state], groups).items())
            refined[state] = keys.setdefault((groups[state], outgoing), len(keys))
        if len(keys) == count:
            break
        groups, count = refined, len(keys)
    merged = {groups[state]: _by_group(transitions[state], groups) for state in alive}
    return Automaton(tuple(merged[group] for group in range(count)), frozenset(groups[state] for state in accepting))


def _by_group(moves: dict[int, Ranges], groups: list[int]) -> dict[int, Ranges]:
    """Moves between groups; those to states that lead nowhere are left out."""
    merged: dict[int, list[Ranges]] = {}
    for to, ranges in moves.items():
        if groups[to] >= 0:
            merged.setdefault(groups[to], []).append(ranges)
    return {group: union(*sets) for group, sets in merged.items()}


def _distances(transitions: list[dict[int, Ranges]], accepting: set[int]) -> dict[int, int]:
    """For each state from which an accepting one can be reached: in how many steps."""
    sources: list[list[int]] = [[] for _ in transitions]
    for state, moves in enumerate(transitions):
        for to in moves:
            sources[to].append(state)
    distances = dict.fromkeys(accepting, 0)
    waiting = deque(accepting)
    while waiting:
        reached = waiting.popleft()
        for state in sources[reached]:
            if state not in distances:
                distances[state] = distances[reached] + 1
                waiting.append(state)
    return distances
