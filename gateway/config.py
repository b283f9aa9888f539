"""The gateway's configuration: frozen, checked once."""

from dataclasses import dataclass

from outrider.telemetry.options import TraceOptions

MAX_REQUESTS_PER_MINUTE = 10**9


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Everything a gateway is started with."""

    host: str = "127.0.0.1"
    port: int = 8000
    model_name: str | None = None  # as clients name the model; the checkpoint folder's name when None
    api_key: str | None = None  # asked of every /v1 request when set
    requests_per_minute: int | None = None  # for all clients together; no limit when None
    traces: TraceOptions = TraceOptions()  # noqa: RUF009, frozen
    metrics_compat: str | None = None  # "vllm": its names of metrics, too
    grammar_compile_seconds: float = 0.02  # that xgrammar may be expected to take, else llguidance is taken
    max_body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0  # a body that takes longer to arrive is given up
    stalled_reader_seconds: float = 60.0  # a client that reads nothing for so long is dropped
    drain_seconds: float = 10.0  # how long running requests may go on after a signal to stop

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must lie between 0 and 65535, not {self.port}")
        if self.requests_per_minute is not None and not 1 <= self.requests_per_minute <= MAX_REQUESTS_PER_MINUTE:
            raise ValueError(
                f"requests_per_minute must lie between 1 and {MAX_REQUESTS_PER_MINUTE}, not {self.requests_per_minute}"
            )
        if self.metrics_compat not in (None, "vllm"):
            raise ValueError(f"metrics_compat must be vllm, not `{self.metrics_compat}`")
        if self.api_key is not None and not self.api_key:
            raise ValueError("api_key must not be empty")
