"""`outrider serve`: gateway and engine, the whole server. `outrider gateway`: the HTTP half alone."""

# ruff: noqa: ARG001, options of the gateway are read from the context by their names

import json
import resource
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.cli import options, telemetry_options
from outrider.cli.config_file import ConfigFile, place
from outrider.engine.config import DEFAULT_SPECULATION

if TYPE_CHECKING:
    from outrider.gateway.config import GatewayConfig
    from outrider.gateway.replica import EnginePlace
    from outrider.gateway.state import Gateway

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on.")]
ServedModelName = Annotated[str | None, typer.Option(help="The model's name for clients; the folder's name.")]
ApiKey = Annotated[str | None, typer.Option(help="One key that clients may send, besides those of --keys.")]
RequestsPerMinute = Annotated[int | None, typer.Option(help="Limit for all clients together.")]
DrainTimeout = Annotated[float, typer.Option(help="Seconds that running requests may go on after a signal to stop.")]
StallTimeout = Annotated[float, typer.Option(help="Seconds without a sign of life after which a busy engine is lost.")]
FailoverTimeout = Annotated[float, typer.Option(help="Seconds that a request that lost its engine waits for another.")]
Keys = Annotated[Path | None, typer.Option(metavar="FILE", help="Key file, as `outrider keys` makes it.")]
AllowAnonymous = Annotated[
    bool, typer.Option("--allow-anonymous", help="Serve other machines although there is no key.")
]
LimitsPlace = Annotated[
    str,
    typer.Option("--limits", help="Where limits are counted: memory, or redis://... for several gateways together."),
]
LimitsFallback = Annotated[
    str, typer.Option(help="While Redis is lost: open lets all pass, closed none, local counts in each gateway.")
]
OutputEstimate = Annotated[int, typer.Option(help="Tokens that an answer takes of limits until it is counted.")]
QueueRequests = Annotated[int, typer.Option(help="Most requests that wait.")]
QueueTokens = Annotated[int, typer.Option(help="Most prompt tokens of requests that wait.")]
QueueSeconds = Annotated[float, typer.Option(help="Longest wait.")]
QueueAgingSeconds = Annotated[float, typer.Option(help="So long a wait counts as one priority better.")]
CheckConfig = Annotated[bool, typer.Option("--check-config", help="Check the configuration and end.")]
GrammarCompileBudget = Annotated[
    float,
    typer.Option(min=0, help="Milliseconds that xgrammar may be expected to take for a grammar; else llguidance."),
]
ToolFormat = Annotated[
    str, typer.Option(help="How the model writes tool calls: auto (by its chat template) or a name.")
]
Reasoning = Annotated[
    bool | None, typer.Option(help="Whether the model writes <think> sections; by its chat template.")
]
LogLevel = Annotated[options.LogLevel, typer.Option(help="How much is logged.")]

DEMO_NAME = "outrider-demo"

EXAMPLE_TEXT = "Extract the person: Ada Lovelace is 36 years old and lives in London."
EXAMPLE_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}


