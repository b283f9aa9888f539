"""The options of one run, checked once. Knows nothing of how they are carried out.

Names and defaults are those of `vllm bench serve` where it has them.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.metric import METRICS

DatasetName = Literal["demo", "random", "jsonl"]
Endpoint = Literal["/v1/chat/completions", "/v1/completions"]

CHAT_ENDPOINT: Endpoint = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadtestConfig:
    """Raises InvalidOptionError for a value that no run can honour.

    `extra_body` is merged into each request and wins over what the other options put there. None stands for the
    server's first `model`, no limit of `max_concurrency`, and the report's own choice of `percentile_metrics`.
    """

    base_url: str
    model: str | None = None
    endpoint: Endpoint = CHAT_ENDPOINT
    num_prompts: int = 32
    request_rate: float = math.inf
    burstiness: float = 1.0
    max_concurrency: int | None = None
    dataset_name: DatasetName = "demo"
    dataset_path: Path | None = None
    random_input_len: int = 1024
    random_output_len: int = 128
    seed: int = 0
    num_warmups: int = 0
    temperature: float | None = None
    ignore_eos: bool = False
    speculation: str | None = None
    extra_body: dict[str, object] = field(default_factory=dict)
    percentile_metrics: tuple[str, ...] | None = None
    metric_percentiles: tuple[float, ...] = (50, 90, 99)
    save_result: bool = True
    result_dir: Path | None = None
    result_filename: str | None = None

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise InvalidOptionError(f"--base-url {self.base_url}: start it with http:// or https://")
        at_least_one = {
            "--num-prompts": self.num_prompts,
            "--random-input-len": self.random_input_len,
            "--random-output-len": self.random_output_len,
            "--max-concurrency": 1 if self.max_concurrency is None else self.max_concurrency,
        }
        for option, number in at_least_one.items():
            if number < 1:
                raise InvalidOptionError(f"{option} {number}: must be at least 1")
        if self.num_warmups < 0:
            raise InvalidOptionError(f"--num-warmups {self.num_warmups}: must not be negative")
        # Written so that NaN is refused too.
        if not self.request_rate > 0:
            raise InvalidOptionError(f"--request-rate {self.request_rate}: must be above 0, or inf")
        if not 0 < self.burstiness < math.inf:
            raise InvalidOptionError(f"--burstiness {self.burstiness}: must be above 0 (1 is a Poisson process)")
        if (self.dataset_name == "jsonl") != (self.dataset_path is not None):
            raise InvalidOptionError(f"--dataset-path belongs to --dataset-name jsonl (here: {self.dataset_name})")
        for percentile in self.metric_percentiles:
            if not 0 <= percentile <= 100:
                raise InvalidOptionError(f"--metric-percentiles {percentile}: must lie between 0 and 100")
        for name in self.percentile_metrics or ():
            if name not in METRICS:
                raise InvalidOptionError(f"--percentile-metrics {name}: choose from {','.join(METRICS)}")

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
        return math.isinf(self.request_rate) and self.max_concurrency is not None


def parse_names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_percentiles(text: str) -> tuple[float, ...]:
    """Numbers separated by commas. Raises InvalidOptionError."""
    try:
        return tuple(float(number) for number in parse_names(text))
    except ValueError as error:
        raise InvalidOptionError(f"--metric-percentiles {text}: give numbers separated by commas") from error


def parse_extra_body(text: str) -> dict[str, object]:
    """A JSON object. Raises InvalidOptionError."""
    try:
        extra_body = json.loads(text)
    except ValueError as error:
        raise InvalidOptionError(f"--extra-body {text}: not JSON ({error})") from error
    if not isinstance(extra_body, dict):
        raise InvalidOptionError(f"--extra-body {text}: give a JSON object")
    return extra_body
