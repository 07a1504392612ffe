"""`cllm import`: take in a model from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cllm.cli.models import OverwriteFlag
from cllm.cli.output import JsonFlag, Output, QuietFlag, moving_bar
from cllm.cli.tables import facts
from cllm.jobs.workspace import open_workspace
from cllm.quantities import count

if TYPE_CHECKING:
    from cllm.jobs.import_model import OnProgress


def import_model(
    source: Annotated[Path, Parameter(name="PATH", help="A Hugging Face folder, or a .gguf file.")],
    /,
    *,
    name: Annotated[
        str | None, Parameter(help="Name of the model here; made from PATH unless given.")
    ] = None,
    overwrite: OverwriteFlag = False,
    context: Annotated[
        int | None,
        Parameter(help="Let the model see fewer tokens at once, which takes less memory."),
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Take in a Qwen3 or Llama: a Hugging Face folder with safetensors, or a GGUF file.

    The model is then one like any other: generate, chat, eval and export work. Nothing that the
    files hold is run, and all that they claim is checked before a number is read.
    """
    output = Output(as_json=json, quiet=quiet)
    workspace = open_workspace()
    from cllm.jobs.import_model import import_model as run

    with _progress(output) as on_progress:
        result = run(
            workspace,
            source,
            name=name,
            overwrite=overwrite,
            context=context,
            on_progress=on_progress,
        )
    output.print(
        facts(
            [
                ("model", result.model),
                ("architecture", f"{result.architecture} ({result.format})"),
                ("parameters", count(result.num_parameters)),
                ("vocabulary", f"{count(result.vocab_size)} entries ({result.tokenizer})"),
                ("context", f"{count(result.context)} tokens"),
                ("chat", "yes" if result.is_chat else "no"),
                ("folder", result.path),
            ]
        )
    )
    verb = "chat" if result.is_chat else "generate"
    output.print(f"Try it:  cllm {verb} {result.model}")
    output.result(result.to_json())


@contextmanager
def _progress(output: Output) -> Iterator[OnProgress]:
    with moving_bar(output) as show:
        yield lambda done, total: show(completed=done, total=total)
