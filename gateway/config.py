"""The gateway's configuration: frozen, checked once."""

from dataclasses import dataclass
from pathlib import Path

from outrider.gateway.limits import MAX_LIMIT
from outrider.structured.tools.table import FORMATS
from outrider.telemetry.options import TraceOptions

FALLBACKS = ("open", "closed", "local")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Everything a gateway is started with."""

    host: str = "127.0.0.1"
    port: int = 8000
    served_model_name: str | None = None  # as clients name the model; the checkpoint folder's name when None
    api_key: str | None = None  # asked of every /v1 request when set
    requests_per_minute: int | None = None  # for all clients together; no limit when None
    traces: TraceOptions = TraceOptions()  # noqa: RUF009, frozen
    metrics_compat: str | None = None  # "vllm": its names of metrics, too
    grammar_compile_seconds: float = 0.02  # that xgrammar may be expected to take, else llguidance is taken
    tool_format: str | None = None  # how the model writes calls: a name of `structured/tools/table.py`, or `none`
    reasoning: bool | None = None  # whether it writes sections of reasoning; the chat template tells both when None
    config: Path | None = None  # TOML file, of which the tables of limits are read again on SIGHUP
    keys: Path | None = None  # key file, read again on SIGHUP
    allow_anonymous: bool = False  # whether other machines may come in while no key exists
    limits: str = "memory"  # where limits are counted: memory, or the URL of a Redis
    limits_fallback: str = "local"  # while Redis is lost: open lets all pass, closed none, local counts here
    output_estimate: int = 256  # tokens that an answer is taken to have until it is counted, or its max_tokens if less
    queue_requests: int = 1024  # most requests that wait
    queue_tokens: int = 2**20  # most prompt tokens of requests that wait
    queue_seconds: float = 60.0  # longest wait
    queue_aging_seconds: float = 10.0  # a request that has waited so long counts as one priority better
    max_body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0  # a body that takes longer to arrive is given up
    stalled_reader_seconds: float = 60.0  # a client that reads nothing for so long is dropped
    drain_timeout: float = 10.0  # seconds that running requests may go on after a signal to stop
    stall_timeout: float = 60.0  # seconds; an engine that has requests and says nothing for so long is given up
    failover_timeout: float = 120.0  # seconds that a request that lost its engine waits for another

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must lie between 0 and 65535, not {self.port}")
        if self.metrics_compat not in (None, "vllm"):
            raise ValueError(f"metrics_compat must be vllm, not `{self.metrics_compat}`")
        if self.tool_format not in (None, "none", *FORMATS):
            raise ValueError(f"tool_format must be one of auto, none, {', '.join(FORMATS)}, not {self.tool_format}")
        if self.requests_per_minute is not None and not 1 <= self.requests_per_minute <= MAX_LIMIT:
            raise ValueError(f"requests_per_minute must lie between 1 and {MAX_LIMIT}, not {self.requests_per_minute}")
        if self.limits != "memory" and not self.limits.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError(f"limits must be memory or the address of a Redis, redis://host:port/0, not {self.limits}")
        if self.limits_fallback not in FALLBACKS:
            raise ValueError(f"limits_fallback must be one of {', '.join(FALLBACKS)}, not {self.limits_fallback}")
        for name in ("output_estimate", "queue_requests", "queue_tokens", "queue_seconds", "queue_aging_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("drain_timeout", "failover_timeout"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number of seconds from 0 on, not {getattr(self, name)}")
        if not 0 < self.stall_timeout < float("inf"):
            raise ValueError(f"stall_timeout must be a number of seconds above 0, not {self.stall_timeout}")
        if self.api_key is not None and not self.api_key:
            raise ValueError("api_key must not be empty")
