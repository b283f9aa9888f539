"""`outrider engine`: one engine process, without HTTP."""

from typing import Annotated

import typer

from outrider.cli import options
from outrider.engine.config import DEFAULT_SPECULATION


def engine(
    model: options.Model = None,
    listen: Annotated[str, typer.Option(help="unix:/path, or fd:N for an inherited socket.")] = "unix:engine.sock",
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
    null: Annotated[
        bool, typer.Option("--null", help="Load no weights and answer at once, with random words: to measure the rest.")
    ] = False,
    null_step: Annotated[float, typer.Option(min=0.0, help="How long a step of --null takes, in milliseconds.")] = 0.0,
    exit_with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start an engine alone; `outrider gateway` connects to it."""
    options.wait_passively()
    from outrider.engine.config import EngineConfig
    from outrider.engine.errors import LoadError
    from outrider.engine.process import exit_when_parent_ends, listen_on, run_core, run_engine
    from outrider.telemetry.logs import configure_logging

    if exit_with_parent:
        exit_when_parent_ends()
    draft, eagle, medusa = options.with_demo_speculators(model, draft, eagle, medusa)
    configure_logging("info", "text")
    try:
        if null:
            from outrider.engine.null import NullCore

            folder = options.demo_if_none(model)
            run_core(NullCore(folder, step_seconds=null_step / 1000, max_model_len=max_model_len), listen_on(listen))
            return
        config = EngineConfig(
            model=options.demo_if_none(model),
            revision=revision,
            dtype=dtype,
            device=device,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            kv_dtype=kv_dtype,
            kv_memory_bytes=options.parse_memory(kv_memory),
            memory_utilization=memory_utilization,
            num_threads=threads,
            prefix_caching=prefix_caching,
            speculation=speculation,
            speculation_allowed=speculation_allowed,
            speculation_max_tokens=speculation_max_tokens,
            draft=draft,
            eagle=eagle,
            medusa=medusa,
            suffix_sharing=suffix_sharing,
        )
        run_engine(config, listen_on(listen))
    except (LoadError, ValueError) as error:
        options.fail(str(error))
