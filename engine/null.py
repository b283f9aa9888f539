"""An engine without a model: it answers at once, to measure and to test what stands before it. Imports no torch.

All but the model is real: host, transport and wire protocol. Its tokens depend on the seed and the position alone, as
an engine's do on those and the model; grammars, penalties and probabilities are left out of account.
"""

import json
import re
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from outrider.engine.config import BLOCK_SIZE
from outrider.engine.errors import LoadError, MissingGrammarError, RequestError, first_line
from outrider.engine.limits import check_submit
from outrider.engine.protocol import (
    TARGET,
    EngineStats,
    FinishReason,
    Hello,
    LoadGrammar,
    RequestFigures,
    Submit,
    TokenDelta,
    TokenLogprobs,
)

NUM_BLOCKS = 8192  # what its cache would hold, for figures of how full it is
TOKENS_PER_STEP = 4
MAX_REQUESTS = 1024  # that a gateway may send at once

_WORD = re.compile("[\u0120\u2581]?[A-Za-z]+")  # as byte-level tokenizers and sentencepiece write a space before it
_MASK = 2**64 - 1


@dataclass(slots=True)
class _Running:
    """A request under way."""

    submit: Submit
    arrived: float  # monotonic seconds
    num_steps: int = 0
    output_ids: list[int] = field(default_factory=list)  # emitted here or elsewhere

    @property
    def num_tokens(self) -> int:
        return len(self.submit.prompt_ids) + len(self.output_ids)

    def figures(self, now: float) -> RequestFigures:
        waits = [(0.0, 0.0)]
        arrived_at = time.time() - (now - self.arrived)
        return RequestFigures(0.0, 0.0, now - self.arrived, self.num_steps, 0, arrived_at=arrived_at, waits=waits)


class NullCore:
    """What an `EngineHost` runs in place of an `EngineCore`."""

    def __init__(self, folder: Path | str, *, step_seconds: float = 0.0, max_model_len: int | None = None) -> None:
        """Reads the tokenizer and the configuration of a checkpoint, not its weights.

        Args:
            folder: of the checkpoint
            step_seconds: how long each step takes
            max_model_len: prompt and output together, in tokens; the model's own when None

        Raises:
            LoadError: they cannot be read.
        """
        try:
            config = json.loads((Path(folder) / "config.json").read_text())
            tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
            ends = config["eos_token_id"]
            self._vocab_size = int(config["vocab_size"])
            self._max_model_len = max_model_len or int(config["max_position_embeddings"])
        except Exception as error:  # a damaged file raises anything; each becomes one clear line
            raise LoadError(f"the null engine cannot read the checkpoint `{folder}`: {first_line(error)}") from error
        self._folder = str(folder)
        self._eos_token_ids = tuple(ends) if isinstance(ends, list) else (ends,)
        special = tokenizer.get_added_tokens_decoder()
        vocabulary = tokenizer.get_vocab()
        self._words = sorted(i for text, i in vocabulary.items() if _WORD.fullmatch(text) and i not in special)
        if not self._words:
            raise LoadError(f"the tokenizer in `{folder}` has no words, of which the null engine makes its answers")
        self._step_seconds = step_seconds
        self._grammar_keys: set[str] = set()
        self._running: dict[str, _Running] = {}
        self._num_steps = 0
        self._num_tokens = 0

    def hello(self) -> Hello:
        """What a gateway must know of this engine."""
        return Hello(
            *(self._folder, self._vocab_size, self._max_model_len, self._eos_token_ids, {}, (), 0, ("off",)),
            max_num_seqs=MAX_REQUESTS,
        )

    @property
    def has_work(self) -> bool:
        """Whether `step` would emit anything."""
        return bool(self._running)

    @property
    def request_ids(self) -> list[str]:
        """Of all requests under way."""
        return list(self._running)

    def token(self, seed: int, position: int) -> int:
        """The token id at an absolute position of an answer with this seed: one that is a word."""
        mixed = (seed * 0x9E3779B97F4A7C15 + position * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 29)) * 0x94D049BB133111EB) & _MASK
        return self._words[(mixed >> 32) % len(self._words)]

    def load_grammar(self, message: LoadGrammar) -> None:
        """Remembers that it came: what follows it is not looked at."""
        self._grammar_keys.add(message.key)

    def add(self, submit: Submit) -> None:
        """Starts a request.

        Raises:
            RequestError: it can never be served, or a real engine would ask for its grammar first.
        """
        check_submit(submit, vocab_size=self._vocab_size, max_model_len=self._max_model_len, methods=())
        if submit.request_id in self._running:
            raise RequestError(f"a request `{submit.request_id}` is already running")
        if submit.grammar_key is not None and submit.grammar_key not in self._grammar_keys:
            raise MissingGrammarError(f"the grammar {submit.grammar_key[:16]} is not loaded")
        self._running[submit.request_id] = _Running(submit, time.monotonic(), output_ids=[*submit.output_ids])

    def abort(self, request_id: str) -> TokenDelta | None:
        """Ends a request; None for an unknown one."""
        running = self._running.pop(request_id, None)
        if running is None:
            return None
        figures = running.figures(time.monotonic())
        return TokenDelta(request_id, [], finish_reason=FinishReason.ABORT, figures=figures)

    def abort_all(self) -> list[TokenDelta]:
        """Ends every request and returns their last deltas."""
        return [delta for request_id in self.request_ids if (delta := self.abort(request_id)) is not None]

    def step(self) -> list[TokenDelta]:
        """The next few tokens of every request."""
        if self._step_seconds:
            time.sleep(self._step_seconds)
        self._num_steps += 1
        return [self._advance(running) for running in list(self._running.values())]

    def check_integrity(self) -> None:
        """Nothing can be lost here."""

    def stats(self) -> EngineStats:
        """The state after the last step."""
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # the present size costs a file
        return EngineStats(
            num_running=len(self._running),
            num_waiting=0,
            num_blocks=NUM_BLOCKS,
            num_blocks_used=sum(-(-running.num_tokens // BLOCK_SIZE) for running in self._running.values()),
            total_steps=self._num_steps,
            total_step_seconds=self._num_steps * self._step_seconds,
            total_preemptions=0,
            total_cached_tokens=0,
            draft_tokens={},
            accepted_draft_tokens={},
            acceptance_histograms={},
            dropped_drafts={},
            token_origins={TARGET: self._num_tokens},
            resident_bytes=peak_bytes,
            peak_resident_bytes=peak_bytes,
        )

    def _advance(self, running: _Running) -> TokenDelta:
        """The next tokens of one request, up to a reason to end."""
        submit, params = running.submit, running.submit.params
        running.num_steps += 1
        token_ids: list[int] = []
        reason: FinishReason | None = None
        while reason is None and len(token_ids) < TOKENS_PER_STEP:
            token_ids.append(self.token(params.seed, running.num_tokens))
            running.output_ids.append(token_ids[-1])
            if token_ids[-1] in params.stop_token_ids:
                reason = FinishReason.STOP
            elif len(running.output_ids) >= params.max_tokens:
                reason = FinishReason.LENGTH
        self._num_tokens += len(token_ids)
        if reason is not None:
            del self._running[submit.request_id]
        return TokenDelta(
            submit.request_id,
            token_ids,
            [] if params.num_logprobs is None else [TokenLogprobs(-1.0, [token], [-1.0]) for token in token_ids],
            finish_reason=reason,
            figures=None if reason is None else running.figures(time.monotonic()),
            origins=[TARGET] * len(token_ids) if submit.token_origins else [],
        )
