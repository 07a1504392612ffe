"""`cllm study`: experiments that train many models and compare them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from cllm.cli.flags import Place
from cllm.cli.output import JsonFlag, Output, QuietFlag
from cllm.cli.tables import heading, listing, remark
from cllm.config import Preset
from cllm.jobs.workspace import home_folder
from cllm.quantities import clock, decimals, duration

if TYPE_CHECKING:
    from cllm.study.findings import Findings
    from cllm.study.mechanisms import Begun, Event, Ran

app = App(
    name="study",
    help="Experiments that train many models and compare them.",
    help_format="plaintext",
    help_epilogue="",
    group_commands="Commands",
)

_Text = Annotated[Place, Parameter(help="One or two texts, each a file, a folder or a pattern.")]


@dataclass(frozen=True, slots=True)
class _Runs:
    """Which runs are made, and how long each is."""

    seconds: Annotated[
        float, Parameter(validator=Number(gt=0), help="Wall time of each run, from Enter on.")
    ] = 30.0
    steps: Annotated[
        int | None,
        Parameter(validator=Number(gte=1), help="Steps of each run instead, for a quick check."),
    ] = None
    seeds: Annotated[
        int, Parameter(validator=Number(gte=1), help="Runs of each arm in the screen.")
    ] = 2
    confirm_seeds: Annotated[
        int, Parameter(validator=Number(gte=1), help="Runs of each arm in the confirmation.")
    ] = 5
    only: Annotated[
        list[str] | None,
        Parameter(
            negative="", help="Screen this mechanism or variant alone; may be given several times."
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            negative="",
            help="What to confirm: a set, mechanism or variant; may be given several times."
            " [default: crystal]",
        ),
    ] = None
    parallel: Annotated[
        int | None,
        Parameter(
            validator=Number(gte=1),
            help="Runs at a time, with the cores shared out between them; one a core in the screen"
            " and one alone in the confirmation unless given.",
        ),
    ] = None
    screen_preset: Annotated[Preset, Parameter(help="Size of the models of the screen.")] = "tiny"
    confirm_preset: Annotated[Preset, Parameter(help="Size of the models of the confirmation.")] = (
        "small"
    )


@app.command
def mechanisms(
    *places: _Text,
    phase: Annotated[
        Literal["screen", "confirm", "report", "all"],
        Parameter(help="Which part to do; the report is always written anew."),
    ] = "all",
    folder: Annotated[
        Path | None,
        Parameter(help="Where the study is kept; in studies/mechanisms of CLLM_HOME unless given."),
    ] = None,
    runs: Annotated[_Runs | None, Parameter(name="*", help="Which runs are made.")] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Train with each mechanism, its placebo and neither, and tell what helps.

    Give one or two texts; without any, those that Python brings are used. The first is the
    screen's, and all are the confirmation's. Stopped by Ctrl-C, the same command goes on.
    """
    from cllm.study.mechanisms import EVERY_PHASE, study_mechanisms
    from cllm.study.plan import StudySettings

    output, runs = Output(as_json=json, quiet=quiet), runs or _Runs()
    settings = StudySettings(
        seconds=runs.seconds,
        steps=runs.steps,
        seeds=runs.seeds,
        confirm_seeds=runs.confirm_seeds,
        only=tuple(runs.only or ()),
        sets=tuple(runs.set_ or ("crystal",)),
        parallel=runs.parallel,
        screen_preset=runs.screen_preset,
        confirm_preset=runs.confirm_preset,
    )
    with _View(output) as view:
        done = study_mechanisms(
            places,
            folder=folder or home_folder() / "studies" / "mechanisms",
            settings=settings,
            phases=EVERY_PHASE if phase == "all" else (phase,),
            command=["cllm", *sys.argv[1:]],
            observe=view.observe,
        )
    _show(output, done.findings)
    output.print(heading("Report"))
    output.print(remark(shlex.quote(str(done.report)), "accent"))
    output.result(
        {
            "folder": str(done.report.parent),
            "report": str(done.report),
            "runs": done.findings.num_runs,
            "failed": len(done.findings.failed),
            **done.measured,
        }
    )


class _View:
    """A bar with the time left; in a pipe, a line for each run."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._bar = Progress(
            TextColumn("  {task.description}", style="label"),
            BarColumn(complete_style="accent", finished_style="accent"),
            TextColumn("{task.fields[left]}", style="label"),
            console=output.console,
            transient=True,
            disable=not output.is_terminal or output.quiet,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> _View:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def observe(self, event: Event) -> None:
        """Show what happens."""
        from cllm.study.mechanisms import Begun, Planned, Preparing, Ran

        if isinstance(event, Preparing):
            self._say(f"Preparing {event.what} …")
        elif isinstance(event, Planned):
            time = "" if event.seconds is None else f", about {duration(event.seconds)}"
            self._output.print(f"{event.num_runs} runs{time}")
        elif isinstance(event, Begun):
            self._begin(event)
        elif isinstance(event, Ran):
            self._ran(event)

    def _say(self, text: str) -> None:
        self._output.print(text, style="label")

    def _begin(self, event: Begun) -> None:
        before = f" ({event.num_done} are done)" if event.num_done else ""
        self._output.print(f"{event.phase}: {event.num_runs} runs{before}", style="head")
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(
            event.phase, total=event.num_runs, completed=event.num_done, left=""
        )

    def _ran(self, event: Ran) -> None:
        if event.error is not None:
            self._output.print(f"{event.label} failed: {event.error}", style="warn")
        left = f"{event.num_done}/{event.num_runs} · {clock(event.left_s)} left"
        if self._task is not None:
            self._bar.update(
                self._task, completed=event.num_done, description=event.label, left=left
            )
        if not self._output.is_terminal and event.error is None:
            figure = f"{decimals(event.bits_per_byte, 4)} bits per byte"
            self._output.print(f"{event.label}: {figure} ({left})")


def _show(output: Output, findings: Findings) -> None:
    from cllm.study.report import interval, p_value

    if findings.screened:
        output.print(heading("Screen"))
        columns = ("mechanism", "engine", "gain", "placebo", "steps", "")
        rows = [
            (
                Text(entry.arm, "head"),
                entry.engine,
                f"{entry.gain:+.2f}%",
                "–" if entry.placebo_gain is None else f"{entry.placebo_gain:+.2f}%",
                f"{entry.steps_ratio:.2f}",
                entry.verdict,
            )
            for entry in findings.screened
        ]
        output.print(listing(columns, rows, right=("gain", "placebo", "steps")))
        margin = findings.screened[0].margin
        if margin is not None:
            output.print(remark(f"gains below {margin:.2f}% can be chance", "label"))
    if findings.confirmed:
        output.print(heading("Confirmation"))
        columns = ("set", "at equal", "gain (95% interval)", "p", "placebo", "")
        confirmed = [
            (
                Text(entry.arm, "head"),
                entry.budget,
                interval(entry.gain),
                p_value(entry.gain),
                interval(entry.placebo_gain),
                entry.verdict,
            )
            for entry in findings.confirmed
        ]
        output.print(listing(columns, confirmed))
    if findings.failed:
        output.print(remark(f"{len(findings.failed)} runs failed: see the report", "warn"))
