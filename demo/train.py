"""The recipe: `python -P -m outrider.demo.train` rebuilds the demo checkpoint from nothing on two CPU cores.

Owns the model's shape, the batches, the optimisers and the schedule. Text, tokenizer, measuring and the
files of a checkpoint are in their own modules. The seed fixes text, order and first weights; the number of
steps follows from the time allowed, so a faster or less busy machine makes a somewhat better model.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from outrider.demo import checkpoint_path
from outrider.demo.evaluation import HELD_OUT_SEED, evaluate
from outrider.demo.files import save_checkpoint
from outrider.demo.text import examples
from outrider.demo.tokenizer import IGNORED, VOCAB_SIZE, encode_example, train_tokenizer

_TOKENIZER_EXAMPLES: Final = 30_000
_NUM_SAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a run can be told. How the embedded checkpoint was made stands in its model card."""

    minutes: float = 30.0
    seed: int = 1
    num_threads: int = 2
    batch_tokens: int = 4096
    pool_examples: int = 1024
    matrix_rate: float = 0.02
    vector_rate: float = 3e-3
    warmup: float = 0.02
    cooldown: float = 0.02


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded ids and labels, both of shape (batch, length)."""

    ids: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did."""

    steps: int
    tokens: int
    seconds: float


def build_model(seed: int) -> LlamaForCausalLM:
    """The untrained model in float32."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[Batch]:
    """Yields batches without end: examples of similar length together, each batch about as many tokens.

    Every example stands alone in its row, so no attention crosses from one to another.
    """
    stream = examples(recipe.seed)
    order = torch.Generator().manual_seed(recipe.seed)
    while True:
        pool = [encode_example(tokenizer, example) for example in itertools.islice(stream, recipe.pool_examples)]
        pool.sort(key=lambda pair: len(pair[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for pair in pool:
            if (len(groups[-1]) + 1) * len(pair[0]) > recipe.batch_tokens:
                groups.append([])
            groups[-1].append(pair)
        for index in torch.randperm(len(groups), generator=order).tolist():
            yield _pad(groups[index])


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the learned positions; logits are computed for those alone."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=batch.ids[:, :-1]).last_hidden_state  # (batch, length - 1, hidden)
        targets = batch.labels[:, 1:]  # (batch, length - 1)
        learned = targets != IGNORED
        logits = model.lm_head(hidden[learned])  # (num_learned, vocab)
    return cross_entropy(logits.float(), targets[learned])


def train(
    model: LlamaForCausalLM, stream: Iterator[Batch], recipe: Recipe, report: Callable[[Summary, float], None]
) -> Summary:
    """Trains in place until the time is over; `report` hears of every step and its loss."""
    # Muon learns hidden matrices in about half the steps of AdamW, which keeps the embedding and the norms.
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    vectors = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
    optimisers: tuple[torch.optim.Optimizer, ...] = (
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.01),
        torch.optim.AdamW(vectors, lr=recipe.vector_rate, betas=(0.9, 0.95), weight_decay=0.0),
    )
    rates = (recipe.matrix_rate, recipe.vector_rate)
    start = time.monotonic()
    summary = Summary(steps=0, tokens=0, seconds=0.0)
    model.train()
    while summary.seconds < recipe.minutes * 60:
        batch = next(stream)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = _schedule(summary.seconds / (recipe.minutes * 60), recipe)
        for optimiser, rate in zip(optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * scale
            optimiser.step()
            optimiser.zero_grad()
        summary = Summary(
            steps=summary.steps + 1,
            tokens=summary.tokens + int((batch.ids != 0).sum()),
            seconds=time.monotonic() - start,
        )
        report(summary, loss.item())
    return summary


def main() -> None:
    """Trains tokenizer and model, measures them on held-out text and writes the checkpoint."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(description="Rebuild the demo checkpoint.")
    parser.add_argument("--minutes", type=float, default=defaults.minutes, help="time to train (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, default=defaults.num_threads)
    parser.add_argument("--start", type=Path, help="checkpoint to go on from, with another seed, instead of nothing")
    parser.add_argument("--out", type=Path, default=checkpoint_path(), help="folder to write or replace")
    arguments = parser.parse_args()
    recipe = Recipe(minutes=arguments.minutes, seed=arguments.seed, num_threads=arguments.threads)
    console = Console()
    torch.set_num_threads(recipe.num_threads)

    if arguments.start:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.start)
        model = LlamaForCausalLM.from_pretrained(arguments.start, dtype=torch.float32)
    else:
        texts = itertools.islice(examples(recipe.seed), _TOKENIZER_EXAMPLES)
        tokenizer = train_tokenizer(message.content for example in texts for message in example.messages)
        model = build_model(recipe.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=recipe.minutes * 60)

        def report(summary: Summary, loss: float) -> None:
            rate = summary.tokens / summary.seconds
            line = f"step {summary.steps}  loss {loss:.3f}  {summary.tokens / 1e6:.2f}M tokens  {rate:.0f}/s"
            progress.update(task, completed=summary.seconds, description=line)
            if summary.steps % 100 == 0:
                progress.console.print(line)

        summary = train(model, batches(tokenizer, recipe), recipe, report)
    model.bfloat16()
    save_checkpoint(model, tokenizer, arguments.out)
    console.print(f"{summary.steps} steps, {summary.tokens} tokens, {summary.seconds:.0f} s, saved to {arguments.out}")
    evaluation = evaluate(model, tokenizer, HELD_OUT_SEED)
    for answered in evaluation.answers[:_NUM_SAMPLES]:
        console.print(answered.example.messages[-2].content, style="dim", markup=False)
        console.print(f"{'exact' if answered.exact else 'wrong'}: {answered.answer}\n", markup=False)
    console.print(evaluation.table())


def _pad(pairs: list[tuple[list[int], list[int]]]) -> Batch:
    length = max(len(ids) for ids, _ in pairs)
    ids = torch.zeros(len(pairs), length, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, (row_ids, row_labels) in enumerate(pairs):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        labels[row, : len(row_labels)] = torch.tensor(row_labels)
    return Batch(ids, labels)


def _schedule(progress: float, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to a small rest."""
    if progress < recipe.warmup:
        return (progress + 1e-3) / recipe.warmup
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - recipe.warmup) / (1 - recipe.warmup))))
    return recipe.cooldown + (1 - recipe.cooldown) * cosine


if __name__ == "__main__":
    main()
