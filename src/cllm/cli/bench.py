"""`cllm bench`: how fast this machine writes and learns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.output import JsonFlag, Output, make_console
from cllm.cli.tables import heading, listing, remark
from cllm.jobs.workspace import open_workspace
from cllm.quantities import short_count, size

if TYPE_CHECKING:
    from cllm.jobs.bench import BenchResult, FormatFigures, ModelFigures, OnProgress
    from cllm.jobs.bench_timing import Rates


# With spreads and sizes the table is about so wide; on narrower terminals they are left out.
_WHOLE_WIDTH = 116


def bench(
    model: ModelName | None = None,
    /,
    *,
    preset: Annotated[
        list[str] | None,
        Parameter(help="tiny, small, mid or large; may be repeated. All of them unless given."),
    ] = None,
    seconds: Annotated[float, Parameter(help="About how long to measure, all together.")] = 60.0,
    threads: Annotated[
        int | None, Parameter(help="Threads; by the model's size unless given.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Measure how fast this machine writes and learns: for a model, or for four sizes.

    Tokens a second when reading a prompt, when writing one text, eight, or thirty-two at once,
    with weights in 32, 8 and 4 bits; the time to the first token; training; memory.
    """
    output = Output(as_json=json)
    from cllm.jobs.bench import bench as run
    from cllm.study.surroundings import surroundings

    with _progress(output) as on_progress:
        result = run(
            model,
            workspace=open_workspace(),
            presets=preset or (),
            seconds=seconds,
            threads=threads,
            on_progress=on_progress,
        )
    where = surroundings()
    _show(output, result)
    cores = f"{where['processor']}, {where['cores']} cores"
    versions = ", ".join(f"{name} {known}" for name, known in where["versions"].items() if known)
    output.print(remark(f"\n{cores}; {versions}", "label"))
    output.result(result.to_json() | {"seconds": seconds, **where})


@contextmanager
def _progress(output: Output) -> Iterator[OnProgress]:
    """A moving line on a terminal; else a line for each model on standard error."""
    if not output.is_terminal:
        console = make_console(sys.stderr)
        yield lambda name, done, total: console.print(f"measuring {name} ({done + 1} of {total})")
        return
    with output.console.status("") as status:
        yield lambda name, done, total: status.update(f"measuring {name} ({done + 1} of {total})")


def _show(output: Output, result: BenchResult) -> None:
    texts = [f"{number} texts" for number in result.models[0].formats[0].batches]
    columns = ("model", "weights", "prompt", "one text", *texts)
    has_spread = output.console.width >= _WHOLE_WIDTH
    first = "first token" if has_spread else "first"
    columns = (*columns, first, "training", "memory")
    rows = [
        _row(figures, formats, is_first=number == 0, has_spread=has_spread)
        for figures in result.models
        for number, formats in enumerate(figures.formats)
    ]
    output.print(heading("Tokens a second"))
    output.print(listing(columns, rows, right=columns[2:]))
    figures = result.models[0]
    context = max(model.prompt_tokens for model in result.models)
    output.print(
        remark(
            f"\nMedians of {len(figures.formats[0].decode.values)} rounds"
            f"{', ± half of the spread' if has_spread else ''}. "
            f"Prompts of {context} tokens; the first token comes after a prompt of 8. "
            "Memory is that of a whole process that writes with it.",
            "label",
        )
    )
    for model in result.models:
        if model.notice is not None:
            output.print(remark(f"{model.name}: {model.notice}", "warn"))
    if result.is_disturbed:
        busy = max(result.busy_before, result.busy_after)
        told = f"Other programs used {busy:.0%} of the processors: a quiet machine does better."
        output.print(remark(told, "warn"))


def _row(
    figures: ModelFigures, found: FormatFigures, *, is_first: bool, has_spread: bool
) -> tuple[str | Text, ...]:
    def shown(rates: Rates, text: str = "") -> Text:
        cell = Text(text or short_count(rates.median))
        return cell.append(f" ±{rates.spread:.0%}", "label") if has_spread else cell

    name = Text(figures.name if is_first else "")
    if is_first and has_spread:
        name.append(f"  {short_count(figures.parameters)}", "label")
    training = shown(figures.training) if is_first and figures.training else Text("")
    return (
        name,
        found.format,
        shown(found.prefill),
        shown(found.decode),
        *(shown(rates) for rates in found.batches.values()),
        shown(found.first_token_s, _short_time(found.first_token_s.median)),
        training,
        size(found.process_bytes),
    )


def _short_time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 999.5e-6 else f"{seconds * 1e3:.3g} ms"
