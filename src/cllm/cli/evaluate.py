"""`cllm eval`: measure a model on files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.padding import Padding
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.flags import ConfigFlag, Place, read_settings
from cllm.cli.output import JsonFlag, Output, QuietFlag, moving_bar, printable
from cllm.cli.tables import heading, listing, remark
from cllm.config import Settings
from cllm.errors import NoTextError
from cllm.jobs.workspace import open_workspace
from cllm.quantities import count, decimals

if TYPE_CHECKING:
    from cllm.jobs.evaluate import EvaluateResult, OnProgress, SourceScore
    from cllm.jobs.memorisation import CopiedText, Memorisation

_MOST_ROWS, _SHOWN_CHARACTERS = 50, 60


def evaluate(
    model: ModelName,
    /,
    *places: Place,
    stride: Annotated[
        int | None,
        Parameter(help="Tokens by which the window moves on; half of the context unless given."),
    ] = None,
    memorisation: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Also measure what the model copies, and what of the files it was trained on.",
        ),
    ] = False,
    config: ConfigFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Measure a model on files, folders or patterns: bits per byte, lower is better.

    Every byte is scored once, in windows that overlap by half. Bits per byte compare models
    with different tokenisers; perplexity is by the token and doesn't.
    """
    output = Output(as_json=json, quiet=quiet)
    text_settings = read_settings(Settings, {}, config=config).text
    if not places:
        raise NoTextError("say what to measure on", hint=f"For example:  cllm eval {model} FILE")
    workspace = open_workspace()
    from cllm.jobs.evaluate import evaluate as run

    with _progress(output) as on_progress:
        result = run(
            model,
            places,
            workspace=workspace,
            settings=text_settings,
            stride=stride,
            memorisation=memorisation,
            on_progress=on_progress,
        )
    _show(output, result)
    output.result(result.to_json())


@contextmanager
def _progress(output: Output) -> Iterator[OnProgress]:
    with moving_bar(output) as show:
        yield lambda source, done, total: show(
            description=printable(source)[-40:], completed=done, total=total
        )


def _show(output: Output, result: EvaluateResult) -> None:
    rows = [_row(score, printable(score.source)) for score in result.sources[:_MOST_ROWS]]
    if len(result.sources) > 1:
        rows.append(_row(result.total, "all"))
    columns = ("source", "bytes", "tokens", "bits per byte", "perplexity")
    output.print(listing(columns, rows, right=columns[1:]))
    left = len(result.sources) - _MOST_ROWS
    if left > 0:
        output.print(remark(f"and {left:,} more (all with --json)", "label"))
    if result.total.charged_bytes:
        shown = f"{count(result.total.charged_bytes)} bytes have no token; each counts 8 bits."
        output.print(remark(shown, "label"))
    for skip in result.skipped[:_MOST_ROWS]:
        shown = f"left out: {printable(skip.source)}: {printable(skip.reason)}"
        output.print(remark(shown, "warn"))
    if result.memorisation is not None:
        _show_memorisation(output, result.memorisation)


def _row(score: SourceScore, name: str) -> tuple[str, ...]:
    perplexity = score.perplexity
    return (
        name,
        count(score.bytes),
        count(score.tokens),
        decimals(score.bits_per_byte if score.bytes else None),
        decimals(None if math.isnan(perplexity) else perplexity, 1),
    )


def _show_memorisation(output: Output, found: Memorisation) -> None:
    characters = found.samples[0].min_characters
    output.print(heading("Is it copying?"))
    output.print(_copied_table("sample after", found.samples))
    output.print(heading("Was it trained on what it is measured on?"))
    output.print(_copied_table("source", found.sources))
    told = f"copied: in stretches of {characters} characters or more, word for word"
    output.print(remark(told, "label"))


def _copied_table(what: str, texts: list[CopiedText]) -> Padding:
    rows = [
        (
            printable(repr(text.name) if what != "source" else text.name) or "–",
            f"{text.share:.1%}",
            count(text.longest_characters),
            Text(printable(repr(text.longest[:_SHOWN_CHARACTERS])), "label"),
        )
        for text in texts
    ]
    columns = (what, "copied", "longest", "which is (its beginning)")
    return listing(columns, rows, right=("copied", "longest"))
