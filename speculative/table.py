"""Every proposer by the name that requests use. Adding one is a file and a line here."""

from collections.abc import Callable

from outrider.speculative.ngram import NgramProposer
from outrider.speculative.prediction import PredictionProposer
from outrider.speculative.proposer import Proposer
from outrider.speculative.suffix import SuffixProposer

PROPOSERS: dict[str, Callable[[], Proposer]] = {
    "prediction": PredictionProposer,
    "ngram": NgramProposer,
    "suffix": SuffixProposer,
}
