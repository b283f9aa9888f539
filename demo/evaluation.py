"""Measuring a demo model on held-out text: loss, and how often greedy answers are exactly right.

Owns the measures and their table. Held-out means drawn from a seed that training does not use: the names
and numbers are new, the kinds of sentences are not. `python -P -m outrider.demo.evaluation` measures the
embedded checkpoint, or the folder given.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from outrider.demo import checkpoint_path
from outrider.demo.conversation import Example
from outrider.demo.text import examples, extractions
from outrider.demo.tokenizer import IGNORED, encode_example

HELD_OUT_SEED: Final = 3_000_003
_MAX_NEW_TOKENS: Final = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """An example and what the model answered to it."""

    example: Example
    answer: str

    @property
    def exact(self) -> bool:
        """Whether the answer is the expected one, character by character."""
        return self.answer == self.example.answer


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out loss in nats per learned token, and the answers."""

    loss: float
    answers: tuple[Answered, ...]

    def table(self) -> Table:
        """Exact matches by kind, and the loss."""
        asked = Counter(answered.example.kind for answered in self.answers)
        right = Counter(answered.example.kind for answered in self.answers if answered.exact)
        table = Table("kind", "exact", "of", title=f"held-out loss {self.loss:.4f}")
        for kind in sorted(asked):
            table.add_row(kind, str(right[kind]), str(asked[kind]))
        every = [kind for kind in asked if kind.startswith("extraction/")]
        table.add_section()
        table.add_row("extraction", str(sum(right[kind] for kind in every)), str(sum(asked[kind] for kind in every)))
        return table


def evaluate(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, num_extractions: int = 200
) -> Evaluation:
    """Loss over 500 examples of the mixture; answers to extractions and to copying, editing and questions."""
    model.train(False)
    sample = list(itertools.islice(examples(seed), 500))
    others = [example for example in sample if example.kind in {"repeat", "replace", "edit", "question"}]
    asked = [*itertools.islice(extractions(seed + 1), num_extractions), *others]
    return Evaluation(held_out_loss(model, tokenizer, sample), answer(model, tokenizer, asked))


def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, sample: Sequence[Example]) -> float:
    """Mean cross-entropy of all learned tokens of the examples, in nats."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for example in sample:
            ids, labels = encode_example(tokenizer, example)
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].float()  # (length - 1, vocab)
            targets = torch.tensor(labels[1:])  # (length - 1)
            total += cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum").item()
            count += int((targets != IGNORED).sum())
    return total / count


def answer(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: Sequence[Example], batch_size: int = 32
) -> tuple[Answered, ...]:
    """Greedy answers to the examples' last questions, in the order asked."""
    answered: list[Answered] = []
    tokenizer.padding_side = "left"
    for start in range(0, len(asked), batch_size):
        batch = asked[start : start + batch_size]
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": message.role, "content": message.content} for message in example.messages[:-1]],
                add_generation_prompt=True,
                tokenize=False,
            )
            for example in batch
        ]
        inputs = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(  # type: ignore[misc]  # its self is typed as a mixin
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=_MAX_NEW_TOKENS,
                do_sample=False,
            )
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answered += [Answered(example, text) for example, text in zip(batch, texts, strict=True)]
    return tuple(answered)


def main() -> None:
    """Prints the table of one checkpoint."""
    parser = argparse.ArgumentParser(description="Measure a demo checkpoint.")
    parser.add_argument("folder", type=Path, nargs="?", default=checkpoint_path())
    folder = parser.parse_args().folder
    model = LlamaForCausalLM.from_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    Console().print(evaluate(model, tokenizer, HELD_OUT_SEED).table())


if __name__ == "__main__":
    main()
