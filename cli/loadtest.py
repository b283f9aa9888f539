"""`outrider loadtest`: measures a running server. The flags are those of `vllm bench serve` where it has them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from outrider.loadtest.run import Outcome

app = typer.Typer(invoke_without_command=True, subcommand_metavar="[compare|crossover]")

INTERRUPTED = 130
BACKENDS = {"openai-chat": "/v1/chat/completions", "openai": "/v1/completions", "vllm": "/v1/completions"}


@app.callback()
def loadtest(
    context: typer.Context,
    base_url: Annotated[str | None, typer.Option(help="Address of the server, without /v1.")] = None,
    host: Annotated[str, typer.Option(help="Where --base-url is not given.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where --base-url is not given.")] = 8000,
    backend: Annotated[
        Literal["openai-chat", "openai", "vllm"], typer.Option(help="openai-chat: chat; the others: completions.")
    ] = "openai-chat",
    endpoint: Annotated[
        Literal["/v1/chat/completions", "/v1/completions"] | None, typer.Option(help="Where requests go.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Default: the first that the server lists.")] = None,
    served_model_name: Annotated[str | None, typer.Option(help="What the server calls the model.")] = None,
    header: Annotated[list[str], typer.Option(help="NAME=VALUE that goes with each request; repeat.")] = [],
    insecure: Annotated[bool, typer.Option("--insecure", help="Accept any certificate.")] = False,
    api_keys: Annotated[Path | None, typer.Option(help="File with a key a line, KEY=WEIGHT for weights.")] = None,
    ready_check_timeout_sec: Annotated[int, typer.Option(min=0, help="Wait so long for the server.")] = 0,
    num_prompts: Annotated[
        int | None, typer.Option(help="Requests (conversations) to measure; 32, or what stages and traces bring.")
    ] = None,
    request_rate: Annotated[float, typer.Option(help="Arrivals per second; inf: as fast as they are taken.")] = float(
        "inf"
    ),
    burstiness: Annotated[float, typer.Option(help="1: Poisson; below: burstier; above: smoother; inf: even.")] = 1.0,
    max_concurrency: Annotated[int | None, typer.Option(help="Most requests under way at once.")] = None,
    ramp_up_strategy: Annotated[
        Literal["linear", "exponential"] | None, typer.Option(help="The rate changes from request to request.")
    ] = None,
    ramp_up_start_rps: Annotated[float, typer.Option(help="Rate at the first request.")] = 0.0,
    ramp_up_end_rps: Annotated[float, typer.Option(help="Rate at the last request.")] = 0.0,
    stages: Annotated[str, typer.Option(help="RATE:SECONDS,RATE:SECONDS, one after the other.")] = "",
    self_timed: Annotated[
        bool, typer.Option("--self-timed", help="Requests come at the timestamps of a jsonl.")
    ] = False,
    timed_trace_sec_multiplier: Annotated[float | None, typer.Option(help="Seconds of a timestamp's unit.")] = None,
    timed_trace_chunk_hash_size: Annotated[int | None, typer.Option(help="Tokens that one hash id stands for.")] = None,
    sweep_rates: Annotated[str, typer.Option(help="Rates between commas; ends where the server falls behind.")] = "",
    sweep_concurrency: Annotated[str, typer.Option(help="Numbers of users between commas.")] = "",
    dataset_name: Annotated[
        Literal["demo", "random", "prefix_repetition", "jsonl", "custom", "sharegpt", "timed_trace", "mooncake", "mix"],
        typer.Option(help="demo: six kinds of tasks; docs/loadtest.md tells of all."),
    ] = "demo",
    dataset_path: Annotated[Path | None, typer.Option(help="Of a dataset that is a file.")] = None,
    mix: Annotated[str, typer.Option(help="With --dataset-name mix: demo=3,random=1.")] = "",
    demo_kind: Annotated[list[str], typer.Option(help="Only such tasks of demo; repeat.")] = [],
    random_input_len: Annotated[int, typer.Option(help="Words in a random prompt.")] = 1024,
    random_output_len: Annotated[int, typer.Option(help="Tokens asked for by a random prompt.")] = 128,
    random_range_ratio: Annotated[float, typer.Option(help="Lengths vary by this part, 0 to 1.")] = 0.0,
    random_prefix_len: Annotated[int, typer.Option(help="Words that all random prompts begin with.")] = 0,
    prefix_repetition_prefix_len: Annotated[int, typer.Option(help="Words of a shared prefix.")] = 256,
    prefix_repetition_suffix_len: Annotated[int, typer.Option(help="Words behind it.")] = 256,
    prefix_repetition_num_prefixes: Annotated[int, typer.Option(help="How many prefixes there are.")] = 10,
    prefix_repetition_output_len: Annotated[int, typer.Option(help="Tokens asked for.")] = 128,
    input_len: Annotated[int | None, typer.Option(help="--random-input-len.")] = None,
    output_len: Annotated[int | None, typer.Option(help="Most tokens of an answer, whatever the dataset.")] = None,
    multi_turn: Annotated[bool, typer.Option("--multi-turn", help="All questions of a ShareGPT dialogue.")] = False,
    think_time: Annotated[float, typer.Option(help="Mean seconds between an answer and the next turn.")] = 0.0,
    json_schema: Annotated[Path | None, typer.Option(help="Schema of all answers that have none of their own.")] = None,
    structured_output_ratio: Annotated[
        float, typer.Option(help="Part of the requests with a schema that ask for it; all are validated.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of prompts and arrivals.")] = 0,
    num_warmups: Annotated[int, typer.Option(help="Requests at the beginning that are not measured.")] = 0,
    temperature: Annotated[float | None, typer.Option(help="Default: the server's.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Default: the server's.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Default: the server's.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Default: the server's.")] = None,
    frequency_penalty: Annotated[float | None, typer.Option(help="Default: the server's.")] = None,
    presence_penalty: Annotated[float | None, typer.Option(help="Default: the server's.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Default: the server's.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Always generate the full length.")] = False,
    speculation: Annotated[
        str, typer.Option(help="Outrider's request field: off, auto, ngram, a+b; by weights: ngram=2,off=1.")
    ] = "",
    priority: Annotated[str, typer.Option(help="Outrider's request field, by weights: 0=3,5=1.")] = "",
    extra_body: Annotated[str, typer.Option(help="JSON object merged into each request.")] = "{}",
    goodput: Annotated[list[str], typer.Option(help="Limits in ms: ttft:200,tpot:50,itl:100,e2el:3000.")] = [],
    percentile_metrics: Annotated[
        str | None,
        typer.Option(help="Latencies to print: ttft,tpot,itl,icl,e2el,...; default: what the run calls for."),
    ] = None,
    metric_percentiles: Annotated[str, typer.Option(help="Percentiles to report.")] = "50,90,99",
    processes: Annotated[int, typer.Option(help="Of the load generator, where one core does not suffice.")] = 1,
    scrape_interval: Annotated[float, typer.Option(help="Seconds between looks at /metrics; 0: none.")] = 1,
    label: Annotated[str | None, typer.Option(help="Begins the name of the result file.")] = None,
    metadata: Annotated[list[str], typer.Option(help="NAME=VALUE that goes into the result; repeat.")] = [],
    save_result: Annotated[bool, typer.Option(help="Write the result file.")] = True,
    save_detailed: Annotated[bool, typer.Option("--save-detailed", help="With figures for each request.")] = False,
    append_result: Annotated[bool, typer.Option("--append-result", help="Add a line to the result file.")] = False,
    result_dir: Annotated[Path | None, typer.Option(help="Default: the current folder.")] = None,
    result_filename: Annotated[str | None, typer.Option(help="Default: made of endpoint, rate, model, date.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a row for each request.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report with charts as one file.")] = None,
    disable_tqdm: Annotated[bool, typer.Option("--disable-tqdm", help="No progress bar.")] = False,
) -> None:
    """Measure throughput and latency of a server. The API key is taken from OPENAI_API_KEY."""
    if context.invoked_subcommand is not None:
        return
    from outrider.cli.loadtest_tasks import demo_tasks
    from outrider.loadtest import parse
    from outrider.loadtest.arrival import Ramp, parse_stages
    from outrider.loadtest.config import LoadtestConfig
    from outrider.loadtest.errors import InvalidOptionError, LoadtestError
    from outrider.loadtest.progress import progress_bar
    from outrider.loadtest.run import prepare, run_prepared
    from outrider.loadtest.slo import parse_goodput
    from outrider.loadtest.sweep import concurrency_sweep, rate_sweep
    from outrider.loadtest.weights import parse_weighted

    api_key = os.environ.get("OPENAI_API_KEY")
    sampling = {
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
        "repetition_penalty": repetition_penalty,
    }

    def run(config: LoadtestConfig) -> "Outcome":
        prepared = prepare(config, api_key=api_key, tasks=tasks, patience=ready_check_timeout_sec)
        with progress_bar(prepared.workload.num_requests, is_shown=not disable_tqdm) as on_record:
            return run_prepared(prepared, api_key=api_key, on_record=on_record)

    outcomes: list[Outcome] = []
    try:
        tasks = demo_tasks(demo_kind)
        config = LoadtestConfig(
            base_url=base_url or f"http://{host}:{port}",
            model=model,
            served_model_name=served_model_name,
            endpoint=endpoint or BACKENDS[backend],  # type: ignore[arg-type]
            headers=parse.parse_pairs("--header", header),
            is_insecure=insecure,
            api_keys=parse.read_keys(api_keys) if api_keys else None,
            num_prompts=num_prompts,
            request_rate=request_rate,
            burstiness=burstiness,
            max_concurrency=max_concurrency,
            ramp=Ramp(ramp_up_strategy, ramp_up_start_rps, ramp_up_end_rps) if ramp_up_strategy else None,
            stages=parse_stages(stages) if stages else (),
            self_timed=self_timed,
            trace_seconds=timed_trace_sec_multiplier,
            trace_chunk=timed_trace_chunk_hash_size,
            dataset_name=dataset_name,
            dataset_path=dataset_path,
            mix=parse_weighted("--mix", mix) if mix else None,
            random_input_len=input_len or random_input_len,
            random_output_len=random_output_len,
            random_range_ratio=random_range_ratio,
            random_prefix_len=random_prefix_len,
            prefix_repetition_prefix_len=prefix_repetition_prefix_len,
            prefix_repetition_suffix_len=prefix_repetition_suffix_len,
            prefix_repetition_num_prefixes=prefix_repetition_num_prefixes,
            prefix_repetition_output_len=prefix_repetition_output_len,
            output_len=output_len,
            multi_turn=multi_turn,
            think_time=think_time,
            schema=parse.read_schema(json_schema) if json_schema else None,
            structured_output_ratio=structured_output_ratio,
            seed=seed,
            num_warmups=num_warmups,
            temperature=temperature,
            ignore_eos=ignore_eos,
            speculation=parse_weighted("--speculation", speculation) if speculation else None,
            priority=parse_weighted("--priority", priority) if priority else None,
            extra_body={name: value for name, value in sampling.items() if value is not None}
            | parse.parse_extra_body(extra_body),
            goodput=parse_goodput(goodput),
            percentile_metrics=None if percentile_metrics is None else parse.parse_names(percentile_metrics),
            metric_percentiles=parse.parse_numbers("--metric-percentiles", metric_percentiles),
            processes=processes,
            scrape_interval=scrape_interval,
            label=label,
            metadata=parse.parse_pairs("--metadata", metadata),
            save_result=save_result,
            save_detailed=save_detailed,
            append_result=append_result,
            result_dir=result_dir,
            result_filename=result_filename,
        )
        runs: Iterator[Outcome]
        if sweep_rates or sweep_concurrency:
            if csv is not None or (result_filename and not append_result):
                raise InvalidOptionError(
                    "a sweep is several runs: leave out --csv, and put --append-result beside a file name"
                )
            if sweep_rates and sweep_concurrency:
                raise InvalidOptionError("--sweep-rates and --sweep-concurrency exclude each other: give one of them")
            if sweep_rates:
                runs = rate_sweep(config, parse.parse_numbers("--sweep-rates", sweep_rates), run)
            else:
                runs = concurrency_sweep(config, parse.parse_counts("--sweep-concurrency", sweep_concurrency), run)
        else:
            runs = (run(each) for each in (config,))
        for outcome in runs:
            outcomes.append(outcome)
            _show(outcome, csv)
    except LoadtestError as error:
        raise failed(str(error)) from error
    finally:
        if html is not None and outcomes:
            _save_page(html, outcomes)
    _leave(outcomes[-1])


def _show(outcome: "Outcome", csv: Path | None) -> None:
    """Prints the report and writes the files of one run."""
    from outrider.loadtest.detail import save_csv

    typer.echo(outcome.report)
    try:
        outcome.save()
    except OSError as error:
        raise failed(f"cannot write {outcome.path}: {error.strerror}") from error
    if outcome.path is not None:
        typer.echo(f"Result: {outcome.path}")
    if csv is not None:
        try:
            save_csv(csv, outcome.findings)
        except OSError as error:
            raise failed(f"cannot write {csv}: {error.strerror}") from error
        typer.echo(f"Requests: {csv}")


def _save_page(path: Path, outcomes: "list[Outcome]") -> None:
    from outrider.loadtest.page import run_page, save_page

    try:
        save_page(path, run_page(outcomes))
    except OSError as error:
        raise failed(f"cannot write {path}: {error.strerror}") from error
    typer.echo(f"Report: {path}")


def _leave(outcome: "Outcome") -> None:
    """Ends with a status that is not 0 where something is missing."""
    findings = outcome.findings
    if findings.lost_server is not None:
        raise failed(f"{findings.lost_server}: the results are partial")
    if findings.is_partial:
        raise typer.Exit(INTERRUPTED)
    if outcome.summary.num_completed == 0:
        raise failed(f"no request succeeded: {outcome.summary.first_failure}")


def failed(message: str) -> typer.Exit:
    """Prints one line on standard error; to be raised."""
    typer.echo(f"outrider loadtest: {message}", err=True)
    return typer.Exit(1)
