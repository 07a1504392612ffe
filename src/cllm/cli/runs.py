"""`cllm runs`: list, show and resume training runs."""

from __future__ import annotations

import shlex
from typing import Any

from cyclopts import App
from rich.text import Text

from cllm.cli.completion import RunName
from cllm.cli.output import JsonFlag, Output, QuietFlag
from cllm.cli.tables import facts, heading, listing
from cllm.jobs import runs as jobs
from cllm.jobs.request import process_began
from cllm.jobs.workspace import open_workspace
from cllm.quantities import count, decimals, duration, moment

app = App(
    name="runs",
    help="List, show and resume training runs.",
    help_format="plaintext",
    help_epilogue="",
    group_commands="Commands",
)

_STYLES = {
    "finished": "good",
    "training": "accent",
    "preparing": "accent",
    "paused": "warn",
    "interrupted": "warn",
    "failed": "bad",
}


@app.command(name="list")
def list_(*, json: JsonFlag = False) -> None:
    """List every training run, the newest first."""
    output = Output(as_json=json)
    runs = jobs.list_runs(open_workspace())
    if json:
        output.result(runs)
        return
    if not runs:
        output.print("No runs yet. Start one:  cllm train FOLDER --minutes 5")
        return
    columns = ("run", "model", "state", "steps", "bits/byte", "time", "started")
    rows = [
        (
            run["id"],
            Text(run["model"], "head"),
            Text(run["state"], _STYLES.get(run["state"], "")),
            count(run["steps"]),
            decimals(run["val_bits_per_byte"]),
            duration(run["seconds_total"]),
            moment(run["started"]),
        )
        for run in runs
    ]
    output.print(listing(columns, rows, right=("steps", "bits/byte", "time")))
    paused = next((run["model"] for run in runs if run["state"] == "paused"), None)
    if paused:
        output.print(f"\nThe training of {paused} is paused: the app resumes it, or ends it.")
    waiting = next((run["id"] for run in runs if run["state"] == "interrupted"), None)
    if waiting:
        output.print(f"\nGo on with an interrupted run:  cllm runs resume {waiting}")


@app.command
def show(run: RunName, /, *, json: JsonFlag = False) -> None:
    """Show a run: its state, figures, command and settings."""
    output = Output(as_json=json)
    details = jobs.show_run(open_workspace(), run)
    if json:
        output.result(details)
        return
    output.print(Text(details["id"], "head"))
    output.print(
        facts(
            [
                ("model", details["model"]),
                ("state", Text(details["state"], _STYLES.get(details["state"], ""))),
                ("folder", details["folder"]),
                ("command", shlex.join(details["command"])),
                ("started", moment(details["started"])),
                ("steps", count(details["steps"])),
                ("tokens", count(details["tokens"])),
                ("tokens per second", count(details["tokens_per_s"])),
                ("bits per byte", decimals(details["val_bits_per_byte"], 4)),
                ("time", duration(details["seconds_total"])),
            ]
        )
    )
    settings = _flatten(details["settings"])
    if settings:
        output.print(heading("Settings"))
        output.print(facts(settings))


@app.command
def resume(run: RunName, /, *, json: JsonFlag = False, quiet: QuietFlag = False) -> None:
    """Go on with an interrupted run, exactly where it stopped."""
    from cllm.cli.train_view import TrainView
    from cllm.jobs.train import resume as resume_run

    began = process_began()
    output = Output(as_json=json, quiet=quiet)
    workspace = open_workspace()
    with TrainView(output) as view:
        result = resume_run(run, workspace=workspace, observe=view.observe, began=began)
    output.result(result.to_json())


def _flatten(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        name = prefix + key.replace("_", "-")
        if isinstance(value, dict):
            rows += _flatten(value, name + ".")
        elif value is not None:
            rows.append((name, str(value)))
    return rows
