"""What Medusa heads learn: the target's distributions two to five tokens ahead, from its last hidden state."""

from pathlib import Path
from typing import Final

import torch

from outrider.speculative.medusa import MedusaConfig, MedusaHeads
from outrider.speculative.medusa_checkpoint import save_medusa
from outrider.speculative.training.distillation import distil
from outrider.speculative.training.loop import Outcome
from outrider.speculative.training.steps import Batch
from outrider.speculative.training.target import Target

_DECAY: Final = 0.8


class MedusaObjective:
    """Soft cross-entropy to the target, later heads weighing less; the output layer stays the target's."""

    def __init__(self, target: Target, num_heads: int, num_layers: int = 1) -> None:
        self._target = target
        self.module = MedusaHeads(MedusaConfig(target.hidden_size, num_heads, num_layers)).to(target.device)

    def outcome(self, batch: Batch) -> Outcome:
        """The loss over all heads; hits and trials of shape (num_heads,)."""
        device = self._target.device
        num_heads = self.module.config.num_heads
        ids, learned = batch.ids.to(device), batch.learned.to(device)
        last = self._target.observe(ids).last
        rows, places = learned[:, 1:].nonzero(as_tuple=True)  # token p + 1 is learned: the target's guess stands at p
        total = torch.zeros((), device=device)
        hits, trials = torch.zeros(num_heads, device=device), torch.zeros(num_heads, device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            for index, head in enumerate(self.module):
                # Head i reads place p - 1 - i and guesses what the target guesses at p.
                inside = places >= 1 + index
                taught = last[rows[inside], places[inside]]
                hidden = head(last[rows[inside], places[inside] - 1 - index])
                distilled = distil(self._target, taught, self._target.scores, hidden)
                total = total + _DECAY**index * distilled.mean
                hits[index], trials[index] = distilled.hits, inside.sum()
        return Outcome(total / sum(_DECAY**index for index in range(num_heads)), hits, trials)

    def save(self, folder: Path, card: str) -> None:
        """Writes the heads."""
        save_medusa(self.module, folder, self._target.name, card)
