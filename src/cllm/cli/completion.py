"""Tab completion: a script for the shell, and the names it offers while you type."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Annotated, Literal

from cyclopts import Parameter

from cllm.cli.output import JsonFlag, Output

Shell = Literal["bash", "zsh", "fish"]


def _models(_context: object) -> Iterable[str]:
    return _names("models")


def _corpora(_context: object) -> Iterable[str]:
    return _names("corpora")


def _runs(_context: object) -> Iterable[str]:
    from cllm.jobs.workspace import open_workspace

    with contextlib.suppress(Exception):
        return ["latest", *(run.id for run in open_workspace().runs.list())]
    return []


def _names(store: Literal["models", "corpora"]) -> Iterable[str]:
    from cllm.jobs.workspace import open_workspace

    # Whatever is wrong, pressing Tab must not print an error into the command line.
    with contextlib.suppress(Exception):
        workspace = open_workspace()
        return (workspace.models if store == "models" else workspace.corpora).names()
    return []


ModelName = Annotated[str, Parameter(help="Name of a model.", completer=_models)]
CorpusName = Annotated[str, Parameter(help="Name of a corpus.", completer=_corpora)]
RunName = Annotated[
    str,
    Parameter(help='Id of a run, the beginning of one, or "latest".', completer=_runs),
]


def completion(
    shell: Annotated[Shell, Parameter(help="The shell that you use.")],
    /,
    *,
    json: JsonFlag = False,
) -> None:
    """Print the completion script for a shell.

    bash: put `eval "$(cllm completion bash)"` into ~/.bashrc. zsh: write the output to a file
    named _cllm in a folder of $fpath. fish: to ~/.config/fish/completions/cllm.fish.
    """
    from cllm.cli.main import build_app

    script = build_app().generate_completion(shell=shell)
    output = Output(as_json=json)
    if json:
        output.result({"shell": shell, "script": script})
    else:
        output.line(script)