def serve(
    context: typer.Context,
    model: options.Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    served_model_name: ServedModelName = None,
    api_key: ApiKey = None,
    requests_per_minute: RequestsPerMinute = None,
    trace_file: telemetry_options.TraceFile = None,
    trace_context: telemetry_options.TraceContext = "trust",
    trace_share: telemetry_options.TraceShare = 1.0,
    trace_slow: telemetry_options.TraceSlow = 10.0,
    recent_traces: telemetry_options.RecentTraces = 100,
    genai_names: telemetry_options.GenAiNames = "v1.41",
    metrics_compat: telemetry_options.MetricsCompat = None,
    grammar_compile_budget: GrammarCompileBudget = 20.0,
    tool_format: ToolFormat = "auto",
    reasoning: Reasoning = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    max_model_len: options.MaxModelLen = None,
    max_num_seqs: options.MaxNumSeqs = 64,
    max_num_batched_tokens: options.MaxNumBatchedTokens = 1024,
    kv_dtype: options.KvDtype = "auto",
    kv_memory: options.KvMemory = "auto",
    memory_utilization: options.MemoryUtilization = 0.8,
    threads: options.Threads = None,
    prefix_caching: options.PrefixCaching = True,
    speculation: options.Speculation = DEFAULT_SPECULATION,
    speculation_allowed: options.SpeculationAllowed = True,
    speculation_max_tokens: options.SpeculationMaxTokens = 8,
    draft: options.Draft = None,
    eagle: options.Eagle = None,
    medusa: options.Medusa = None,
    suffix_sharing: options.SuffixSharing = False,
    config: ConfigFile = None,
    keys: Keys = None,
    allow_anonymous: AllowAnonymous = False,
    limits: LimitsPlace = "memory",
    limits_fallback: LimitsFallback = "local",
    output_estimate: OutputEstimate = 256,
    queue_requests: QueueRequests = 1024,
    queue_tokens: QueueTokens = 2**20,
    queue_seconds: QueueSeconds = 60.0,
    queue_aging_seconds: QueueAgingSeconds = 10.0,
    replicas: Annotated[int, typer.Option(min=1, help="Engines to start, each with a copy of the model.")] = 1,
    drain_timeout: DrainTimeout = 10.0,
    stall_timeout: StallTimeout = 60.0,
    failover_timeout: FailoverTimeout = 120.0,
    check_config: CheckConfig = False,
    log_level: LogLevel = options.LogLevel.WARNING,
) -> None:
    """Serve a model over HTTP, the embedded demo model when none is named."""
    from outrider.gateway.replica import EnginePlace

    settings = _gateway_config(
        context,
        served_model_name=served_model_name or (DEMO_NAME if model is None else None),
        grammar_compile_seconds=grammar_compile_budget / 1000,
        tool_format=None if tool_format == "auto" else tool_format,
        traces=telemetry_options.trace_options(context),
    )
    draft, eagle, medusa = options.with_demo_speculators(model, draft, eagle, medusa)
    arguments = [
        options.demo_if_none(model),
        f"--dtype={dtype}",
        f"--device={device}",
        f"--max-num-seqs={max_num_seqs}",
        f"--max-num-batched-tokens={max_num_batched_tokens}",
        f"--kv-dtype={kv_dtype}",
        f"--kv-memory={kv_memory}",
        f"--memory-utilization={memory_utilization}",
        f"--speculation={speculation}",
        f"--speculation-max-tokens={speculation_max_tokens}",
        "--prefix-caching" if prefix_caching else "--no-prefix-caching",
        *([] if speculation_allowed else ["--no-speculation"]),
        *(["--suffix-sharing"] if suffix_sharing else []),
        *([] if max_model_len is None else [f"--max-model-len={max_model_len}"]),
        *([] if revision is None else [f"--revision={revision}"]),
        *([] if threads is None else [f"--threads={threads}"]),
        *([] if draft is None else [f"--draft={draft}"]),
        *([] if eagle is None else [f"--eagle={eagle}"]),
        *([] if medusa is None else [f"--medusa={medusa}"]),
    ]
    _run(settings, log_level, check_config, [EnginePlace(tuple(arguments))] * replicas)


