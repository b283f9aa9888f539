"""The embedded family as a whole: small, quick to load, made for one another, and worth its bytes."""

import json
import re
import subprocess
import sys

import pytest

from outrider.demo import speculator_path, target_path
from outrider.demo.recipe.mixture import held_out_records
from outrider.speculative.training import evaluation
from outrider.speculative.training.drafters import load_drafters
from outrider.speculative.training.samples import Reader
from outrider.speculative.training.target import Target, load_model, load_target

KINDS = ("draft", "eagle3", "medusa")
FOLDERS = (target_path(), *(speculator_path(kind) for kind in KINDS))


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(str(target_path()))


def test_the_family_is_small_enough_to_embed() -> None:
    """The repository and the wheel carry at most 40 MB."""
    size = sum(path.stat().st_size for folder in FOLDERS for path in folder.iterdir())

    assert size <= 40_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_member_has_a_model_card(folder) -> None:
    """With its licence, its data, its seed and its results."""
    card = (folder / "README.md").read_text()

    assert card.startswith("---\nlicense: apache-2.0")
    assert all(word in card.lower() for word in ("data", "seed", "steps", "limits"))


def test_sizes_are_those_of_the_family(target: Target) -> None:
    """A target of 10 to 16 million parameters, a draft of about a tenth of it."""
    draft, _ = load_model(str(speculator_path("draft")))

    assert 10e6 <= target.model.num_parameters() <= 16e6
    assert 1.0e6 <= draft.num_parameters() <= 1.5e6
    assert (8192, 2048) == (target.vocab_size, target.max_length)


def test_all_four_load_fast_and_in_little_memory() -> None:
    """Under 3 seconds and 300 MB beyond what torch and transformers take themselves."""
    code = f"""
import os, time, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from outrider.speculative.eagle_checkpoint import load_eagle
from outrider.speculative.medusa_checkpoint import load_medusa
from outrider.speculative.training.target import load_model, load_target

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

before, start = resident(), time.monotonic()
family = (load_target({str(target_path())!r}), load_model({str(speculator_path("draft"))!r}),
          load_eagle(Path({str(speculator_path("eagle3"))!r}), 5),
          load_medusa(Path({str(speculator_path("medusa"))!r})))
print(time.monotonic() - start, (resident() - before) / 1e6)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True)
    seconds, megabytes = map(float, done.stdout.split())

    assert seconds < 3
    assert megabytes < 300


def test_speculators_fit_the_target_and_guess_held_out_text(target: Target) -> None:
    """They are refused where they do not fit. On a few prompts of each kind; the cards have the figures of many."""
    folders = [speculator_path(kind) for kind in KINDS]
    drafters, taps = load_drafters(target, *folders, 4)
    prompts = [Reader(target.tokenizer).parse_prompt(line) for line in held_out_records(2)]

    table = evaluation.measure(target, drafters, prompts, tap_layers=taps)
    emitted = {name.split()[0]: evaluation.overall(kinds).per_step for name, kinds in table.items()}

    assert emitted["eagle3"] > 2.2
    assert emitted["draft"] > 2.0
    assert emitted["medusa"] > 1.3


def test_cards_say_what_was_measured() -> None:
    """The target's card has the table that the evaluation command prints."""
    card = (target_path() / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) \| (\d+) \|", card, re.MULTILINE))

    assert len(rows) >= 12
    config = json.loads((speculator_path("eagle3") / "config.json").read_text())
    assert config["eagle_config"]["layer_ids_name"] == "layer inputs"
