"""A training run as a person sees it: calm text above, one moving bar below.

In a pipe there are plain lines instead, and progress only at every tenth of the way.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cllm.cli.output import Output
from cllm.cli.prepare_view import PrepareView, print_report
from cllm.cli.tables import remark
from cllm.cli.train_report import end_report, plan_facts, profile_table, sample_block
from cllm.jobs.events import (
    Advised,
    Continued,
    Event,
    Finished,
    Paused,
    Planned,
    Prepared,
    Preparing,
    Profiled,
    Sampled,
    Stepped,
    Validated,
)
from cllm.quantities import clock, count, decimals

# Faster than this nobody reads, and drawing takes time from the training.
_REFRESH_S = 0.2


class TrainView:
    """Shows the events of one run; give `observe` to the job."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._prepare = PrepareView(output)
        self._live: Live | None = None
        self._shown_at = 0.0
        self._tenth = 0
        self._began = time.monotonic()
        self._validated: Validated | None = None
        self._is_deaf = output.quiet

    def __enter__(self) -> TrainView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def observe(self, event: Event) -> None:
        """Show one event."""
        if self._is_deaf:
            return
        try:
            self._show(event)
        except BrokenPipeError:
            # Whoever read our output has gone; the training goes on.
            self._is_deaf = True

    def _show(self, event: Event) -> None:
        match event:
            case Preparing():
                self._prepare.progress(event.stage, event.done_bytes, event.total_bytes)
            case Prepared():
                self._prepare.stop()
                print_report(self._output, event.corpus)
            case Planned():
                plan = plan_facts(
                    event.plan,
                    event.model,
                    event.run,
                    event.resumed_step,
                    spent_s=time.monotonic() - self._began,
                )
                self._output.print(plan)
            case Stepped():
                self._step(event)
            case Validated():
                self._validated = event
            case Sampled():
                self._sample(event)
            case Paused() | Continued():
                self._pause(event)
            case Advised():
                self._output.print(remark(f"note: {event.message}", "warn"))
            case Profiled():
                self._stop()
                self._output.print(profile_table(event))
            case Finished():
                self._finish(event)

    def _pause(self, event: Paused | Continued) -> None:
        """It stands still, so the bar goes; or it goes on, and the next step draws it again."""
        self._stop()
        step = count(event.step)
        told = remark(f"Going on after step {step}.", "label")
        if isinstance(event, Paused):
            way = "The app resumes it; Ctrl-C ends it here."
            told = remark(f"Paused after step {step}; everything is saved. {way}", "warn")
        self._output.print(told)

    def _step(self, event: Stepped) -> None:
        if not self._output.is_terminal:
            self._plain_step(event)
            return
        now = time.monotonic()
        if self._live is None:
            self._live = Live(console=self._output.console, auto_refresh=False, transient=True)
            self._live.start()
        elif now - self._shown_at < _REFRESH_S and event.progress < 1:
            return
        self._shown_at = now
        self._live.update(_bar(event, self._validated), refresh=True)

    def _plain_step(self, event: Stepped) -> None:
        tenth = int(event.progress * 10 + 1e-9)
        if tenth > self._tenth:
            self._tenth = tenth
            left = f"{clock(event.remaining_s)} left"
            parts = [f"{event.progress:4.0%}", *_figures(event, self._validated), left]
            self._output.print("  ".join(parts))

    def _sample(self, event: Sampled) -> None:
        title = f"step {count(event.step)}"
        if event.step == 0:
            title = "before any training"
        elif self._validated is not None:
            title += f", {decimals(self._validated.bits_per_byte, 2)} bits per byte"
        self._output.print(sample_block(title, event.prompt, event.text))

    def _finish(self, event: Finished) -> None:
        self._stop()
        console, on_terminal = self._output.console, self._output.is_terminal
        for part in end_report(event.result, width=console.width, is_terminal=on_terminal):
            self._output.print(part)

    def _stop(self) -> None:
        self._prepare.stop()
        if self._live is not None:
            self._live.stop()
            self._live = None


def _figures(event: Stepped, validated: Validated | None) -> list[str]:
    steps = f"step {count(event.step)}"
    if event.total_steps is not None:
        steps += f" of {count(event.total_steps)}"
    parts = [
        steps,
        f"loss {decimals(event.train_nats, 2)}",
        f"{decimals(event.train_bpb, 2)} bits/byte",
    ]
    if validated is not None:
        parts[-1] += f" (unseen {decimals(validated.bits_per_byte, 2)})"
    return [*parts, f"{count(event.tokens_per_s)} tokens/s"]


def _bar(event: Stepped, validated: Validated | None) -> RenderableType:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(
        total=1.0,
        completed=min(max(event.progress, 0.0), 1.0),
        complete_style="accent",
        finished_style="accent",
    )
    row.add_row(bar, Text(f"{event.progress:.0%}  {clock(event.remaining_s)} left"))
    details = Text(" · ".join(_figures(event, validated)), "label", no_wrap=True)
    details.overflow = "ellipsis"
    return Group(Text(), Padding(Group(row, details), (0, 2, 0, 2)))
