"""`cllm inspect`: what a model expects at each token of a text, and where it looks."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.padding import Padding
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.output import JsonFlag, Output, make_console, printable
from cllm.cli.tables import facts, heading, listing
from cllm.errors import InputError
from cllm.jobs.workspace import open_workspace
from cllm.quantities import count, decimals

if TYPE_CHECKING:
    from cllm.jobs.inspect import Inspection

# Backgrounds from 9, 6, 4 and 2 bits on, with letters that can be read on them; of the 256
# colours that nearly every terminal has, so that no two of them become one.
_SHADES = (
    (9.0, "color(230) on color(130)"),
    (6.0, "color(230) on color(95)"),
    (4.0, "color(230) on color(60)"),
    (2.0, "color(230) on color(238)"),
)
_MOST_ROWS, _MOST_SHADED, _LONGEST = 12, 4_000, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What of an inspection is shown, and where it is written."""

    layer: Annotated[
        int | None, Parameter(help="Show the attention of this layer, counted from 1.")
    ] = None
    head: Annotated[
        int | None, Parameter(help="Show the attention of this head, counted from 1.")
    ] = None
    png: Annotated[
        Path | None, Parameter(help="Draw surprise and attention into this PNG file.")
    ] = None
    html: Annotated[
        Path | None, Parameter(help="Write a page to explore in a browser into this HTML file.")
    ] = None
    dark: Annotated[
        bool, Parameter(negative="", show_default=False, help="Draw on a dark ground.")
    ] = False


def inspect(
    model: ModelName,
    /,
    *,
    text: Annotated[
        str | None,
        Parameter(
            name=["--text", "-t"],
            allow_leading_hyphen=True,
            help="The text to look at; - reads standard input.",
        ),
    ] = None,
    file: Annotated[Path | None, Parameter(help="A file (UTF-8) with the text.")] = None,
    window: Annotated[
        int, Parameter(help="Of a text longer than the context: the part to lay open, from 1.")
    ] = 1,
    view: Annotated[View, Parameter(name="*", help="What is shown, and where.")] = View(),
    json: JsonFlag = False,
) -> None:
    """Show what a model expected at each token, what surprised it, and where it looked."""
    output = Output(as_json=json)
    given = _read(text, file)
    _check_paths(view)
    from cllm.jobs.inspect import inspect as run

    found, notice = run(model, given, workspace=open_workspace(), window=window)
    # A layer or head that isn't there is refused before anything is written.
    found.attention(view.layer, view.head)
    if notice is not None:
        make_console(sys.stderr).print(Text(notice, "label"), soft_wrap=True)
    if view.png is not None:
        from cllm.jobs.inspect_pictures import draw_inspection

        draw_inspection(view.png, found, layer=view.layer, head=view.head, dark=view.dark)
    if view.html is not None:
        from cllm.jobs.inspect_page import write_page

        write_page(view.html, found, layer=view.layer, head=view.head)
    _show(output, found, view)
    written = {"png": view.png, "html": view.html}
    output.result(found.to_json(layer=view.layer, head=view.head) | written)


def _read(text: str | None, file: Path | None) -> str:
    """The text from a flag, a file or standard input. Raises: InputError."""
    if (text is None) == (file is None):
        hint = "Such as: cllm inspect NAME --text 'Once upon a time'"
        raise InputError("give either --text or --file", hint=hint)
    if file is None and text != "-":
        return text or ""
    try:
        data = sys.stdin.buffer.read() if file is None else file.read_bytes()
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})", where=file) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = "standard input" if file is None else file
        hint = "Save it in the encoding UTF-8."
        raise InputError("the text is not UTF-8", where=where, hint=hint) from error


def _check_paths(view: View) -> None:
    if view.png is not None:
        from cllm.jobs.number_pictures import check_picture_path

        check_picture_path(view.png)
    if view.html is not None:
        from cllm.jobs.inspect_page import check_page_path

        check_page_path(view.html)


