"""Measures the target on held-out questions, as users meet it: through a server.

`python -P -m outrider.demo.recipe.evaluation` starts one on the embedded target, or on the folder given, and prints the
tables of its model card in Markdown. Held out are names, codes, dates and amounts as well as wordings: no sentence and
no question form of these examples occurs in training.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedTokenizerFast

from outrider.demo import target_path
from outrider.demo.recipe import edits, extraction, passages, tools
from outrider.demo.recipe.conversation import TOOL_CALL, Example
from outrider.demo.recipe.mixture import HELD_OUT_SEED, only, record

_CONCURRENCY: Final = 16
_MAX_TOKENS: Final = 400


@dataclass(frozen=True, slots=True)
class Answered:
    """An example, and what the model said to it."""

    example: Example
    text: str

    @property
    def is_exact(self) -> bool:
        """Whether the answer is the expected one, character by character."""
        return self.text == self.example.answer

    @property
    def parsed(self) -> Any:
        """The answer as JSON; None if it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def is_right(self) -> bool:
        """Whether answer and expectation are the same JSON."""
        return bool(self.parsed == json.loads(self.example.answer))


class Client:
    """Greedy answers of a running server."""

    def __init__(self, base_url: str, tokenizer: PreTrainedTokenizerFast) -> None:
        self._base_url = base_url
        self._tokenizer = tokenizer

    def chat(self, example: Example, *, grammar: bool) -> Answered:
        """The answer to a conversation, under the example's schema if wanted."""
        body: dict[str, Any] = {"messages": record(example)["messages"][:-1]}
        if grammar:
            schema = {"name": "answer", "schema": example.schema, "strict": False}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        answer = self._post("/v1/chat/completions", body)
        return Answered(example, answer["choices"][0]["message"]["content"])

    def complete(self, example: Example) -> Answered:
        """The answer as raw text, with the tools rendered into the prompt here."""
        prompt = self._tokenizer.apply_chat_template(
            record(example)["messages"][:-1],
            tools=list(example.tools) or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        ids = self._tokenizer.encode(prompt, add_special_tokens=False)
        return Answered(example, self._post("/v1/completions", {"prompt": ids})["choices"][0]["text"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps({"model": "outrider-demo", "temperature": 0, "max_tokens": _MAX_TOKENS, **body}).encode()
        request = urllib.request.Request(  # noqa: S310 - the address is the caller's own server
            self._base_url + path, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310 - as above
            answer: dict[str, Any] = json.load(response)
        return answer


def leaves(value: Any) -> Counter[str]:
    """The values of a JSON document without their keys; equal ones count each."""
    if isinstance(value, dict):
        return sum((leaves(item) for item in value.values()), Counter())
    if isinstance(value, list):
        return sum((leaves(item) for item in value), Counter())
    return Counter([json.dumps(value)])


def values_f1(answered: Sequence[Answered]) -> float:
    """F1 of the values alone, over all answers together."""
    found = expected = shared = 0
    for each in answered:
        own, wanted = (
            leaves(each.parsed) if each.parsed is not None else Counter(),
            leaves(json.loads(each.example.answer)),
        )
        found, expected, shared = found + own.total(), expected + wanted.total(), shared + (own & wanted).total()
    return 2 * shared / max(1, found + expected)


def calls(text: str) -> list[Any]:
    """The tool calls of an answer, parsed; what cannot be parsed is None."""
    begin, end = (re.escape(mark) for mark in TOOL_CALL)
    parsed: list[Any] = []
    for found in re.findall(f"{begin}(.*?){end}", text, re.DOTALL):
        try:
            parsed.append(json.loads(found))
        except ValueError:
            parsed.append(None)
    return parsed


def _is_right_call(answered: Answered) -> bool:
    expected = calls(answered.example.answer)
    return calls(answered.text) == expected if expected else answered.is_exact


def measure(client: Client, num_extractions: int, num_others: int, seed: int) -> Iterator[str]:
    """Markdown tables: extraction by domain, tool calls, other tasks."""
    asked = []
    for example in only(extraction.extraction, seed):
        if example.schema is not None:
            asked.append(example)
        if len(asked) == num_extractions:
            break
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        constrained = list(pool.map(lambda example: client.chat(example, grammar=True), asked))
        free = list(pool.map(lambda example: client.chat(example, grammar=False), asked))
        yield from _extraction_table(constrained, free)

        called = list(pool.map(client.complete, itertools.islice(only(tools.tool_call, seed + 1), num_others)))
        yield from _table(called, "tool calls", "right function and arguments", _is_right_call)
        others = (
            *itertools.islice(only(edits.repetition, seed + 2), num_others // 3),
            *itertools.islice(only(edits.replacement, seed + 3), num_others // 3),
            *itertools.islice(only(edits.json_edit, seed + 4), num_others // 3),
            *itertools.islice(only(passages.question, seed + 5), num_others // 3),
        )
        answered = list(pool.map(client.complete, others))
        yield from _table(answered, "other tasks", "exact", lambda each: each.is_exact)


def _extraction_table(constrained: Sequence[Answered], free: Sequence[Answered]) -> Iterator[str]:
    by_domain: dict[str, list[tuple[Answered, Answered]]] = defaultdict(list)
    for pair in zip(constrained, free, strict=True):
        by_domain[pair[0].example.kind.split("/")[1]].append(pair)
    yield "| extraction | cases | exact, grammar | values F1, grammar | exact, free | JSON, free |"
    yield "|---|---|---|---|---|---|"
    everything = list(zip(constrained, free, strict=True))
    for domain, pairs in [*sorted(by_domain.items()), ("**all**", everything)]:
        with_grammar, without = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        exact = sum(each.is_right for each in with_grammar)
        exact_free = sum(each.is_right for each in without)
        parseable = sum(each.parsed is not None for each in without)
        yield f"| {domain} | {len(pairs)} | {exact} | {values_f1(with_grammar):.3f} | {exact_free} | {parseable} |"
    yield f"\n{sum(each.is_right for each in constrained) / len(constrained):.1%} exact under the grammar.\n"


def _table(
    answered: Sequence[Answered], title: str, measured: str, is_right: Callable[[Answered], bool]
) -> Iterator[str]:
    asked, right = Counter[str](), Counter[str]()
    for each in answered:
        asked[each.example.kind] += 1
        right[each.example.kind] += is_right(each)
    yield f"| {title} | cases | {measured} |"
    yield "|---|---|---|"
    for kind in sorted(asked):
        yield f"| {kind} | {asked[kind]} | {right[kind]} |"
    yield f"| **all** | {asked.total()} | {right.total()} |\n"


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """The address of a server that runs as long as the block."""
    command = [sys.executable, "-P", "-m", "outrider.cli", "serve", str(folder), "--port", "0"]
    command += ["--served-model-name", "outrider-demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        assert process.stdout is not None
        try:
            for line in process.stdout:
                found = re.search(r"at (http://\S+)/v1", line)
                if found:
                    yield found[1]
                    break
            else:
                raise SystemExit("the server did not start")
        finally:
            process.terminate()
            process.communicate()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description="Measure a demo target on held-out questions.")
    parser.add_argument("folder", type=Path, nargs="?", default=target_path())
    parser.add_argument("--extractions", type=int, default=300)
    parser.add_argument("--others", type=int, default=150, help="tool calls, and as many other questions")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED + 100)
    arguments = parser.parse_args()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.folder)
    with _server(arguments.folder) as base_url:
        for line in measure(Client(base_url, tokenizer), arguments.extractions, arguments.others, arguments.seed):
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
