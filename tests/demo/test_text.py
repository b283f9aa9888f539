"""The generated text: reproducible, varied, and with answers that follow from the questions."""

import itertools
import json

from outrider.demo.conversation import Example
from outrider.demo.text import examples, extractions


def take(seed: int, count: int = 300) -> list[Example]:
    return list(itertools.islice(examples(seed), count))


def test_the_same_seed_gives_the_same_examples() -> None:
    """A checkpoint can be rebuilt because its text can."""
    assert take(3) == take(3)


def test_other_seeds_give_other_examples() -> None:
    """Held-out text from another seed shares almost no question with the training text."""
    shared = {example.messages for example in take(3)} & {example.messages for example in take(4)}

    assert {"about", "list"} >= {example.kind for example in take(3) if example.messages in shared}


def test_every_task_occurs() -> None:
    """No task of the mixture is forgotten."""
    kinds = {example.kind.split("/")[0] for example in take(3)}

    assert {"about", "conversation", "edit", "extraction", "list", "question", "repeat", "replace", "story"} == kinds


def test_conversations_end_with_the_assistant() -> None:
    """The last message is what a model should say."""
    last = {example.messages[-1].role for example in take(3) if example.kind != "story"}

    assert {"assistant"} == last


def test_extracted_values_stand_in_the_question() -> None:
    """A model can answer by copying: every string and number of the JSON is in the prompt."""
    for example in itertools.islice(extractions(5), 300):
        prompt = example.messages[-2].content
        values = json.loads(example.answer).values()
        flat = itertools.chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
        missing = [value for value in flat if not isinstance(value, bool) and str(value) not in prompt]

        assert missing == []


def test_extraction_answers_are_compact_json() -> None:
    """Constrained decoding writes JSON without spaces, so the model learns it so."""
    for example in itertools.islice(extractions(5), 100):
        compact = json.dumps(json.loads(example.answer), ensure_ascii=False, separators=(",", ":"))

        assert compact == example.answer
