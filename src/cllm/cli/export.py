"""`cllm export`: a model for another program, proven with that program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.output import JsonFlag, Output, QuietFlag
from cllm.cli.tables import heading, listing
from cllm.jobs.workspace import open_workspace
from cllm.quantities import size

if TYPE_CHECKING:
    from cllm.jobs.export import ExportResult


def export(
    model: ModelName,
    /,
    *,
    to: Annotated[
        Literal["hf", "gguf", "onnx", "numpy"],
        Parameter(
            name="--to",
            help="hf: a folder for transformers. gguf: a file for llama.cpp. onnx: a folder for "
            "onnxruntime. numpy: a folder with a program to read and run.",
        ),
    ],
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="Where to put it; by default a name made from the model's, in this folder.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        Parameter(
            name="--dtype",
            help="Number format of the weights, such as float16; for gguf such as q8_0.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        Parameter(
            name="--overwrite",
            negative="",
            show_default=False,
            help="Replace an earlier export; anything else is never replaced.",
        ),
    ] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Write a model for another program, and compare what that program makes of it.

    Where the program is installed, the export appears only if tokens, logits and greedy text
    are the model's own.
    """
    from cllm.jobs.export import export_model

    shown = Output(as_json=json, quiet=quiet)
    result = export_model(
        open_workspace(),
        model,
        to,
        output=output,
        dtype=dtype,
        overwrite=overwrite,
        on_notice=lambda text: shown.print(Text(text, "label")),
    )
    if json:
        shown.result(result.to_json())
    else:
        _show(shown, result)


def _show(output: Output, result: ExportResult) -> None:
    output.print(heading(f"{result.model} for {result.verdict.program}, {result.dtype}"))
    style = "good" if result.verdict.checked else "warn"
    rows = [(what, program, Text(found, style)) for what, program, found in result.verdict.rows]
    output.print(listing(("compared", "with", "result"), rows))
    output.print(Text(f"\n{result.output} ({size(result.num_bytes)})"))
