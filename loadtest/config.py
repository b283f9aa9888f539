"""The options of one run, checked once. Knows nothing of how they are carried out.

Names and defaults are those of `vllm bench serve` where it has them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from outrider.loadtest.arrival import Ramp, Stage
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.metric import METRICS
from outrider.loadtest.weights import Weighted

DatasetName = Literal[
    "demo", "random", "prefix_repetition", "jsonl", "custom", "sharegpt", "timed_trace", "mooncake", "mix"
]
Endpoint = Literal["/v1/chat/completions", "/v1/completions"]

CHAT_ENDPOINT: Endpoint = "/v1/chat/completions"
DEFAULT_NUM_PROMPTS = 32
FILE_DATASETS = frozenset({"jsonl", "custom", "sharegpt", "timed_trace", "mooncake"})
TRACES = frozenset({"timed_trace", "mooncake"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadtestConfig:
    """Raises InvalidOptionError for a value that no run can honour.

    `extra_body` is merged into each request and wins over what the other options put there. None stands for the
    server's first `model`, as many `num_prompts` as the stages or the trace bring (else 32), no limit of
    `max_concurrency`, the dataset's own `output_len`, and the report's own choice of `percentile_metrics`. `goodput`
    has limits in seconds by name, `api_keys` the keys by weight.
    """

    base_url: str
    model: str | None = None
    served_model_name: str | None = None
    endpoint: Endpoint = CHAT_ENDPOINT
    headers: Mapping[str, str] = field(default_factory=dict)
    is_insecure: bool = False
    api_keys: Weighted | None = None

    num_prompts: int | None = None
    request_rate: float = math.inf
    burstiness: float = 1.0
    max_concurrency: int | None = None
    ramp: Ramp | None = None
    stages: tuple[Stage, ...] = ()
    self_timed: bool = False
    trace_seconds: float | None = None
    trace_chunk: int | None = None

    dataset_name: DatasetName = "random"
    dataset_path: Path | None = None
    mix: Weighted | None = None
    random_input_len: int = 1024
    random_output_len: int = 128
    random_range_ratio: float = 0.0
    random_prefix_len: int = 0
    prefix_repetition_prefix_len: int = 256
    prefix_repetition_suffix_len: int = 256
    prefix_repetition_num_prefixes: int = 10
    prefix_repetition_output_len: int = 128
    output_len: int | None = None
    multi_turn: bool = False
    think_time: float = 0.0
    schema: dict[str, Any] | bool | None = None
    structured_output_ratio: float = 1.0
    seed: int = 0
    num_warmups: int = 0

    temperature: float | None = None
    ignore_eos: bool = False
    speculation: Weighted | None = None
    priority: Weighted | None = None
    extra_body: dict[str, object] = field(default_factory=dict)

    goodput: Mapping[str, float] = field(default_factory=dict)
    percentile_metrics: tuple[str, ...] | None = None
    metric_percentiles: tuple[float, ...] = (50, 90, 99)
    processes: int = 1
    scrape_interval: float = 1.0
    label: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    save_result: bool = True
    save_detailed: bool = False
    append_result: bool = False
    result_dir: Path | None = None
    result_filename: str | None = None

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise InvalidOptionError(f"--base-url {self.base_url}: start it with http:// or https://")
        self._check_numbers()
        self._check_arrivals()
        self._check_dataset()
        for percentile in self.metric_percentiles:
            if not 0 <= percentile <= 100:
                raise InvalidOptionError(f"--metric-percentiles {percentile}: must lie between 0 and 100")
        for name in self.percentile_metrics or ():
            if name not in METRICS:
                raise InvalidOptionError(f"--percentile-metrics {name}: choose from {','.join(METRICS)}")
        for priority in self.priority.names if self.priority else ():
            if not priority.lstrip("-").isdigit():
                raise InvalidOptionError(f"--priority {priority}: give integers, with weights where wanted: 0=3,5=1")

    @property
    def url(self) -> str:
        """Where requests go."""
        return self.base_url + self.endpoint

    @property
    def is_chat(self) -> bool:
        """Whether requests carry messages rather than a prompt."""
        return self.endpoint == CHAT_ENDPOINT

    @property
    def is_closed_loop(self) -> bool:
        """So many users, each sending its next request when its last has ended, rather than a rate of arrivals."""
        return self.max_concurrency is not None and not self.has_arrivals

    @property
    def is_burst(self) -> bool:
        """All at once."""
        return self.max_concurrency is None and not self.has_arrivals

    @property
    def has_arrivals(self) -> bool:
        """Whether requests become due at times of their own."""
        return not math.isinf(self.request_rate) or bool(self.ramp or self.stages or self.follows_trace)

    @property
    def follows_trace(self) -> bool:
        """Whether the dataset says when its requests are due."""
        return self.self_timed or self.dataset_name in TRACES

    def _check_numbers(self) -> None:
        at_least_one = {
            "--num-prompts": self.num_prompts,
            "--random-input-len": self.random_input_len,
            "--random-output-len": self.random_output_len,
            "--prefix-repetition-prefix-len": self.prefix_repetition_prefix_len,
            "--prefix-repetition-suffix-len": self.prefix_repetition_suffix_len,
            "--prefix-repetition-num-prefixes": self.prefix_repetition_num_prefixes,
            "--prefix-repetition-output-len": self.prefix_repetition_output_len,
            "--output-len": self.output_len,
            "--max-concurrency": self.max_concurrency,
            "--processes": self.processes,
            "--timed-trace-chunk-hash-size": self.trace_chunk,
        }
        for option, number in at_least_one.items():
            if number is not None and number < 1:
                raise InvalidOptionError(f"{option} {number}: must be at least 1")
        at_least_zero = {
            "--num-warmups": self.num_warmups,
            "--random-prefix-len": self.random_prefix_len,
            "--think-time": self.think_time,
            "--scrape-interval": self.scrape_interval,
        }
        for option, least in at_least_zero.items():
            if not 0 <= least < math.inf:
                raise InvalidOptionError(f"{option} {least}: must not be negative")
        if not 0 <= self.random_range_ratio < 1:
            raise InvalidOptionError(f"--random-range-ratio {self.random_range_ratio}: must be at least 0 and below 1")
        if not 0 <= self.structured_output_ratio <= 1:
            raise InvalidOptionError(
                f"--structured-output-ratio {self.structured_output_ratio}: must lie between 0 and 1"
            )

    def _check_arrivals(self) -> None:
        # Written so that NaN is refused too.
        if not self.request_rate > 0:
            raise InvalidOptionError(f"--request-rate {self.request_rate}: must be above 0, or inf")
        if not self.burstiness > 0:
            raise InvalidOptionError(f"--burstiness {self.burstiness}: must be above 0 (1: Poisson, inf: even)")
        if self.ramp is not None and not (0 < self.ramp.start < math.inf and 0 < self.ramp.end < math.inf):
            raise InvalidOptionError("--ramp-up-strategy needs --ramp-up-start-rps and --ramp-up-end-rps above 0")
        ways = {
            "--request-rate": not math.isinf(self.request_rate),
            "--ramp-up-strategy": self.ramp is not None,
            "--stages": bool(self.stages),
            "--self-timed": self.follows_trace,
        }
        chosen = [option for option, is_chosen in ways.items() if is_chosen]
        if len(chosen) > 1:
            raise InvalidOptionError(f"{' and '.join(chosen)} both say when requests come: give one of them")
        if self.trace_seconds is not None and not 0 < self.trace_seconds < math.inf:
            raise InvalidOptionError(f"--timed-trace-sec-multiplier {self.trace_seconds}: must be above 0")

    def _check_dataset(self) -> None:
        names = self.mix.names if self.mix else (self.dataset_name,)
        if (self.dataset_name == "mix") != (self.mix is not None):
            raise InvalidOptionError(f"--mix belongs to --dataset-name mix (here: {self.dataset_name})")
        for name in self.mix.names if self.mix else ():
            if name not in {"demo", "random", "prefix_repetition", "jsonl", "custom", "sharegpt"}:
                raise InvalidOptionError(f"--mix {name}: choose from demo, random, prefix_repetition, jsonl, sharegpt")
        wants_file = not FILE_DATASETS.isdisjoint(names)
        if wants_file != (self.dataset_path is not None):
            files = ", ".join(sorted(FILE_DATASETS))
            raise InvalidOptionError(f"--dataset-path belongs to --dataset-name {files} (here: {self.dataset_name})")
        if self.self_timed and self.dataset_name not in FILE_DATASETS - {"sharegpt"}:
            raise InvalidOptionError(f"--self-timed needs a dataset with timestamps (here: {self.dataset_name})")
