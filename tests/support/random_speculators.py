"""Speculators of random weights that fit a target: their guesses are nonsense, so a wrong token would show."""

import json
from pathlib import Path

import torch

from outrider.speculative.eagle3 import Eagle3Config, Eagle3Head
from outrider.speculative.eagle_checkpoint import save_eagle3
from outrider.speculative.medusa import MedusaConfig, MedusaHeads
from outrider.speculative.medusa_checkpoint import save_medusa


def write_speculators(target: Path, folder: Path) -> dict[str, str]:
    """Saves an EAGLE-3 head and Medusa heads; the folder of each method, of the draft model the target's own."""
    written = json.loads((target / "config.json").read_text())
    hidden_size, vocab_size = written["hidden_size"], written["vocab_size"]
    torch.manual_seed(0)
    config = Eagle3Config(
        hidden_size=hidden_size,
        intermediate_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        target_hidden_size=hidden_size,
        vocab_size=vocab_size,
        draft_vocab_size=vocab_size,
        tap_layers=(0, 1),
    )
    save_eagle3(Eagle3Head(config), folder / "eagle", "card")
    save_medusa(MedusaHeads(MedusaConfig(hidden_size, num_heads=2)), folder / "medusa", "target", "card")
    return {"draft": str(target), "eagle": str(folder / "eagle"), "medusa": str(folder / "medusa")}
