"""`cllm models`: list, show, copy, remove, bring back, and where a model lies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.output import JsonFlag, Output, YesFlag
from cllm.cli.tables import facts, heading, listing
from cllm.errors import CllmError, IntegrityError
from cllm.jobs import models as jobs
from cllm.jobs.workspace import open_workspace
from cllm.quantities import count, decimals, duration, moment, short_count, size

app = App(
    name="models",
    help="List, show, copy, remove and bring back models.",
    help_format="plaintext",
    help_epilogue="",
    group_commands="Commands",
)

OverwriteFlag = Annotated[
    bool,
    Parameter(
        name="--overwrite",
        negative="",
        show_default=False,
        help="Replace what has the name already.",
    ),
]


@app.command(name="list")
def list_(*, json: JsonFlag = False) -> None:
    """List every model, also those copied in by hand."""
    output = Output(as_json=json)
    records = [jobs.describe_record(record) for record in jobs.list_models(open_workspace())]
    if json:
        output.result(records)
        return
    if not records:
        output.print("No models yet. Make one:  cllm train FOLDER --minutes 5")
        return
    columns = ("model", "parameters", "bits/byte", "context", "tokeniser", "size", "made", "")
    rows = [
        (
            Text(record["name"], "head"),
            short_count(record["num_parameters"]),
            decimals(record["val_bits_per_byte"]),
            count(record["context"]),
            record["tokenizer"] or "–",
            size(record["num_bytes"]),
            moment(record["modified"]),
            Text(record["problem"] or ("chat" if record["is_chat"] else ""), _mark(record)),
        )
        for record in records
    ]
    output.print(listing(columns, rows, right=("parameters", "bits/byte", "context", "size")))


@app.command
def show(model: ModelName, /, *, json: JsonFlag = False) -> None:
    """Show everything known of a model, and compare its files with their checksums."""
    output = Output(as_json=json)
    details = jobs.show_model(open_workspace(), model)
    if json:
        output.result(details)
    else:
        _show(output, details)
    if details["problem"] and "can't be checked" not in details["problem"]:
        raise IntegrityError(
            f"the model is damaged: {details['problem']}",
            hint="Copy it from where it is whole, or train it anew.",
        )


@app.command
def cp(
    source: ModelName,
    target: Annotated[str, Parameter(help="Name of the copy.")],
    /,
    *,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Copy a model to a new name."""
    output = Output(as_json=json)
    path = jobs.copy_model(open_workspace(), source, target, overwrite=overwrite)
    output.print(f"Copied {source} to {target}.")
    output.result({"model": target, "path": str(path)})


@app.command
def rm(model: ModelName, /, *, yes: YesFlag = False, json: JsonFlag = False) -> None:
    """Remove a model for good, past the trash; asks first."""
    from cllm.jobs.model_service import remove_model

    output = Output(as_json=json)
    workspace = open_workspace()
    path = jobs.model_path(workspace, model)
    if not yes and not output.confirm(f"Remove the model {model} ({path}) for good?"):
        raise CllmError(f"the model {model} was not removed", hint="Say so with --yes.")
    remove_model(workspace, model)
    output.print(f"Removed {model}.")
    output.result({"model": model, "removed": True})


@app.command
def trash(
    *,
    empty: Annotated[
        bool,
        Parameter(
            name="--empty",
            negative="",
            show_default=False,
            help="Remove all of it for good; asks first.",
        ),
    ] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """List the models that the app deleted or replaced; they are kept for 30 days."""
    from cllm.jobs.model_service import list_trash, remove_deleted

    output = Output(as_json=json)
    workspace = open_workspace()
    entries = list_trash(workspace)
    if empty and entries:
        total = size(sum(entry.num_bytes for entry in entries))
        if not yes and not output.confirm(f"Remove {len(entries)} deleted models ({total})?"):
            raise CllmError("the trash was not emptied", hint="Say so with --yes.")
        removed = remove_deleted(workspace, [entry.id for entry in entries])
        output.print(f"Removed {removed}, {total}.")
        output.result({"removed": removed})
        return
    if json:
        output.result([asdict(entry) for entry in entries])
    elif not entries:
        output.print("The trash is empty.")
    else:
        rows = [
            (
                Text(entry.name, "head"),
                moment(jobs.iso_time(entry.deleted)),
                size(entry.num_bytes),
                entry.id,
            )
            for entry in entries
        ]
        output.print(listing(("model", "deleted", "size", "id"), rows, right=("size",)))


@app.command
def restore(
    entry: Annotated[str, Parameter(help="Name of the model, or the id that the trash shows.")],
    /,
    *,
    json: JsonFlag = False,
) -> None:
    """Bring a deleted model back; of several with the name, the one deleted last."""
    from cllm.jobs import model_service

    output = Output(as_json=json)
    workspace = open_workspace()
    known = {found.name: found.id for found in reversed(model_service.list_trash(workspace))}
    name = model_service.restore(workspace, known.get(entry, entry))
    output.print(f"{name} is back.")
    output.result({"model": name})


@app.command
def path(model: ModelName, /, *, json: JsonFlag = False) -> None:
    """Print the folder of a model, and nothing else."""
    output = Output(as_json=json)
    folder = str(jobs.model_path(open_workspace(), model))
    if json:
        output.result({"model": model, "path": folder})
    else:
        output.line(folder)


def _mark(record: dict[str, Any]) -> str:
    return "warn" if record["problem"] else "good"


def _show(output: Output, details: dict[str, Any]) -> None:
    training: dict[str, Any] = details["training"] or {}
    figures = training | (training.get("figures") or {})
    output.print(Text(details["name"], "head"))
    shape = f"{count(details['layers'])} layers × {count(details['width'])} wide"
    output.print(
        facts(
            [
                ("folder", details["path"]),
                ("parameters", count(details["num_parameters"])),
                ("shape", shape if details["layers"] else ""),
                ("context", f"{count(details['context'])} tokens"),
                ("vocabulary", _vocabulary(details)),
                ("size on disk", size(details["num_bytes"])),
                ("bits per byte", decimals(details["val_bits_per_byte"], 4)),
                ("trained", _trained(figures)),
                ("run", details["run"] or ""),
                ("made", moment(details["modified"])),
                ("chat", _chat(training)),
                ("files", Text(details["problem"] or "whole", _mark(details))),
            ]
        )
    )
    sample = figures.get("last_sample")
    if isinstance(sample, str) and sample:
        output.print(heading("Sample"))
        output.print(Text(f"{figures.get('sample_prompt') or ''}{sample}"))


def _vocabulary(details: dict[str, Any]) -> str:
    kind = f" ({details['tokenizer']})" if details["tokenizer"] else ""
    return f"{count(details['vocab_size'])} entries{kind}" if details["vocab_size"] else ""


def _trained(figures: dict[str, Any]) -> str:
    steps = figures.get("steps")
    if not isinstance(steps, int):
        return ""
    seconds = figures.get("seconds_total")
    ending = f" in {duration(seconds)}" if isinstance(seconds, int | float) else ""
    return f"{count(steps)} steps{ending}"


def _chat(training: dict[str, Any]) -> str:
    dialogue = training.get("dialogue")
    if not isinstance(dialogue, dict):
        return ""
    return f"{dialogue.get('kind', 'dialogue')}: answers as {dialogue.get('assistant', '?')}"