def _show(output: Output, found: Inspection, view: View) -> None:
    if output.is_terminal:
        output.print(_shaded(found))
    window = "" if found.num_windows == 1 else f"{found.window_number} of {found.num_windows}"
    mean_entropy = float(found.entropy.mean())
    output.print(
        "",
        facts(
            [
                ("bits per byte", decimals(found.bits_per_byte)),
                ("all of it", f"{found.total_bits:,.1f} bits for {count(found.num_bytes)} bytes"),
                ("tokens", count(len(found.ids))),
                ("expected", f"{mean_entropy:.2f} bits a token (entropy)"),
                ("window", window),
            ]
        ),
    )
    if output.is_terminal:
        output.print(heading("What surprised it most"))
    output.print("", _tokens_table(found, everything=not output.is_terminal))
    if view.layer is not None or view.head is not None:
        output.print(heading(f"Where it looked: {_chosen(view)}"))
        output.print(_attention_table(found, view))
    for path in (view.png, view.html):
        if path is not None:
            output.print(f"\nWritten: {path}")


def _chosen(view: View) -> str:
    layer = "mean over layers" if view.layer is None else f"layer {view.layer}"
    return f"{layer}, {'mean over heads' if view.head is None else f'head {view.head}'}"


def _shaded(found: Inspection) -> Text:
    """The text, each token on a ground that tells its surprise."""
    text = Text()
    pairs = list(zip(found.tokens, found.bits.tolist(), strict=True))
    for token, bits in pairs[:_MOST_SHADED]:
        shade = next((style for least, style in _SHADES if bits >= least), "")
        # A ground under a line's end would reach across the terminal.
        shown = printable(token)
        text.append(shown, shade if shown.strip("\n") == shown else "")
    if len(pairs) > _MOST_SHADED:
        text.append(f"\n… and {len(pairs) - _MOST_SHADED:,} tokens more", "label")
    text.append("\n\n")
    for least, style in reversed(_SHADES):
        text.append(f" from {least:g} bits ", style)
    return text


def _tokens_table(found: Inspection, *, everything: bool) -> Padding:
    """A row for each token, or for those that surprised most."""
    places = range(len(found.ids))
    if not everything:
        known = [i for i in places if found.bits[i] == found.bits[i]]
        places_shown = sorted(sorted(known, key=lambda i: -found.bits[i])[:_MOST_ROWS])
    else:
        places_shown = list(places)
    rows = [
        (
            count(i + 1),
            _quoted(found.tokens[i]),
            f"{found.probabilities[i]:.1%}",
            decimals(float(found.bits[i]), 2),
            decimals(float(found.entropy[i]), 2),
            count(int(found.ranks[i])),
            "  ".join(
                f"{_quoted(found.spelled(int(token)))} {share:.0%}"
                for token, share in zip(
                    found.alternative_ids[i], found.alternative_probabilities[i], strict=True
                )
            ),
        )
        for i in places_shown
    ]
    columns = ("", "token", "probability", "bits", "entropy", "rank", "likeliest")
    return listing(columns, rows, right=("", "probability", "bits", "entropy", "rank"))


def _attention_table(found: Inspection, view: View) -> Padding:
    """For each position of the window, what it looked at most."""
    from cllm.jobs.inspect_pictures import read_names

    weights, names = found.attention(view.layer, view.head), read_names(found)
    rows = []
    for position, name in enumerate(names):
        most = sorted(range(position + 1), key=lambda s: -weights[position, s])[:3]
        looked = "  ".join(f"{_quoted(names[s])} {weights[position, s]:.0%}" for s in most)
        rows.append((count(found.window.first + position), _quoted(name), looked))
    return listing(("", "having read", "looked at"), rows, right=("",))


def _quoted(token: str) -> str:
    """A token with its white space to be seen."""
    shown = token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")
    cut = printable(shown)
    return cut if len(cut) <= _LONGEST else f"{cut[:_LONGEST]}…"
