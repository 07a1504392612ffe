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
    from cllm.jobs.bench import OnProgress
    from cllm.jobs.bench_figures import BenchResult, FormatFigures, ModelFigures, PeerFigures
    from cllm.jobs.bench_timing import Rates

# With spreads and sizes the table is about so wide; on narrower terminals they are left out.
_WHOLE_WIDTH = 116
# In a pipe progress is told so often.
_TOLD_SHARE = 0.02
# Nearer to one than this, nobody is faster.
_EVEN = 0.03


def bench(
    model: ModelName | None = None,
    /,
    *,
    preset: Annotated[
        list[str] | None,
        Parameter(help="tiny, small, mid or large; may be repeated. All of them unless given."),
    ] = None,
    peers: Annotated[
        bool, Parameter(negative="", help="Measure other programs too, on the same weights.")
    ] = False,
    seconds: Annotated[
        float | None,
        Parameter(help="About how long to measure, all together: 60, with --peers 180."),
    ] = None,
    threads: Annotated[
        int | None, Parameter(help="Threads; by the model's size unless given.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Measure how fast this machine writes and learns: for a model, or for four sizes.

    Tokens a second when reading a prompt, when writing one text, eight, or thirty-two at once,
    with weights in 32, 8 and 4 bits; the time to the first token; training; memory. With --peers,
    beside them what llama.cpp, transformers and ONNX Runtime reach, where they are installed.
    """
    output = Output(as_json=json)
    from cllm.jobs.bench import bench as run
    from cllm.jobs.bench import usual_seconds
    from cllm.study.surroundings import surroundings

    with _progress(output) as on_progress:
        result = run(
            model,
            workspace=open_workspace(),
            presets=preset or (),
            seconds=seconds,
            threads=threads,
            peers=peers,
            on_progress=on_progress,
        )
    where = surroundings()
    _show(output, result)
    if result.programs is not None:
        _show_peers(output, result)
    cores = f"{where['processor']}, {where['cores']} cores"
    versions = ", ".join(f"{name} {known}" for name, known in where["versions"].items() if known)
    output.print(remark(f"\n{cores}; {versions}", "label"))
    output.result(result.to_json() | {"seconds": seconds or usual_seconds(peers=peers), **where})


@contextmanager
def _progress(output: Output) -> Iterator[OnProgress]:
    """A moving line on a terminal; else now and then a line on standard error."""
    if output.is_terminal:
        with output.console.status("") as status:
            yield lambda *facts: status.update(_progress_line(*facts))
        return
    console, told = make_console(sys.stderr), [-1.0]

    def tell(name: str, done: int, total: int, share: float) -> None:
        if share - told[0] >= _TOLD_SHARE:
            told[0] = share
            console.print(_progress_line(name, done, total, share))

    yield tell


def _progress_line(name: str, done: int, total: int, share: float) -> str:
    return f"measuring {name} ({done + 1} of {total}), {share:.0%}"


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


def _show_peers(output: Output, result: BenchResult) -> None:
    columns = ("model", "program", "prompt", "one text", "training", "memory")
    rows = [row for figures in result.models for row in _peer_rows(figures)]
    if rows:
        output.print(heading("Beside other programs: tokens a second"))
        output.print(listing(columns, rows, right=columns[2:]))
        output.print(
            remark(
                "\n×: how many times as fast cllm is there, below 1 it is slower; medians of "
                "rounds in which all take turns, each with its best number of threads. "
                "bfloat16 is compared with float32, which cllm writes in instead. "
                "Memory is the most that a whole process held.",
                "label",
            )
        )
    for model in result.models:
        for problem in _problems(model):
            output.print(remark(problem, "warn"))
    for program in result.programs or ():
        if program["version"] is None:
            told = f"{program['name']} is not installed: {program['install']}"
        else:
            told = f"{program['name']}: {program['version']}"
        output.print(remark(told, "label"))


def _problems(model: ModelFigures) -> list[str]:
    found = [
        f"{model.name}: {peer.program} {peer.format} has no figures: {peer.problem}"
        for peer in model.peers
        if peer.problem is not None
    ]
    if model.peers_notice is not None:
        found.append(f"No other program runs {model.name}: {model.peers_notice}.")
    return found


def _peer_rows(figures: ModelFigures) -> Iterator[tuple[str | Text, ...]]:
    """Each format of ours, and below it those that are compared with it."""
    if not figures.peers:
        return
    for number, own in enumerate(figures.formats):
        training = figures.training if number == 0 else None
        name = Text(figures.name if number == 0 else "")
        program = Text(f"cllm {own.format}", "head")
        rates = (short_count(own.prefill.median), short_count(own.decode.median))
        learned = short_count(training.median) if training else ""
        yield name, program, *rates, learned, size(own.peak_bytes)
        for peer in figures.peers:
            if peer.against == own.format and peer.rates:
                cells = (_beside(peer, work) for work in ("prefill", "decode", "training"))
                yield "", f"{peer.program} {peer.format}", *cells, size(peer.peak_bytes)


def _beside(peer: PeerFigures, work: str) -> Text:
    """A rate, and how many times as fast ours is."""
    if work not in peer.rates:
        return Text("")
    cell = Text(short_count(peer.rates[work].median))
    if work in peer.ratios:
        times = peer.ratios[work].median
        style = "good" if times > 1 + _EVEN else "warn" if times < 1 - _EVEN else "label"
        cell.append(f" ×{times:.3g}" if times >= 10 else f" ×{times:.2f}", style)
    return cell


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
