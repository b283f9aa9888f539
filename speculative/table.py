"""Every proposer by the name that requests use. Adding one is a file and a line here."""

from collections.abc import Mapping

from outrider.speculative.forced import Encode, GrammarProposer
from outrider.speculative.ngram import NgramProposer
from outrider.speculative.prediction import PredictionProposer
from outrider.speculative.proposer import Proposer
from outrider.speculative.suffix import SuffixProposer


def make_proposers(
    encode: Encode, speculators: Mapping[str, Proposer] | None = None, *, suffix_sharing: bool = False
) -> dict[str, Proposer]:
    """All proposers of one engine, in the order in which they are asked: what costs little comes first.

    Args:
        encode: gives a text's token ids, without special tokens
        speculators: the proposers that were trained for the target, by name: as many as are loaded
        suffix_sharing: whether the suffix proposer learns from answers for later requests of the same tenant
    """
    return {
        "grammar": GrammarProposer(encode),
        "prediction": PredictionProposer(),
        "ngram": NgramProposer(),
        "suffix": SuffixProposer(is_shared=suffix_sharing),
        **(speculators or {}),
    }
