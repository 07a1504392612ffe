"""`cllm corpora`: prepare text once, to train on it many times."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.text import Text

from cllm.cli.completion import CorpusName
from cllm.cli.flags import ConfigFlag, Place, read_settings, with_settings
from cllm.cli.models import OverwriteFlag
from cllm.cli.output import JsonFlag, Output, QuietFlag, YesFlag
from cllm.cli.tables import facts, heading, listing
from cllm.config import Settings
from cllm.errors import CllmError, IntegrityError
from cllm.jobs import corpora as jobs
from cllm.jobs.workspace import open_workspace
from cllm.quantities import count, moment, size

app = App(
    name="corpora",
    help="Prepare text once, to train on it many times.",
    help_format="plaintext",
    help_epilogue="",
    group_commands="Commands",
)


@app.command
@with_settings(Settings, sections=("text",))
def add(
    name: Annotated[str, Parameter(help="Name of the corpus.")],
    /,
    *places: Place,
    overwrite: OverwriteFlag = False,
    config: ConfigFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    overrides: dict[str, Any],
) -> None:
    """Read, split and tokenise text, and keep it by name: `cllm train NAME` uses it."""
    from cllm.cli.prepare_view import PrepareView, print_report

    output = Output(as_json=json, quiet=quiet)
    settings = read_settings(Settings, overrides, config=config)
    workspace = open_workspace()
    with PrepareView(output) as view:
        corpus = jobs.add_corpus(
            workspace,
            name,
            places,
            settings.text,
            overwrite=overwrite,
            progress=view.progress,
        )
    print_report(output, corpus)
    output.print(f"\nTrain on it:  cllm train {name}")
    output.result({"name": name, "path": str(corpus.folder)} | jobs.summarise_corpus(corpus))


@app.command(name="list")
def list_(*, json: JsonFlag = False) -> None:
    """List every prepared corpus."""
    output = Output(as_json=json)
    corpora = jobs.list_corpora(open_workspace())
    if json:
        output.result(corpora)
        return
    if not corpora:
        output.print("No corpora yet. Prepare one:  cllm corpora add NAME FOLDER")
        return
    columns = ("corpus", "tokens", "held out", "tokeniser", "vocabulary", "size", "made", "")
    rows = [
        (
            Text(corpus["name"], "head"),
            count(corpus.get("train_tokens")),
            count(corpus.get("val_tokens")),
            corpus.get("tokenizer") or "–",
            count(corpus.get("vocab_size")),
            size(corpus["num_bytes"]),
            moment(corpus["modified"]),
            Text(corpus["problem"] or "", "warn"),
        )
        for corpus in corpora
    ]
    output.print(listing(columns, rows, right=("tokens", "held out", "vocabulary", "size")))


@app.command
def show(corpus: CorpusName, /, *, json: JsonFlag = False) -> None:
    """Show a corpus: what was read, its sizes and settings; compare it with its checksums."""
    output = Output(as_json=json)
    details = jobs.show_corpus(open_workspace(), corpus)
    if json:
        output.result(details)
    else:
        _show(output, details)
    if details["problem"]:
        raise IntegrityError(
            f"the corpus is damaged: {details['problem']}",
            hint=f"Make it anew with `cllm corpora add {corpus} … --overwrite`.",
        )


@app.command
def rm(corpus: CorpusName, /, *, yes: YesFlag = False, json: JsonFlag = False) -> None:
    """Remove a prepared corpus; the files it was made from stay."""
    output = Output(as_json=json)
    workspace = open_workspace()
    folder = workspace.corpora.path(corpus)
    if not yes and not output.confirm(f"Remove the corpus {corpus} ({folder})?"):
        raise CllmError(f"the corpus {corpus} was not removed", hint="Say so with --yes.")
    jobs.remove_corpus(workspace, corpus)
    output.print(f"Removed {corpus}.")
    output.result({"corpus": corpus, "removed": True})


def _show(output: Output, details: dict[str, Any]) -> None:
    output.print(Text(details["name"], "head"))
    documents = count(details.get("train_documents"))
    output.print(
        facts(
            [
                ("folder", details["path"]),
                ("tokens", f"{count(details.get('train_tokens'))} in {documents} documents"),
                ("held out", f"{count(details.get('val_tokens'))} tokens"),
                ("tokeniser", details.get("tokenizer") or ""),
                ("vocabulary", count(details.get("vocab_size"))),
                ("dialogue", details.get("dialogue") or ""),
                ("size on disk", size(details["num_bytes"])),
                ("made", moment(details["modified"])),
                ("files", Text(details["problem"] or "whole", _mark(details))),
            ]
        )
    )
    if details.get("settings"):
        output.print(heading("Settings"))
        output.print(
            facts(
                (key.replace("_", "-"), str(value))
                for key, value in details["settings"].items()
                if value is not None
            )
        )


def _mark(details: dict[str, Any]) -> str:
    return "warn" if details["problem"] else "good"
