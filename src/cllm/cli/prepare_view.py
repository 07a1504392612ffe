"""How the preparing of text is shown: a bar while it goes on, a table of what was read."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cllm.cli.output import Output
from cllm.cli.tables import heading, listing, remark
from cllm.quantities import count, size

if TYPE_CHECKING:
    from collections.abc import Iterable

_STAGES = {
    "reading": "Reading the text",
    "tokenizer": "Building the vocabulary",
    "encoding": "Turning text into tokens",
}
_REFRESH_S = 0.1
_NUM_SKIPS_SHOWN = 6


@runtime_checkable
class CorpusLike(Protocol):
    """What the report shows of a corpus."""

    train: Any
    val: Any
    report: Any
    tokenizer: Any
    dialogue: Any


class PrepareView:
    """A bar for the stage at work; in a pipe, one line a stage."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._live: Live | None = None
        self._stage = ""
        self._shown_at = 0.0

    def __enter__(self) -> PrepareView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def progress(self, stage: str, done_bytes: int, total_bytes: int | None) -> None:
        """Show how far a stage is."""
        is_new, now = stage != self._stage, time.monotonic()
        self._stage = stage
        if self._output.quiet or not (is_new or now - self._shown_at > _REFRESH_S):
            return
        self._shown_at = now
        title = _STAGES.get(stage, stage)
        if not self._output.is_terminal:
            if is_new:
                self._output.print(f"{title} …")
            return
        if self._live is None:
            self._live = Live(console=self._output.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(_bar(title, done_bytes, total_bytes, now), refresh=True)

    def stop(self) -> None:
        """Take the bar away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _bar(title: str, done: int, total: int | None, now: float) -> Table:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(
        total=total or None,
        completed=min(done, total) if total else 0,
        pulse=not total,
        animation_time=now,
        complete_style="accent",
        finished_style="accent",
    )
    amount = f"{size(done)} of {size(total)}" if total else size(done)
    row.add_row(Text(f"  {title}", "label"), bar, Text(amount, "label"))
    return row


def print_report(output: Output, corpus: CorpusLike) -> None:
    """Tell what was read, what was left out and why, and what came of it."""
    report = corpus.report
    output.print(heading("Text"))
    columns = ("type", "files", "skipped", "documents", "bytes", "characters")
    rows = [
        (kind, *_cells(row)) for kind, row in sorted(report.rows.items(), key=lambda item: item[0])
    ]
    if len(rows) > 1:
        rows.append(("together", *_sums(report.rows.values())))
    output.print(listing(columns, rows, right=columns[1:]))
    for line in _remarks(corpus):
        output.print(remark(line))


def _cells(row: Any) -> tuple[str, ...]:
    return (
        count(row.files_read),
        count(row.files_skipped) if row.files_skipped else "",
        count(row.documents),
        size(row.num_bytes),
        count(row.num_characters),
    )


def _sums(rows: Iterable[Any]) -> tuple[str, ...]:
    kept = list(rows)
    skipped = sum(row.files_skipped for row in kept)
    return (
        count(sum(row.files_read for row in kept)),
        count(skipped) if skipped else "",
        count(sum(row.documents for row in kept)),
        size(sum(row.num_bytes for row in kept)),
        count(sum(row.num_characters for row in kept)),
    )


def _remarks(corpus: CorpusLike) -> list[Text]:
    report = corpus.report
    lines = [
        Text(f"skipped {skip.source}: {skip.reason}", "warn")
        for skip in report.skipped[:_NUM_SKIPS_SHOWN]
    ]
    more = len(report.skipped) - _NUM_SKIPS_SHOWN
    if more > 0:
        lines.append(Text(f"… and {count(more)} more skipped", "warn"))
    dropped = []
    if report.exact_duplicates:
        dropped.append(f"{count(report.exact_duplicates)} exact")
    if report.near_duplicates:
        dropped.append(f"{count(report.near_duplicates)} near")
    if dropped:
        lines.append(Text(f"duplicates dropped: {', '.join(dropped)}", "label"))
    tokens = Text(f"{count(corpus.train.num_tokens)} tokens to learn from", "label")
    if corpus.val.num_tokens:
        tokens.append(f", {count(corpus.val.num_tokens)} held out to measure")
    tokenizer = corpus.tokenizer
    lines.append(tokens.append(f" · {tokenizer.kind}, {count(tokenizer.vocab_size)} entries"))
    if corpus.dialogue is not None:
        lines.append(
            Text(f"this is dialogue ({corpus.dialogue.kind}): the model can chat", "label")
        )
    return lines
