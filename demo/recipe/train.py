"""The recipe's target: `python -P -m outrider.demo.recipe.train` trains it from nothing on two CPU cores.

Owns the model's shape, the batches, the optimisers and the schedule. Text, tokenizer, measuring and the
files of a checkpoint are in their own modules. The seed fixes text, order and first weights; the number of
steps follows from the time allowed, so a faster or less busy machine makes a somewhat better model.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from outrider.demo import target_path
from outrider.demo.recipe.files import save_checkpoint
from outrider.demo.recipe.mixture import examples
from outrider.demo.recipe.tokenizer import VOCAB_SIZE, encode_example, train_tokenizer
from outrider.speculative.training.copying import HEAD_DIM, ROPE_THETA, install_copying
from outrider.speculative.training.steps import Batch, collate, descend, grouped, optimisers, save_state

_TOKENIZER_EXAMPLES: Final = 30_000
_SAVE_EVERY_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a run can be told. How the embedded checkpoint was made stands in its model card."""

    minutes: float = 600.0
    seed: int = 1
    num_threads: int = 2
    batch_tokens: int = 4096
    pool_examples: int = 2048
    matrix_rate: float = 0.007
    vector_rate: float = 7e-4
    warmup: float = 0.01
    # Copying comes first: for this time many texts are to be repeated, and some of each prompt is learned too, as keys
    # that a schema repeats teach to copy.
    childhood_minutes: float = 5.0
    repetitions: float = 0.1
    prompt_share: float = 0.25
    cooldown: float = 0.4


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did, over all its parts if it was interrupted."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0


def build_model(seed: int) -> LlamaForCausalLM:
    """The untrained model in float32, able to copy."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=HEAD_DIM,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    install_copying(model, seed)
    return model


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int, *, child: bool) -> Iterator[Batch]:
    """Yields batches without end: examples of similar length together, each batch about as many tokens.

    Every example stands alone in its row, so no attention crosses from one to another.
    """
    pieces = sorted(token for token in tokenizer.get_vocab() if token.isascii() and token.isalpha() and token.islower())
    stream = examples(seed, repetitions=recipe.repetitions if child else 0.0, pieces=pieces)
    order = torch.Generator().manual_seed(seed)
    while True:
        pool = [encode_example(tokenizer, example) for example in itertools.islice(stream, recipe.pool_examples)]
        groups = grouped({index: len(sample.token_ids) for index, sample in enumerate(pool)}, recipe.batch_tokens)
        for index in torch.randperm(len(groups), generator=order).tolist():
            batch = collate([pool[member] for member in groups[index]])
            if child:
                chosen = (torch.rand(batch.ids.shape, generator=order) < recipe.prompt_share) & (batch.ids != 0)
                batch = Batch(batch.ids, batch.learned | chosen)
            yield batch


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the learned positions; logits are computed for those alone."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(
            input_ids=batch.ids[:, :-1], use_cache=False
        ).last_hidden_state  # (batch, length - 1, hidden)
        learned = batch.learned[:, 1:]  # (batch, length - 1)
        logits = model.lm_head(hidden[learned])  # (num_learned, vocab)
    return cross_entropy(logits.float(), batch.ids[:, 1:][learned])


class Trainer:
    """A model, its optimisers and how far they are; saved whole, so that a run goes on where it was stopped."""

    def __init__(self, model: LlamaForCausalLM, recipe: Recipe) -> None:
        self.model = model
        self.summary = Summary()
        self._recipe = recipe
        self._optimisers = optimisers(model, recipe.matrix_rate, recipe.vector_rate)

    def step(self, batch: Batch) -> float:
        """One step; the loss before it."""
        start = time.monotonic()
        loss = loss_of(self.model, batch)
        loss.backward()
        progress = self.summary.seconds / (self._recipe.minutes * 60)
        descend(self.model, self._optimisers, _schedule(progress, self._recipe))
        tokens = int((batch.ids != 0).sum())
        seconds = time.monotonic() - start
        self.summary = Summary(self.summary.steps + 1, self.summary.tokens + tokens, self.summary.seconds + seconds)
        return loss.item()

    def save(self, path: Path) -> None:
        """Writes everything that `load` needs, whole or not at all."""
        optimisers = [optimiser.state_dict() for optimiser in self._optimisers]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state({"model": self.model.state_dict(), "optimisers": optimisers, "summary": asdict(self.summary)}, path)

    def load(self, path: Path) -> None:
        """Goes on where `save` was."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.summary = Summary(**state["summary"])


def train(
    trainer: Trainer, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, state: Path, report: Callable[[float], None]
) -> None:
    """Trains until the time is over; `report` hears every step's loss; `state` is written every five minutes."""

    # A run that goes on reads other text than the part before it.
    def stream(*, child: bool) -> Iterator[Batch]:
        return batches(tokenizer, recipe, recipe.seed + trainer.summary.steps, child=child)

    trainer.model.train()
    saved = trainer.summary.seconds
    child = trainer.summary.seconds < recipe.childhood_minutes * 60
    source = stream(child=child)
    while trainer.summary.seconds < recipe.minutes * 60:
        if child and trainer.summary.seconds >= recipe.childhood_minutes * 60:
            child, source = False, stream(child=False)
        report(trainer.step(next(source)))
        if trainer.summary.seconds - saved > _SAVE_EVERY_S:
            trainer.save(state)
            saved = trainer.summary.seconds
    trainer.save(state)


def main() -> None:
    """Trains tokenizer and model and writes the checkpoint."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(description="Rebuild the demo target.")
    parser.add_argument("--minutes", type=float, default=defaults.minutes, help="time to train (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, default=defaults.num_threads)
    parser.add_argument("--out", type=Path, default=target_path(), help="folder to write or replace")
    parser.add_argument("--state", type=Path, help="file to keep progress in, and to go on from (default: OUT.state)")
    parser.add_argument("--tokenizer", type=Path, help="folder with the tokenizer to use (default: train one)")
    arguments = parser.parse_args()
    recipe = Recipe(minutes=arguments.minutes, seed=arguments.seed, num_threads=arguments.threads)
    state = arguments.state or arguments.out.with_suffix(".state")
    console = Console()
    torch.set_num_threads(recipe.num_threads)

    if arguments.tokenizer:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.tokenizer)
    else:
        texts = itertools.islice(examples(recipe.seed), _TOKENIZER_EXAMPLES)
        tokenizer = train_tokenizer(message.content for example in texts for message in example.messages)
    trainer = Trainer(build_model(recipe.seed), recipe)
    if state.exists():
        trainer.load(state)
        console.print(f"going on after {trainer.summary.steps} steps")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=recipe.minutes * 60)

        def report(loss: float) -> None:
            summary = trainer.summary
            rate = summary.tokens / summary.seconds
            line = f"step {summary.steps}  loss {loss:.3f}  {summary.tokens / 1e6:.2f}M tokens  {rate:.0f}/s"
            progress.update(task, completed=summary.seconds, description=line)
            if summary.steps % 100 == 0:
                progress.console.print(line)

        train(trainer, tokenizer, recipe, state, report)
    save_checkpoint(trainer.model.bfloat16(), tokenizer, arguments.out)
    console.print(f"{trainer.summary}, saved to {arguments.out}")


def _schedule(progress: float, recipe: Recipe) -> float:
    """Linear warm-up, a plateau, then linearly down to a hundredth."""
    if progress < recipe.warmup:
        return (progress + 1e-3) / recipe.warmup
    return max(0.01, min(1.0, (1.0 - progress) / recipe.cooldown))


if __name__ == "__main__":
    main()
