"""The model card of a trained speculator: what it is for, how it was made, what it reached."""

from dataclasses import dataclass

import torch

from outrider.speculative.training.loop import Plan, Progress

_KINDS = {
    "eagle3": ("EAGLE-3 head", "https://arxiv.org/abs/2503.01840"),
    "medusa": ("Medusa heads", "https://arxiv.org/abs/2401.10774"),
    "draft": ("draft model", "https://arxiv.org/abs/2211.17192"),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a speculator comes from, in the words of its card."""

    kind: str
    target: str
    data: str
    num_samples: int
    num_parameters: int
    licence: str = ""


def write_card(origin: Origin, plan: Plan, progress: Progress) -> str:
    """Markdown with the front matter that model hubs read."""
    name, paper = _KINDS[origin.kind]
    shares = ", ".join(f"{share:.3f}" for share in progress.acceptance)
    minutes = "" if plan.minutes is None else f", at most {plan.minutes:g} minutes"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"""---
base_model: {origin.target}
{f"license: {origin.licence}" if origin.licence else "tags: [speculative-decoding]"}
---

# {name} for {origin.target}

A [{name}]({paper}) of {origin.num_parameters / 1e6:.2f} million parameters for speculative decoding with the target
`{origin.target}`. It guesses tokens that the target then checks; it cannot change what the target says.

| | |
|---|---|
| data | {origin.data}, {origin.num_samples} samples |
| plan | {plan.epochs} epochs{minutes}, batches of {plan.batch_tokens} tokens, seed {plan.seed} |
| done | {progress.step} of {progress.num_steps} steps, {progress.tokens} tokens, {progress.seconds:.0f} s ({device}) |
| loss at the end | {progress.loss:.4f} |
| guesses that were the target's own, by place | {shares} |

Made with `outrider train {origin.kind}`; `outrider train evaluate` measures how many tokens a step emits with it.

Limits: it is of use for this target only, and for text like its training data; elsewhere fewer guesses are right.
"""