def gateway(
    context: typer.Context,
    engine: Annotated[list[str], typer.Option(help="Where an engine listens: unix:/path. Repeat for several.")],
    host: Host = "127.0.0.1",
    port: Port = 8000,
    served_model_name: ServedModelName = None,
    api_key: ApiKey = None,
    requests_per_minute: RequestsPerMinute = None,
    trace_file: telemetry_options.TraceFile = None,
    trace_context: telemetry_options.TraceContext = "trust",
    trace_share: telemetry_options.TraceShare = 1.0,
    trace_slow: telemetry_options.TraceSlow = 10.0,
    recent_traces: telemetry_options.RecentTraces = 100,
    genai_names: telemetry_options.GenAiNames = "v1.41",
    metrics_compat: telemetry_options.MetricsCompat = None,
    config: ConfigFile = None,
    keys: Keys = None,
    allow_anonymous: AllowAnonymous = False,
    limits: LimitsPlace = "memory",
    limits_fallback: LimitsFallback = "local",
    output_estimate: OutputEstimate = 256,
    queue_requests: QueueRequests = 1024,
    queue_tokens: QueueTokens = 2**20,
    queue_seconds: QueueSeconds = 60.0,
    queue_aging_seconds: QueueAgingSeconds = 10.0,
    drain_timeout: DrainTimeout = 10.0,
    stall_timeout: StallTimeout = 60.0,
    failover_timeout: FailoverTimeout = 120.0,
    check_config: CheckConfig = False,
    grammar_compile_budget: GrammarCompileBudget = 20.0,
    tool_format: ToolFormat = "auto",
    reasoning: Reasoning = None,
    log_level: LogLevel = options.LogLevel.WARNING,
) -> None:
    """Serve HTTP for engines that run already."""
    from outrider.gateway.replica import EnginePlace

    for address in engine:
        if not address.startswith("unix:"):
            options.fail(f"--engine {address} is not an address: write unix:/path")
        if engine.count(address) > 1:
            options.fail(f"--engine {address} is given twice: name each engine once")
    settings = _gateway_config(
        context,
        grammar_compile_seconds=grammar_compile_budget / 1000,
        tool_format=None if tool_format == "auto" else tool_format,
        traces=telemetry_options.trace_options(context),
    )
    places = [EnginePlace(path=address.removeprefix("unix:")) for address in engine]
    _run(settings, log_level, check_config, places)


def _gateway_config(context: typer.Context, **others: Any) -> "GatewayConfig":
    """From the options of the command that the gateway's configuration has too, and others."""
    from outrider.gateway.config import GatewayConfig

    names = {field.name for field in fields(GatewayConfig)}
    try:
        return GatewayConfig(**{name: value for name, value in context.params.items() if name in names} | others)
    except ValueError as error:
        options.fail(f"{place(context, str(error).split()[0])}{error}")


def _run(
    config: "GatewayConfig",
    log_level: options.LogLevel,
    check_config: bool,
    engines: "list[EnginePlace]",
) -> None:
    import uvloop

    from outrider.gateway.access import Access
    from outrider.gateway.process import StartError, bind, run_gateway
    from outrider.gateway.toml_file import ConfigError
    from outrider.telemetry.logs import configure_logging

    configure_logging(log_level, "text")

    try:
        access = Access(config)
    except ConfigError as error:
        options.fail(str(error))
    if check_config:
        typer.echo("The configuration is good")
        return
    try:
        listener = bind(config.host, config.port)
        host = f"[{config.host}]" if ":" in config.host else config.host
        url = f"http://{host}:{listener.getsockname()[1]}"

        def on_ready(gateway: "Gateway") -> None:
            typer.echo(_banner(url, gateway))

        stats = uvloop.run(run_gateway(config, listener, access, engines=engines, on_ready=on_ready))
    except StartError as error:
        if str(error):
            options.fail(str(error))
        raise typer.Exit(1) from error
    if stats:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        theirs = ", ".join(f"engine {one.peak_resident_bytes / 2**20:.0f} MiB" for one in stats)
        typer.echo(f"Stopped. Peak memory: gateway {own:.0f} MiB, {theirs}")


def _banner(url: str, gateway: "Gateway") -> str:
    key = " -H 'Authorization: Bearer <key>'" if gateway.access.needs_key else ""
    body = {
        "model": gateway.model_name,
        "messages": [{"role": "user", "content": EXAMPLE_TEXT}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": EXAMPLE_SCHEMA}},
    }
    traces = f"\nTraces:   {gateway.config.traces.trace_file}" if gateway.config.traces.trace_file is not None else ""
    return f"""
Outrider serves `{gateway.model_name}` at {url}/v1{traces}
Try it:

  curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{json.dumps(body)}'

Stop it: Ctrl-C
"""
