"""Which speculator fits which target: sizes compared before anything runs."""

from dataclasses import dataclass

from outrider.speculative.eagle import EagleHead
from outrider.speculative.eagle3 import Eagle3Head
from outrider.speculative.files import CheckpointError
from outrider.speculative.medusa import MedusaHeads


@dataclass(frozen=True, slots=True)
class TargetShape:
    """What a speculator must fit; `vocab_size` is the width of the target's logits."""

    name: str
    hidden_size: int
    vocab_size: int
    num_layers: int


def check_eagle(head: EagleHead | Eagle3Head, folder: str, target: TargetShape) -> None:
    """Refuses a head that was made for another target.

    Raises:
        CheckpointError: names both sizes.
    """
    config = head.config
    _check_same(folder, target, "hidden size", config.target_hidden_size, target.hidden_size)
    _check_same(folder, target, "hidden size", config.hidden_size, target.hidden_size)
    _check_same(folder, target, "vocabulary size", config.vocab_size, target.vocab_size)
    if not all(0 <= layer < target.num_layers for layer in config.tap_layers):
        raise CheckpointError(
            f"the speculator `{folder}` reads the layers {config.tap_layers}, the target `{target.name}` has "
            f"{target.num_layers}: use a speculator that was trained for this target"
        )


def check_medusa(heads: MedusaHeads, folder: str, target: TargetShape) -> None:
    """Refuses heads that were made for another target.

    Raises:
        CheckpointError: names both sizes.
    """
    _check_same(folder, target, "hidden size", heads.config.hidden_size, target.hidden_size)
    if heads.token_map is not None:
        highest = int(heads.token_map.max())
        if highest >= target.vocab_size:
            raise CheckpointError(
                f"the speculator `{folder}` guesses tokens up to {highest}, the target `{target.name}` has "
                f"{target.vocab_size}: use a speculator that was trained for this target"
            )
    elif heads.config.output_size is not None:
        _check_same(folder, target, "vocabulary size", heads.config.output_size, target.vocab_size)


def _check_same(folder: str, target: TargetShape, what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise CheckpointError(
            f"the speculator `{folder}` has {what} {found}, the target `{target.name}` has {wanted}: "
            "use a speculator that was trained for this target"
        )
