"""The engine's loop: schedule, draft, forward, sample and match, commit. Synchronous: its host decides the thread.

Knows no sockets and no text: requests arrive as token ids and leave as token ids.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer

from outrider.engine.blocks import BlockPool
from outrider.engine.config import BLOCK_SIZE, EngineConfig
from outrider.engine.drafting import Drafting
from outrider.engine.drawing import DrawnRow, draw, fill_masks, prompt_logprobs
from outrider.engine.errors import LoadError, MissingGrammarError, RequestError, first_line
from outrider.engine.hub import checkpoint_folder
from outrider.engine.limits import check_submit
from outrider.engine.memory import (
    available_bytes,
    max_model_len,
    num_kv_blocks,
    peak_resident_bytes,
    resident_bytes,
)
from outrider.engine.models.loader import load_model
from outrider.engine.models.served_model import ServedModel
from outrider.engine.outcome import Outcome, settle
from outrider.engine.protocol import (
    EngineStats,
    FinishReason,
    Hello,
    LoadGrammar,
    Submit,
    TokenDelta,
    TokenLogprobs,
)
from outrider.engine.runner import ModelRunner, StepOutput
from outrider.engine.sampler import Sampler
from outrider.engine.scheduler import Scheduler, StepRow
from outrider.engine.sequence import Sequence
from outrider.engine.speculators import Speculators
from outrider.engine.step_costs import measure_steps
from outrider.speculative.costs import Costs
from outrider.speculative.forced import Encode
from outrider.speculative.proposer import Proposer
from outrider.speculative.table import make_proposers
from outrider.structured.constraint import CompiledGrammar
from outrider.structured.grammar import Grammar, GrammarLoader

logger = logging.getLogger("outrider.engine")


class EngineCore:
    """One model, its cache and its requests."""

    def __init__(self, config: EngineConfig, adapt: Callable[[ServedModel], ServedModel] = lambda model: model) -> None:
        """Loads the model and takes the cache's memory.

        Args:
            config: names the model
            adapt: gives what is served in place of the loaded model, for measurements

        Raises:
            LoadError: the checkpoint cannot be served on this machine.
        """
        folder = checkpoint_folder(config.model, config.revision)
        loaded = load_model(
            folder,
            config.dtype,
            config.num_threads,
            config.device,
            max_model_len=config.max_model_len,
            kv_dtype=config.kv_dtype,
        )
        model = adapt(loaded.model)
        if not model.is_batch_invariant:
            logger.warning(
                "on this machine the last bits of this model's results depend on the batch: a near tie may fall "
                "differently with other requests beside it, and so with speculation on and off"
            )
        self.config = config
        self.folder = folder
        self.dtype = loaded.dtype
        self.max_model_len = max_model_len(config, model.max_model_len)
        self.vocab_size = model.vocab_size
        self.eos_token_ids = loaded.eos_token_ids
        self.default_sampling = loaded.default_sampling
        available = available_bytes(model.device)
        encode = _encoder(folder)
        speculators = Speculators(config, folder, model)
        block_bytes = model.kv_bytes(BLOCK_SIZE) + speculators.kv_bytes(BLOCK_SIZE)
        num_blocks = num_kv_blocks(config, self.max_model_len, block_bytes, available)
        self.kv_bytes = num_blocks * block_bytes
        model.allocate_cache(num_blocks, BLOCK_SIZE)
        speculators.allocate_cache(num_blocks)
        self.blocks = BlockPool(num_blocks, BLOCK_SIZE)
        self.scheduler = Scheduler(
            self.blocks,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            prefix_caching=config.prefix_caching,
        )
        self._runner = ModelRunner(model)
        self._sampler = Sampler(loaded.eos_token_ids)
        proposers: dict[str, Proposer] = {}
        if config.speculation_allowed:
            proposers = make_proposers(encode, speculators.proposers, suffix_sharing=config.suffix_sharing)
        step_costs = measure_steps(model, num_blocks) if proposers else Costs()
        self._drafting = Drafting(proposers, self.vocab_size, step_costs)
        self.speculation_methods = self._drafting.methods
        try:
            self.hello().speculation(config.default_speculation, None, ())
        except RequestError as error:
            raise LoadError(f"the default speculation `{config.speculation}` is none: {error}") from error
        self._grammars = _grammar_loader(folder, self.vocab_size, loaded.eos_token_ids)
        self._sequences: dict[str, Sequence] = {}
        self._num_steps = 0
        self._token_origins: Counter[str] = Counter()
        self._step_seconds = 0.0
        self._mask_seconds = 0.0

    def hello(self) -> Hello:
        """What a gateway must know of this engine."""
        return Hello(
            model_path=self.folder,
            vocab_size=self.vocab_size,
            max_model_len=self.max_model_len,
            eos_token_ids=self.eos_token_ids,
            default_sampling=self.default_sampling,
            speculation_methods=self.speculation_methods,
            speculation_max_tokens=self.config.speculation_max_tokens,
            default_speculation=self.config.default_speculation,
            max_num_seqs=self.config.max_num_seqs,
        )

    @property
    def has_work(self) -> bool:
        """Whether `step` would compute anything."""
        return self.scheduler.has_work

    def load_grammar(self, message: LoadGrammar) -> None:
        """Takes in a compiled grammar for later requests; from any thread, since it can take tens of milliseconds."""
        if self._grammars is not None:
            self._grammars.load(CompiledGrammar(key=message.key, backend=message.backend, data=message.data))

    def add(self, submit: Submit) -> None:
        """Queues a request.

        Raises:
            RequestError: it can never be served; nothing was queued.
        """
        check_submit(
            submit,
            vocab_size=self.vocab_size,
            max_model_len=self.max_model_len,
            methods=self.speculation_methods,
        )
        if submit.request_id in self._sequences:
            raise RequestError(f"a request `{submit.request_id}` is already running")
        arrived = time.monotonic()
        self._sequences[submit.request_id] = sequence = Sequence(
            request_id=submit.request_id,
            token_ids=[*submit.prompt_ids, *submit.output_ids],
            num_prompt_tokens=len(submit.prompt_ids),
            params=submit.params,
            speculation=submit.speculation,
            arrived=arrived,
            grammar=self._matcher(submit),
            priority=submit.priority,
            cache_salt=submit.cache_salt,
            token_origins=submit.token_origins,
            trace_id=submit.trace_id,
            waiting_since=arrived,
            num_waiting=len(self.scheduler.waiting),
        )
        self.scheduler.add(sequence)

    def abort(self, request_id: str) -> TokenDelta | None:
        """Ends a request and frees all it held; None for an unknown one: it may just have finished."""
        sequence = self._sequences.get(request_id)
        if sequence is None:
            return None
        self._forget(sequence)
        figures = sequence.figures(time.monotonic())
        return TokenDelta(request_id, [], finish_reason=FinishReason.ABORT, figures=figures)

    def abort_all(self) -> list[TokenDelta]:
        """Ends every request and returns their last deltas."""
        return [delta for request_id in list(self._sequences) if (delta := self.abort(request_id)) is not None]

    @torch.inference_mode()
    def step(self) -> list[TokenDelta]:
        """Computes one step and returns what it gave each request."""
        started = time.monotonic()
        ended = self._end_late(started)
        rows = self._schedule(started)
        if not rows:
            return ended
        ending = [row for row in rows if row.reaches_end]
        self._drafting.fill(ending, sum(row.num_tokens for row in rows))
        before_masks = time.monotonic()
        masks = fill_masks(ending, self.vocab_size)
        self._mask_seconds += time.monotonic() - before_masks
        output = self._runner.run(rows)
        prompt_logprobs(rows, output.prompt_logits)
        drawn = draw(self._sampler, ending, output.logits, masks)
        deltas = ended + self._commit_all(rows, ending, drawn, output, started)
        self._num_steps += 1
        now = time.monotonic()
        self._step_seconds += now - started
        if all(row.num_tokens == 1 for row in rows):
            self._drafting.learn_step(sum(1 + len(row.draft) for row in rows), now - started)
        return deltas

    def stats(self) -> EngineStats:
        """The state after the last step."""
        scheduler, drafted = self.scheduler, self._drafting.totals
        return EngineStats(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            num_blocks=self.blocks.num_blocks,
            num_blocks_used=self.blocks.num_used,
            total_steps=self._num_steps,
            total_step_seconds=self._step_seconds,
            total_preemptions=scheduler.num_preemptions,
            total_cached_tokens=scheduler.num_cached_tokens,
            draft_tokens={name: counts.num_draft_tokens for name, counts in drafted.items()},
            accepted_draft_tokens={name: counts.num_accepted_tokens for name, counts in drafted.items()},
            acceptance_histograms={name: list(counts.histogram) for name, counts in drafted.items()},
            dropped_drafts={name: counts.num_dropped for name, counts in drafted.items()},
            token_origins=dict(self._token_origins),
            resident_bytes=resident_bytes(),
            peak_resident_bytes=peak_resident_bytes(),
            total_mask_seconds=self._mask_seconds,
        )

    def check_integrity(self) -> None:
        """Asserts that no block is lost and that every request's records agree."""
        self.scheduler.check_integrity()

    def _schedule(self, now: float) -> list[StepRow]:
        """The step's rows; notes who waits from now on, and who no longer does."""
        num_preemptions = self.scheduler.num_preemptions
        rows = self.scheduler.schedule()
        if self.scheduler.num_preemptions != num_preemptions:
            for sequence in self.scheduler.waiting:
                if sequence.waiting_since is None:
                    sequence.waiting_since = now
        for row in rows:
            row.sequence.end_wait(now)
        return rows

    def _end_late(self, now: float) -> list[TokenDelta]:
        """Ends the requests whose time is over, with what they have, and frees what they held before the step."""
        late = [
            sequence
            for sequence in self._sequences.values()
            if sequence.params.max_time is not None and now - sequence.arrived >= sequence.params.max_time
        ]
        for sequence in late:
            self._forget(sequence)
        return [
            TokenDelta(sequence.request_id, [], finish_reason=FinishReason.LENGTH, figures=sequence.figures(now))
            for sequence in late
        ]

    def _matcher(self, submit: Submit) -> Grammar | None:
        if submit.grammar_key is None:
            return None
        if self._grammars is None:
            raise RequestError("the checkpoint has no tokenizer, so its output cannot follow a grammar")
        if submit.grammar_key not in self._grammars:
            raise MissingGrammarError(f"the grammar {submit.grammar_key[:16]} is not loaded")
        grammar = self._grammars.matcher(submit.grammar_key)
        for token_id in submit.output_ids:
            if not grammar.accept(token_id):
                raise RequestError("the tokens emitted so far do not follow the grammar")
        return grammar

    def _commit_all(
        self, rows: list[StepRow], ending: list[StepRow], drawn: list[DrawnRow], output: StepOutput, started: float
    ) -> list[TokenDelta]:
        for row in rows:
            sequence = row.sequence
            sequence.num_steps += 1
            sequence.num_chunks += sequence.first_token is None
            if sequence.first_scheduled is None:
                sequence.first_scheduled = started
            sequence.num_computed += row.num_tokens
            self.scheduler.publish(sequence)
        outcomes = [self._settle(row, mine) for row, mine in zip(ending, drawn, strict=True)]
        # Before anything is published: what others may read must lie where it belongs, of requests that end, too.
        self._runner.move([(outcome.row, outcome.computed) for outcome in outcomes])
        computed = {outcome.row.sequence.request_id: outcome.computed for outcome in outcomes}
        self._drafting.observe(computed, rows, output)
        return [self._report(outcome) for outcome in outcomes]

    def _settle(self, row: StepRow, drawn: DrawnRow) -> Outcome:
        try:
            outcome = settle(row, drawn, self.eos_token_ids)
        except Exception:  # the boundary of one request: the others' tokens are not lost
            logger.exception("request %s cannot be committed", row.sequence.request_id, extra=_trace(row.sequence))
            return Outcome(row, problem="the engine failed on this request")
        self._drafting.count(row, outcome.accepted, outcome.token_ids)
        self._token_origins.update(outcome.origins)
        return outcome

    def _report(self, outcome: Outcome) -> TokenDelta:
        """Lets others share what is computed, and ends a request that has a reason to."""
        sequence, now = outcome.row.sequence, time.monotonic()
        if outcome.problem is not None:
            logger.warning("request %s failed: %s", sequence.request_id, outcome.problem, extra=_trace(sequence))
            reason: FinishReason | None = FinishReason.ERROR
        else:
            self.scheduler.publish(sequence)
            reason = outcome.reason
        of_prompt: list[TokenLogprobs] = []
        is_first = sequence.first_token is None and outcome.problem is None
        if is_first:
            of_prompt = sequence.prompt_logprobs
        if outcome.problem is None:
            sequence.note_tokens(now)
        if reason is not None:
            self._forget(sequence)
        return TokenDelta(
            sequence.request_id,
            outcome.token_ids,
            outcome.logprobs,
            of_prompt,
            finish_reason=reason,
            error=outcome.problem,
            figures=sequence.figures(now) if is_first or reason is not None else None,
            origins=outcome.origins if sequence.token_origins else [],
        )

    def _forget(self, sequence: Sequence) -> None:
        self.scheduler.finish(sequence)
        del self._sequences[sequence.request_id]
        self._drafting.forget(sequence.request_id)


def _trace(sequence: Sequence) -> dict[str, str]:
    """What a log line says of the request's trace."""
    return {"trace_id": sequence.trace_id} if sequence.trace_id else {}


def _grammar_loader(folder: str, vocab_size: int, stop_token_ids: tuple[int, ...]) -> GrammarLoader | None:
    """None for a checkpoint without a tokenizer, which takes and gives token ids only."""
    if not (Path(folder) / "tokenizer.json").is_file():
        return None
    try:
        return GrammarLoader(folder, vocab_size, stop_token_ids)
    except Exception as error:  # a damaged tokenizer raises anything; it becomes one clear line
        raise LoadError(f"the tokenizer in `{folder}` cannot be read: {first_line(error)}") from error


def _encoder(folder: str) -> Encode:
    """From text to token ids, without special tokens; to none for a checkpoint without a tokenizer."""
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        return lambda _: ()
    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
