"""Write the map of the rooms into the README, and that of all files into docs/map.md.

A room's line is the first sentence of its `__init__`'s docstring, a file's that of its own.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "cllm"
BEGIN, END = "<!-- map: made by `make map` -->\n```text\n", "```\n<!-- end of map -->"


def draw_rooms() -> str:
    """One line a room, and one for each file that lies beside the rooms."""
    lines = ["src/cllm/", *_loose_files()]
    lines += [line(room / "__init__.py", 1, name=f"{room.name}/") for room in _rooms(SOURCE)]
    return "\n".join(lines) + "\n"


def draw_files() -> str:
    """The tree of `src/cllm`, one line a file."""
    lines = ["src/cllm/", *_loose_files()]
    for room in _rooms(SOURCE):
        lines += _draw_room(room, 1)
    return "\n".join(lines) + "\n"


def _loose_files() -> list[str]:
    paths = sorted(path for path in SOURCE.glob("*.py") if not path.stem.startswith("__"))
    return [line(path, 1) for path in paths]


def _rooms(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if any(path.glob("*.py")))


def _draw_room(folder: Path, depth: int) -> list[str]:
    """A folder's line, then its files', then those of the folders in it."""
    lines = [line(folder / "__init__.py", depth, name=f"{folder.name}/")]
    paths = sorted(folder.glob("*.py"))
    lines += [line(path, depth + 1) for path in paths if path.name != "__init__.py"]
    for inner in _rooms(folder):
        lines += _draw_room(inner, depth + 1)
    return lines


def line(path: Path, depth: int, *, name: str = "") -> str:
    """One file's name and what it says it is."""
    label = "  " * depth + (name or path.name)
    return f"{label:26} {first_sentence(path)}".rstrip()


def first_sentence(path: Path) -> str:
    """The beginning of a module's docstring, up to its first full stop or colon's list."""
    if not path.exists():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) ", paragraph)[0].rstrip(".")


MAPS = {ROOT / "README.md": draw_rooms, ROOT / "docs" / "map.md": draw_files}


def with_map(path: Path, draw: Callable[[], str]) -> str:
    """A page's text with its map as it is now."""
    before, found, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise SystemExit(f"{path.name} has no place for the map: {BEGIN!r} … {END!r}")
    return before + BEGIN + draw() + END + after


def main() -> None:
    """Write the maps, or with `--check` say whether one is out of date."""
    for path, draw in MAPS.items():
        text = with_map(path, draw)
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif text != path.read_text(encoding="utf-8"):
            raise SystemExit(f"{path.name}: run `make map`")


if __name__ == "__main__":
    main()
