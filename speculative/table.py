"""Every proposer by the name that requests use. Adding one is a file and a line here."""

from outrider.speculative.forced import Encode, GrammarProposer
from outrider.speculative.ngram import NgramProposer
from outrider.speculative.prediction import PredictionProposer
from outrider.speculative.proposer import Proposer
from outrider.speculative.suffix import SuffixProposer


def make_proposers(encode: Encode) -> dict[str, Proposer]:
    """All proposers of one engine; `encode` gives a text's token ids, without special tokens."""
    return {
        "grammar": GrammarProposer(encode),
        "prediction": PredictionProposer(),
        "ngram": NgramProposer(),
        "suffix": SuffixProposer(),
    }
