"""Speculators that were made for another target are refused."""

from dataclasses import replace

import pytest
import torch

from outrider.speculative.eagle import EagleConfig, EagleHead
from outrider.speculative.eagle3 import Eagle3Config, Eagle3Head
from outrider.speculative.files import CheckpointError
from outrider.speculative.fit import TargetShape, check_eagle, check_medusa
from outrider.speculative.medusa import MedusaConfig, MedusaHeads

TARGET = TargetShape("the-target", hidden_size=16, vocab_size=50, num_layers=4)
LAYER = {
    "hidden_size": 16,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 50,
}
EAGLE = EagleHead(EagleConfig(**LAYER))
EAGLE3 = Eagle3Head(Eagle3Config(**LAYER, target_hidden_size=16, draft_vocab_size=20, tap_layers=(1, 2, 3)))


@pytest.mark.parametrize("head", [EAGLE, EAGLE3])
@pytest.mark.parametrize(
    ("target", "said"),
    [
        (replace(TARGET, hidden_size=32), "`folder` has hidden size 16, the target `the-target` has 32"),
        (replace(TARGET, vocab_size=51), "`folder` has vocabulary size 50, the target `the-target` has 51"),
    ],
)
def test_heads_of_other_sizes_are_refused(head: EagleHead | Eagle3Head, target: TargetShape, said: str) -> None:
    """Naming both sides; one that fits passes."""
    check_eagle(head, "folder", TARGET)

    with pytest.raises(CheckpointError, match=said):
        check_eagle(head, "folder", target)


def test_layers_that_the_target_does_not_have_are_refused() -> None:
    """A head without taps reads none."""
    shallow = replace(TARGET, num_layers=3)
    check_eagle(EAGLE, "folder", shallow)

    with pytest.raises(CheckpointError, match=r"reads the layers \(1, 2, 3\), the target `the-target` has 3"):
        check_eagle(EAGLE3, "folder", shallow)


@pytest.mark.parametrize(
    ("config", "highest", "said"),
    [
        (MedusaConfig(32), None, "hidden size 32, the target `the-target` has 16"),
        (MedusaConfig(16, output_size=51), None, "vocabulary size 51, the target `the-target` has 50"),
        (MedusaConfig(16, output_size=2, has_token_map=True), 50, "tokens up to 50, the target `the-target` has 50"),
    ],
)
def test_medusa_heads_of_other_sizes_are_refused(config: MedusaConfig, highest: int | None, said: str) -> None:
    """Hidden states, output layers, and ids in a token map."""
    heads = MedusaHeads(config)
    if highest is not None:
        heads.token_map = torch.tensor([3, highest])

    with pytest.raises(CheckpointError, match=said):
        check_medusa(heads, "folder", TARGET)


@pytest.mark.parametrize(
    "config",
    [MedusaConfig(16), MedusaConfig(16, output_size=50), MedusaConfig(16, output_size=2, has_token_map=True)],
)
def test_medusa_heads_that_fit_pass(config: MedusaConfig) -> None:
    """With the target's output layer, with their own, and with some tokens only."""
    check_medusa(MedusaHeads(config), "folder", TARGET)
