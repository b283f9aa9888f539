"""`outrider train evaluate`: how many tokens a step of a target emits with each speculator."""

import json
from pathlib import Path
from typing import Annotated

import typer

from outrider.cli import options
from outrider.cli.samples import Source, read_prompts
from outrider.cli.train import Data, TargetPath, TemplateArguments, Threads, one_line_errors, prepare


def evaluate(
    target: TargetPath = None,
    draft: Annotated[Path | None, typer.Option(help="Folder of a draft model.")] = None,
    eagle3: Annotated[
        Path | None, typer.Option(help="Folder of an EAGLE head, of the first or the third kind.")
    ] = None,
    medusa: Annotated[Path | None, typer.Option(help="Folder of Medusa heads.")] = None,
    data: Data = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Prompts of each kind.")] = 40,
    num_tokens: Annotated[int, typer.Option(min=1, help="Most drafted tokens of a step.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Most tokens of an answer.")] = 256,
    chat_template_kwargs: TemplateArguments = "{}",
    threads: Threads = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Mean emitted tokens per step of the target, for n-grams and for each speculator given.

    Greedy, on the prompts of --data without their last answers. With no target and no speculator named, the embedded
    family is measured, on held-out prompts of its recipe.
    """
    options.wait_passively()
    from rich.console import Console
    from rich.progress import Progress

    from outrider.demo import speculator_path
    from outrider.speculative.training import evaluation
    from outrider.speculative.training.drafters import load_drafters
    from outrider.speculative.training.target import load_target

    if output is not None and not output.parent.is_dir():
        options.fail(f"--output {output}: there is no folder `{output.parent}`")
    if target is None and draft is None and eagle3 is None and medusa is None:
        draft, eagle3, medusa = (speculator_path(kind) for kind in ("draft", "eagle3", "medusa"))
    with one_line_errors():
        prepare(threads)
        teacher = load_target(options.demo_if_none(target))
        drafters, taps = load_drafters(teacher, draft, eagle3, medusa, num_tokens)
        source = Source(data, None, target is None, teacher.max_length, chat_template_kwargs)
        prompts = read_prompts(teacher, source, num_prompts)
        with Progress(transient=True) as progress:
            task = progress.add_task("Measuring", total=len(prompts))
            table = evaluation.measure(
                teacher,
                drafters,
                prompts,
                tap_layers=taps,
                max_new_tokens=max_new_tokens,
                on_prompt=lambda: progress.advance(task),
            )
        Console().print(evaluation.as_table(table, num_tokens))
        if output is not None:
            output.write_text(json.dumps(evaluation.as_figures(table), indent=2) + "\n")
