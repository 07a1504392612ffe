"""What a command shows: readable text for people, one JSON object for programs.

On a terminal there are colours and moving parts; in a pipe or a file there is plain text
without control codes. With `--json` the object is the last line of standard output and
everything else goes to standard error; with `--quiet` only errors are shown.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any

from cyclopts import Parameter
from rich.console import Console, RenderableType
from rich.theme import Theme

JsonFlag = Annotated[
    bool,
    Parameter(
        name="--json", negative="", show_default=False, help="Print one JSON value, for programs."
    ),
]
QuietFlag = Annotated[
    bool,
    Parameter(
        name=["--quiet", "-q"], negative="", show_default=False, help="Show nothing but errors."
    ),
]
YesFlag = Annotated[
    bool,
    Parameter(
        name=["--yes", "-y"], negative="", show_default=False, help="Answer yes instead of asking."
    ),
]

# A pipe has no width; wide enough that no cell of a table is cut.
PIPE_WIDTH = 240
THEME = Theme(
    {
        "label": "dim",
        "value": "default",
        "good": "green",
        "warn": "yellow",
        "bad": "bold red",
        "accent": "cyan",
        "head": "bold",
        "prompt": "cyan",
    }
)


def is_terminal(stream: IO[str]) -> bool:
    """Whether colours and moving parts make sense on `stream`."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def make_console(stream: IO[str], *, quiet: bool = False) -> Console:
    """A console that never sends control codes to anything but a terminal."""
    terminal = is_terminal(stream)
    return Console(
        file=stream,
        theme=THEME,
        markup=False,
        highlight=False,
        emoji=False,
        quiet=quiet,
        force_terminal=terminal,
        no_color=None if terminal else True,
        width=None if terminal else PIPE_WIDTH,
    )


class Output:
    """Where one command writes: text to people, JSON to programs, questions to a terminal."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.stream = sys.stderr if as_json else sys.stdout
        self.is_terminal = is_terminal(self.stream)
        self.console = make_console(self.stream, quiet=quiet)

    def print(self, *renderables: RenderableType, style: str | None = None) -> None:
        """Show text, tables and the like; nothing with `--quiet`."""
        if self.is_terminal:
            self.console.print(*renderables, style=style)
            return
        # In a pipe nothing is wrapped to a width or padded with spaces to one.
        with self.console.capture() as captured:
            self.console.print(*renderables, style=style, soft_wrap=True)
        lines = captured.get().split("\n")
        if not self.quiet:
            self.stream.write("\n".join(line.rstrip() for line in lines))
            self.stream.flush()

    def write(self, text: str) -> None:
        """Stream `text` as it is, at once; on a terminal, control characters are left out."""
        if self.quiet:
            return
        self.stream.write(printable(text) if self.is_terminal else text)
        self.stream.flush()

    def result(self, value: Any) -> None:
        """Print `value` as one line of JSON on standard output, if `--json` was given."""
        if self.as_json:
            print(to_json(value), file=sys.stdout, flush=True)

    def line(self, text: str) -> None:
        """Print an answer that scripts read, such as a path: always, and never wrapped."""
        print(text, file=sys.stdout, flush=True)

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; without one the answer is no."""
        if self.as_json or self.quiet or not (sys.stdin.isatty() and self.is_terminal):
            return False
        self.console.print(f"{question} [y/N] ", end="")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}


def printable(text: str) -> str:
    """Drop control characters, so that a model's text can't steer the terminal."""
    return "".join(
        char for char in text if char in "\n\t" or not (char < " " or "\x7f" <= char < "\xa0")
    )


def to_json(value: Any) -> str:
    """One line of strict JSON: paths as text, non-finite numbers as null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)


@contextmanager
def moving_bar(output: Output, *, tells_time: bool = True) -> Iterator[Callable[..., None]]:
    """A bar on a terminal, gone when the work is done; nothing elsewhere.

    What it gives is called with `completed`, `total` and, to say what is worked on,
    `description`.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *((TimeRemainingColumn(),) if tells_time else ()),
        console=output.console,
        transient=True,
        disable=not output.is_terminal or output.quiet,
    )
    with shown:
        yield partial(shown.update, shown.add_task("reading", total=None))
