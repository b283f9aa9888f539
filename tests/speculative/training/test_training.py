"""Training: what is learned is what drafting needs, stopped runs go on, nothing whole is ever lost."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_target import counting

from outrider.speculative.eagle import EagleConfig, EagleHead
from outrider.speculative.eagle_checkpoint import load_eagle
from outrider.speculative.medusa_checkpoint import load_medusa
from outrider.speculative.training import loop
from outrider.speculative.training.draft import DraftObjective
from outrider.speculative.training.drafters import EagleDrafter, MedusaDrafter, ModelDrafter
from outrider.speculative.training.eagle3 import DEPTH, Eagle3Objective, frequent_tokens, unroll
from outrider.speculative.training.evaluation import measure
from outrider.speculative.training.loop import Objective, Plan, Progress, Run
from outrider.speculative.training.medusa import MedusaObjective
from outrider.speculative.training.samples import Prompt, Sample
from outrider.speculative.training.target import Target

PLAN = Plan(epochs=2, batch_tokens=128, seed=3)
NUM_ANSWER = 16


@pytest.fixture(scope="module")
def samples(target: Target) -> list[Sample]:
    """What the target says to twelve prompts: it counts on."""
    prompts = [[3, *counting(5 * number, 9), 1, 4] for number in range(12)]
    answers = target.generate(prompts, NUM_ANSWER)
    return [
        Sample([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def objective(kind: str, target: Target, samples: list[Sample]) -> Objective:
    torch.manual_seed(1)
    makers: dict[str, Callable[[], Objective]] = {
        "eagle3": lambda: Eagle3Objective(target, samples, 128),
        "medusa": lambda: MedusaObjective(target, 4),
        "draft": lambda: DraftObjective(target, 64, 2, seed=1),
    }
    return makers[kind]()


def asked(samples: list[Sample]) -> list[Prompt]:
    return [Prompt(sample.token_ids[: sample.learned.index(True)]) for sample in samples]


def quiet(_: Progress) -> None:
    """No report."""


def weights(learner: Objective) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.module.state_dict().items()}


KINDS = pytest.mark.parametrize("kind", ["eagle3", "medusa", "draft"])


@KINDS
def test_training_lowers_the_loss(kind: str, target: Target, samples: list[Sample], tmp_path: Path) -> None:
    """On the same few samples, well below the start."""
    learner = objective(kind, target, samples)
    batch = loop.collate(samples)
    before = learner.outcome(batch).loss.item()

    Run(learner, samples, Plan(epochs=20, batch_tokens=128), tmp_path).train(quiet)

    assert learner.outcome(batch).loss.item() < 0.8 * before


@KINDS
def test_a_stopped_run_ends_with_the_same_weights(
    kind: str, target: Target, samples: list[Sample], tmp_path: Path
) -> None:
    """Stopped in the middle of an epoch and gone on in a new process, bit for bit."""
    whole = objective(kind, target, samples)
    Run(whole, samples, PLAN, tmp_path).train(quiet)
    stopped, other = objective(kind, target, samples), tmp_path / "other"
    other.mkdir()
    checks = iter([False, False, False, True])

    assert Run(stopped, samples, PLAN, other).train(quiet, should_stop=lambda: next(checks)) is None
    resumed = objective(kind, target, samples)
    run = Run(resumed, samples, PLAN, other)

    assert run.resume() == 3
    run.train(quiet)
    expected = weights(whole)
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(resumed).items())


def test_a_stopped_run_of_other_data_is_refused(target: Target, samples: list[Sample], tmp_path: Path) -> None:
    """Going on with other samples would end with weights that no seed explains."""
    Run(objective("medusa", target, samples), samples, PLAN, tmp_path).save()
    run = Run(objective("medusa", target, samples), samples[:6], PLAN, tmp_path)

    with pytest.raises(ValueError, match="other data or options"):
        run.resume()


@KINDS
def test_a_full_disk_leaves_the_checkpoint_before(
    kind: str, target: Target, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are written beside their places first."""
    learner = objective(kind, target, samples)
    learner.save(tmp_path, "first")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        objective(kind, target, samples).save(tmp_path, "second")

    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_loss_that_is_no_number_stops_the_run(
    target: Target, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are not numbers are never saved."""
    learner = objective("medusa", target, samples)
    nothing = loop.Outcome(torch.tensor(float("nan")), torch.zeros(4), torch.zeros(4))
    monkeypatch.setattr(learner, "outcome", lambda _: nothing)

    with pytest.raises(FloatingPointError, match="step 1"):
        Run(learner, samples, PLAN, tmp_path).train(quiet)


def test_a_run_that_is_over_is_finished_without_learning(target: Target, samples: list[Sample], tmp_path: Path) -> None:
    """Its last figures are those of its card, when the disk was full the first time."""
    done = Run(objective("medusa", target, samples), samples, PLAN, tmp_path).train(quiet)
    again = Run(objective("medusa", target, samples), samples, PLAN, tmp_path)
    again.resume()

    assert done == again.train(quiet)


def test_large_vocabularies_are_distilled_in_pieces(
    target: Target, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the loss and the gradients of one piece."""
    batch = loop.collate(samples)
    figures = []
    for piece in (2**25, 5 * target.vocab_size):
        monkeypatch.setattr("outrider.speculative.training.distillation._PIECE", piece)
        learner = objective("eagle3", target, samples)
        outcome = learner.outcome(batch)
        outcome.loss.backward()
        gradient = next(iter(learner.module.parameters())).grad
        assert gradient is not None
        figures.append((outcome.loss.item(), gradient.norm().item(), outcome.hits.tolist()))

    assert figures[0][2] == figures[1][2]
    assert figures[0][:2] == pytest.approx(figures[1][:2], rel=1e-2)


def test_few_samples_are_read_often(samples: list[Sample]) -> None:
    """Three readings of two hundred samples would teach nothing."""
    few = loop.with_enough_epochs(Plan(batch_tokens=128), samples)
    many = loop.with_enough_epochs(Plan(batch_tokens=1), samples * 100)

    assert few.epochs * 3 >= 300
    assert many.epochs == 3


def test_a_time_limit_ends_a_run(target: Target, samples: list[Sample], tmp_path: Path) -> None:
    """The schedule follows the clock then, so that the last step is a small one."""
    plan = Plan(epochs=100_000, batch_tokens=128, minutes=0.01)

    progress = Run(objective("medusa", target, samples), samples[:3], plan, tmp_path).train(quiet)

    assert 0 < progress.step < 100_000


def test_training_unrolls_as_drafting_does(target: Target, samples: list[Sample]) -> None:
    """At every start and depth the output is that of a head which drafted the same tokens one by one."""
    learner = objective("eagle3", target, samples)
    head = learner.module
    ids = torch.tensor([samples[0].token_ids])
    taps = target.observe(ids, head.config.tap_layers)
    drafter = EagleDrafter(head, target, DEPTH)
    drafter.start(samples[0].token_ids, taps)
    first = 5

    with torch.no_grad():
        outputs = [(hidden[0], starts) for hidden, starts in unroll(head, target.embedding, ids, taps.taps, first)]

    for start in range(first, ids.shape[1] - 2 - DEPTH):
        expected = drafter.outputs(start, samples[0].token_ids[start + 2 :])
        for depth, (hidden, starts) in enumerate(outputs):
            row = int((starts == start).nonzero())
            torch.testing.assert_close(hidden[row], expected[depth])


def test_the_draft_vocabulary_is_what_answers_use() -> None:
    """Prompts do not count; ties and gaps go to the lowest ids."""
    samples = [Sample([9, 9, 9, 7, 7, 5], [False] * 3 + [True] * 3)]

    assert frequent_tokens(samples, 10, 4).tolist() == [0, 1, 5, 7]


def test_a_draft_that_is_the_target_is_always_right(target: Target, samples: list[Sample]) -> None:
    """Every step emits the drafted tokens and one more, up to the end of the answer."""
    drafters = {"draft": ModelDrafter(target.model, 3)}

    table = measure(target, drafters, asked(samples), max_new_tokens=NUM_ANSWER)["draft"]["all"]

    assert table.tokens == sum(sum(sample.learned) - 1 for sample in samples)
    assert table.steps == sum(-(-(sum(sample.learned) - 1) // 4) for sample in samples)


def test_an_eagle1_head_drafts_with_the_targets_output_layer(target: Target, samples: list[Sample]) -> None:
    """One that hands on the hidden state it reads drafts what the target says there, again and again."""
    size = target.hidden_size
    shape = {"hidden_size": size, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    head = EagleHead(EagleConfig(**shape, head_dim=8, vocab_size=target.vocab_size))
    state = {name: torch.zeros_like(tensor) for name, tensor in head.state_dict().items()}
    head.load_state_dict({**state, "fc.weight": torch.cat((torch.zeros(size, size), torch.eye(size)), dim=1)})
    ids = samples[0].token_ids
    features = target.observe(torch.tensor([ids]))
    drafter = EagleDrafter(head, target, 3)
    drafter.start(ids, features)

    assert 3 * [int(target.logits(features.last[0, 6]).argmax())] == drafter.draft(8)


@KINDS
def test_a_trained_speculator_beats_an_untrained_one(
    kind: str, target: Target, samples: list[Sample], tmp_path: Path
) -> None:
    """By the measure that users see, from the files that they load."""
    emitted = []
    for epochs in (0, 30):
        learner = objective(kind, target, samples)
        run = Run(learner, samples, Plan(epochs=epochs, batch_tokens=128), tmp_path)
        if epochs:
            run.train(quiet)
        run.finish("card")
        drafter = {
            "eagle3": lambda: EagleDrafter(load_eagle(tmp_path, target.num_layers), target, 4),
            "medusa": lambda: MedusaDrafter(load_medusa(tmp_path), target, 4),
            "draft": lambda: ModelDrafter(type(target.model).from_pretrained(tmp_path), 4),
        }[kind]()
        taps = learner.module.config.tap_layers if kind == "eagle3" else ()
        table = measure(target, {kind: drafter}, asked(samples), tap_layers=taps, max_new_tokens=NUM_ANSWER)
        emitted.append(table[kind]["all"].per_step)

    assert emitted[1] > emitted[0] + 0.3
