"""What a step gave one request: the tokens that the match lets through, up to a reason to end."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from outrider.engine.drawing import DrawnRow
from outrider.engine.protocol import BONUS, TARGET, FinishReason, TokenLogprobs
from outrider.engine.scheduler import StepRow
from outrider.engine.sequence import Sequence
from outrider.speculative.match import match


@dataclass(slots=True)
class Outcome:
    """A row whose tokens are appended. With a `problem` the request has failed behind them."""

    row: StepRow
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)  # of each token the proposer that gave it, BONUS or TARGET
    accepted: list[int] = field(default_factory=list)  # nodes of the draft whose tokens are among these
    reason: FinishReason | None = None
    problem: str | None = None

    @property
    def computed(self) -> list[int]:
        """The accepted nodes whose keys and values count: those before the newest token, which is computed next."""
        return self.accepted[: max(0, len(self.token_ids) - 1)] if self.problem is None else []


def settle(row: StepRow, drawn: DrawnRow, eos_token_ids: SequenceOf[int]) -> Outcome:
    """Matches a row's draft with what was drawn, and appends the tokens that it emits to its sequence."""
    sequence, outcome = row.sequence, Outcome(row)
    emitted, nodes = match(row.draft, drawn.token_ids)
    # Of several proposers that offered a node, the first one gave it.
    origins = [*(row.draft.origins[node][0] for node in nodes), BONUS if len(row.draft) else TARGET]
    for place, token_id, origin in zip((0, *(1 + node for node in nodes)), emitted, origins, strict=True):
        if token_id is None:
            outcome.problem = "no token can follow: the model's output is no number, or every token is forbidden"
            break
        if sequence.grammar is not None and not sequence.grammar.accept(token_id):
            outcome.problem = "a drawn token does not follow the grammar"
            break
        sequence.token_ids.append(token_id)
        outcome.token_ids.append(token_id)
        outcome.logprobs += drawn.logprobs[place : place + 1]
        outcome.origins.append(origin)
        outcome.reason = _reason_to_end(sequence, eos_token_ids)
        if outcome.reason is not None:
            break
    outcome.accepted = nodes[: len(outcome.token_ids)]
    sequence.num_computed += len(outcome.computed)
    return outcome


def _reason_to_end(sequence: Sequence, eos_token_ids: SequenceOf[int]) -> FinishReason | None:
    params = sequence.params
    newest = sequence.token_ids[-1]
    if newest in params.stop_token_ids or (newest in eos_token_ids and not params.ignore_eos):
        return FinishReason.STOP
    if sequence.grammar is not None and sequence.grammar.is_done:
        return FinishReason.STOP
    return FinishReason.LENGTH if sequence.num_output_tokens >= params.max_tokens else None
