"""Draw what a command shows in a terminal as SVG: `picture.py OUT.svg COMMAND…`.

The command runs for real, in a terminal of its own; what it drew over is left out, as it is
on the screen in the end. `--lines 5:40` before OUT keeps only those lines.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 100
CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\r|\n")


def run_in_terminal(command: list[str]) -> str:
    """All that the command writes to a terminal of `WIDTH` columns."""
    leader, follower = pty.openpty()
    size = {"COLUMNS": str(WIDTH), "LINES": "60", "TERM": "xterm-256color", "COLORTERM": ""}
    environment = {**os.environ, **size}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower, env=environment
    ):
        os.close(follower)
        output = b""
        while True:
            try:
                block = os.read(leader, 1 << 16)
            except OSError:  # Linux says so when the last writer has gone.
                break
            if not block:
                break
            output += block
    os.close(leader)
    return output.decode(errors="replace")


def on_screen(output: str) -> list[str]:
    """The lines that stand there in the end, colours kept: rich redraws whole lines only."""
    lines, row, position = [""], 0, 0
    for control in CONTROL.finditer(output):
        lines[row] += output[position : control.start()]
        position = control.end()
        if control[0] == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif control[2] == "A":
            row = max(0, row - int(control[1] or 1))
        elif control[2] == "K":
            lines[row] = ""
        elif control[2] == "m":
            lines[row] += control[0]
    lines[row] += output[position:]
    return [line.rstrip() for line in lines]


def main() -> None:
    """Run the command and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", default=":", help="first:last, from 0")
    parser.add_argument("out", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    first, _, last = chosen.lines.partition(":")
    lines = on_screen(run_in_terminal(chosen.command))
    lines = lines[int(first or 0) : int(last) if last else None]
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi("\n".join(lines).strip("\n")))
        title = " ".join([Path(chosen.command[0]).name, *chosen.command[1:]])
        picture = console.export_svg(title=title)
    # Rich names a web font; a picture that is looked at should fetch nothing.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    chosen.out.write_text(picture, encoding="utf-8")
    print(f"{chosen.out}: {len(lines)} lines, {chosen.out.stat().st_size:,} bytes")
    for number, shown in enumerate(lines):
        print(number, re.sub(r"\x1b\[[\d;]*m", "", shown), file=sys.stderr)


if __name__ == "__main__":
    main()
