"""`cllm mechanisms`: the parts that can be switched on with --with."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.text import Text

from cllm.cli.output import JsonFlag, Output
from cllm.cli.tables import facts, heading, listing, remark
from cllm.jobs import mechanisms as jobs

app = App(
    name="mechanisms",
    help="The parts that can be switched on with --with: what each is, and what it gained.",
    help_format="plaintext",
    help_epilogue="",
    group_commands="Commands",
)
_EXPORTS = {
    "folds": "folds into the weights: costs nothing, and the model opens anywhere",
    "refuses": "stays in the model, which then opens in CLLM alone",
    "training": "acts on the training alone; the model is plain",
}


@app.command(name="list")
@app.default
def list_(*, json: JsonFlag = False) -> None:
    """List every mechanism with its cost and what it was measured to gain."""
    output = Output(as_json=json)
    records, sets = jobs.catalogue_records(), jobs.set_records()
    if json:
        output.result({"mechanisms": records, "sets": sets})
        return
    rows = [
        (
            Text(record["name"], "head"),
            record["title"],
            record["cost"],
            record["status"],
            _figure(record),
        )
        for record in records
    ]
    output.print(listing(("mechanism", "what it is", "cost", "status", "gain"), rows))
    output.print(heading("Sets"))
    output.print(
        facts((entry["name"], _members(entry)) for entry in sets),
    )
    output.print(remark("\nUse one:  cllm train TEXT --with NAME", "label"))
    output.print(remark("Read about one:  cllm mechanisms show NAME", "label"))


@app.command
def show(
    name: Annotated[str, Parameter(help="Name of the mechanism.")],
    /,
    *,
    json: JsonFlag = False,
) -> None:
    """Explain one mechanism: its formula, its settings, its control, its source."""
    output = Output(as_json=json)
    record = jobs.mechanism_record(name)
    if json:
        output.result(record)
        return
    output.print(heading(record["name"]))
    output.print(remark(record["explanation"]))
    output.print(heading("In a model"))
    engine = "the compiled engine" if record["compiled"] else "torch, several times slower"
    output.print(
        facts(
            [
                ("cost", record["cost"]),
                ("export", _EXPORTS[record["export"]]),
                ("trains in", engine),
                ("needs", ", ".join(record["needs"])),
                ("control", record["control"]),
                ("not with", ", ".join(record["excludes"])),
                ("in the set", ", ".join(record["sets"])),
                ("status", record["status"]),
                ("gain", _figure(record)),
            ]
        )
    )
    output.print(heading("Settings"))
    output.print(
        facts(
            (f"--with {name}.{setting['name']}=…", _setting(setting))
            for setting in record["settings"]
        )
    )


def _setting(setting: dict[str, Any]) -> str:
    default = setting["default"]
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    shown = "" if default is None else f" [default: {str(default).lower()}]"
    return f"{setting['help']}{shown}"


def _figure(record: dict[str, Any]) -> str:
    measured = record["measured"]
    if measured is None:
        return "–"
    gain, control = measured["gain_percent"], measured.get("placebo_gain_percent")
    beside = "" if control is None else f" (control {control:+.1f}%)"
    return f"{gain:+.1f}%{beside}: {measured['verdict']}"


def _members(entry: dict[str, Any]) -> str:
    names = ", ".join(entry["members"]) or "the plain model"
    return f"{names}; {entry['gain']}" if entry["gain"] else names
