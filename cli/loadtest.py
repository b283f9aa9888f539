"""`outrider loadtest`: measures a running server. The flags are those of `vllm bench serve` where it has them."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer


def loadtest(
    base_url: Annotated[str, typer.Option(help="Address of the server, without /v1.")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option(help="Default: the first that the server lists.")] = None,
    endpoint: Annotated[
        Literal["/v1/chat/completions", "/v1/completions"], typer.Option(help="Where requests go.")
    ] = "/v1/chat/completions",
    num_prompts: Annotated[int, typer.Option(help="How many requests to measure.")] = 32,
    request_rate: Annotated[float, typer.Option(help="Arrivals per second; inf: as fast as they are taken.")] = float(
        "inf"
    ),
    burstiness: Annotated[float, typer.Option(help="1: Poisson arrivals; below: burstier; above: smoother.")] = 1.0,
    max_concurrency: Annotated[int | None, typer.Option(help="Most requests under way at once.")] = None,
    dataset_name: Annotated[
        Literal["demo", "random", "jsonl"], typer.Option(help="Built-in prompts, random words, or a file.")
    ] = "demo",
    dataset_path: Annotated[
        Path | None, typer.Option(help="JSON lines: prompt or messages, output_tokens, extra_body.")
    ] = None,
    random_input_len: Annotated[int, typer.Option(help="Words in a random prompt.")] = 1024,
    random_output_len: Annotated[int, typer.Option(help="Tokens asked for by a random prompt.")] = 128,
    seed: Annotated[int, typer.Option(help="Of prompts and arrivals.")] = 0,
    num_warmups: Annotated[int, typer.Option(help="Requests sent before the measured ones.")] = 0,
    temperature: Annotated[float | None, typer.Option(help="Default: the server's.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Always generate the full length.")] = False,
    speculation: Annotated[str | None, typer.Option(help="Outrider's request field: off, auto, ngram, ...")] = None,
    extra_body: Annotated[str, typer.Option(help="JSON object merged into each request.")] = "{}",
    percentile_metrics: Annotated[
        str | None,
        typer.Option(help="Latencies to print: ttft,tpot,itl,icl,e2el,...; default: what the run calls for."),
    ] = None,
    metric_percentiles: Annotated[str, typer.Option(help="Percentiles to report.")] = "50,90,99",
    save_result: Annotated[bool, typer.Option(help="Write the result file.")] = True,
    result_dir: Annotated[Path | None, typer.Option(help="Default: the current folder.")] = None,
    result_filename: Annotated[str | None, typer.Option(help="Default: made of endpoint, rate, model, date.")] = None,
    disable_tqdm: Annotated[bool, typer.Option("--disable-tqdm", help="No progress bar.")] = False,
) -> None:
    """Measure throughput and latency of a server. The API key is taken from OPENAI_API_KEY."""
    from outrider.loadtest.config import LoadtestConfig, parse_extra_body, parse_names, parse_percentiles
    from outrider.loadtest.errors import LoadtestError
    from outrider.loadtest.progress import progress_bar
    from outrider.loadtest.run import run_loadtest

    try:
        config = LoadtestConfig(
            base_url=base_url,
            model=model,
            endpoint=endpoint,
            num_prompts=num_prompts,
            request_rate=request_rate,
            burstiness=burstiness,
            max_concurrency=max_concurrency,
            dataset_name=dataset_name,
            dataset_path=dataset_path,
            random_input_len=random_input_len,
            random_output_len=random_output_len,
            seed=seed,
            num_warmups=num_warmups,
            temperature=temperature,
            ignore_eos=ignore_eos,
            speculation=speculation,
            extra_body=parse_extra_body(extra_body),
            percentile_metrics=None if percentile_metrics is None else parse_names(percentile_metrics),
            metric_percentiles=parse_percentiles(metric_percentiles),
            save_result=save_result,
            result_dir=result_dir,
            result_filename=result_filename,
        )
        with progress_bar(num_prompts, is_shown=not disable_tqdm) as on_record:
            outcome = run_loadtest(config, api_key=os.environ.get("OPENAI_API_KEY"), on_record=on_record)
    except LoadtestError as error:
        raise _failed(str(error)) from error
    typer.echo(outcome.report)
    try:
        outcome.save()
    except OSError as error:
        raise _failed(f"cannot write {outcome.path}: {error.strerror}") from error
    if outcome.path is not None:
        typer.echo(f"Result: {outcome.path}")
    if outcome.is_partial:
        raise typer.Exit(130)
    if outcome.summary.num_completed == 0:
        raise _failed(f"no request succeeded: {outcome.summary.first_failure}")


def _failed(message: str) -> typer.Exit:
    typer.echo(f"outrider loadtest: {message}", err=True)
    return typer.Exit(1)
