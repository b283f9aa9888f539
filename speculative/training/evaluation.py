"""How many tokens a target's step emits with each speculator: measured on greedy answers, without a server.

Owns the measurement. The target's own greedy answer is generated once; then each speculator drafts at each place where
a step of the target would stand, and the drafts are compared with the answer. As every token is the target's own, this
is what a server emits, whatever its speed.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from rich.table import Table

from outrider.speculative.limits import MAX_NODES
from outrider.speculative.match import match
from outrider.speculative.proposer import Draft
from outrider.speculative.training.samples import Prompt
from outrider.speculative.training.target import Features, Target
from outrider.speculative.tree import merge


@dataclass(slots=True)
class Emitted:
    """Answer tokens and the target's steps for them; `accepted[i]` steps accepted at least i + 1 drafted tokens."""

    tokens: int = 0
    steps: int = 0
    accepted: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def per_step(self) -> float:
        """Mean emitted tokens per step of the target, its own token included; 1.0 without speculation."""
        return self.tokens / max(1, self.steps)

    def add(self, num_accepted: int) -> None:
        """Counts one step."""
        self.steps += 1
        self.tokens += num_accepted + 1
        for place in range(num_accepted):
            self.accepted[place] += 1


class Drafter(Protocol):
    """Drafts along one answer; called with growing prefixes of it."""

    def start(self, token_ids: Sequence[int], features: Features) -> None:
        """A new answer: prompt and answer, and the target's features of them (1, length, ...)."""
        ...

    def draft(self, length: int) -> list[int]:
        """What may follow the first `length` tokens."""
        ...


def measure(
    target: Target,
    drafters: Mapping[str, Drafter],
    prompts: Sequence[Prompt],
    *,
    tap_layers: Sequence[int] = (),
    max_new_tokens: int = 256,
    on_prompt: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Emitted]]:
    """Emitted tokens by drafter and by the prompts' kind."""
    table: dict[str, dict[str, Emitted]] = {name: defaultdict(Emitted) for name in drafters}
    answers = target.generate([prompt.token_ids for prompt in prompts], max_new_tokens)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = [*prompt.token_ids, *answer]
        features = target.observe(torch.tensor([ids], device=target.device), tap_layers)
        for name, drafter in drafters.items():
            drafter.start(ids, features)
            # The first token of an answer comes with the prompt, before anything is drafted.
            length = len(prompt.token_ids) + 1
            while length < len(ids):
                following = ids[length:]
                draft = Draft(tuple(drafter.draft(length)[: len(following) - 1]))
                emitted = len(match(merge({name: draft}, MAX_NODES), following)[0])
                table[name][prompt.kind].add(emitted - 1)
                length += emitted
        on_prompt()
    return table


def as_figures(table: Mapping[str, Mapping[str, Emitted]]) -> dict[str, dict[str, dict[str, object]]]:
    """The figures as plain data, with the total of all kinds under `overall`."""
    return {
        name: {
            kind: {
                "tokens": emitted.tokens,
                "steps": emitted.steps,
                "tokens_per_step": round(emitted.per_step, 3),
                "acceptance": [
                    round(count / max(1, emitted.steps), 3) for _, count in sorted(emitted.accepted.items())
                ],
            }
            for kind, emitted in [*sorted(kinds.items()), ("overall", overall(kinds))]
        }
        for name, kinds in table.items()
    }


def as_table(table: Mapping[str, Mapping[str, Emitted]], num_tokens: int) -> Table:
    """Mean emitted tokens per step: a row for each kind, a column for each drafter."""
    shown = Table("prompts", *table, title=f"emitted tokens per target step, greedy, at most {num_tokens} drafted")
    kinds = sorted({kind for row in table.values() for kind in row})
    for kind in kinds:
        shown.add_row(kind, *(f"{row[kind].per_step:.2f}" for row in table.values()))
    shown.add_section()
    shown.add_row("overall", *(f"{overall(row).per_step:.2f}" for row in table.values()))
    return shown


def overall(kinds: Mapping[str, Emitted]) -> Emitted:
    """All kinds together, each step counting once."""
    total = Emitted()
    for emitted in kinds.values():
        total.tokens += emitted.tokens
        total.steps += emitted.steps
        for place, count in emitted.accepted.items():
            total.accepted[place] += count
    return total
