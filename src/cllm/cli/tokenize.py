"""`cllm tokenize`: how a model splits text."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.output import JsonFlag, Output, printable
from cllm.errors import InputError
from cllm.jobs import tokenize as jobs
from cllm.jobs.workspace import open_workspace
from cllm.quantities import count

# Two calm backgrounds in turn make the borders visible without a character of their own.
_SHADES = ("on grey23", "on grey35")


def tokenize(
    model: ModelName,
    text: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="The text; - reads standard input.")
    ] = "-",
    /,
    *,
    ids: Annotated[
        bool,
        Parameter(
            name="--ids", negative="", show_default=False, help="Print the ids, and nothing else."
        ),
    ] = False,
    decode: Annotated[
        bool,
        Parameter(
            name="--decode",
            negative="",
            show_default=False,
            help="TEXT is ids; print what they mean.",
        ),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show how a model's tokeniser splits text, or what token ids stand for."""
    output = Output(as_json=json)
    given = sys.stdin.read() if text == "-" else text
    workspace = open_workspace()
    if decode:
        result = jobs.detokenize(workspace, model, _parse_ids(given))
    else:
        result = jobs.tokenize(workspace, model, given)
    if json:
        output.result(result)
    elif decode:
        output.line(result.text)
    elif ids:
        output.line(" ".join(map(str, result.ids)))
    else:
        _show(output, result)


def _parse_ids(text: str) -> list[int]:
    words = text.replace(",", " ").replace("[", " ").replace("]", " ").split()
    try:
        return [int(word) for word in words]
    except ValueError as error:
        hint = "Write them as numbers, such as: 17 4 230"
        raise InputError(f"these are not token ids: {text[:60]!r}", hint=hint) from error


def _show(output: Output, result: jobs.Tokenization) -> None:
    pieces = [piece.replace("\n", "⏎\n") for piece in map(printable, result.tokens)]
    if output.is_terminal:
        text = Text()
        for position, piece in enumerate(pieces):
            text.append(piece, _SHADES[position % 2])
        output.print(text)
    else:
        output.print("|".join(piece.replace("⏎\n", "⏎") for piece in pieces))
    characters = len(result.text)
    rate = f", {characters / result.num_tokens:.2f} characters each" if result.num_tokens else ""
    output.print(Text(f"{count(result.num_tokens)} tokens{rate}", "label"))
