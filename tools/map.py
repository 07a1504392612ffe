"""Write the map of the rooms into the README: each file with its docstring's first sentence."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SOURCE = ROOT / "src" / "cllm"
BEGIN, END = "<!-- map: made by `make map` -->\n```text\n", "```\n<!-- end of map -->"


def draw_map() -> str:
    """The tree of `src/cllm`, one line a file; a room's own line is its `__init__`'s."""
    lines = ["src/cllm/"]
    loose = sorted(path for path in SOURCE.glob("*.py") if not path.stem.startswith("__"))
    lines += [line(path, 1) for path in loose]
    for room in sorted(path.parent for path in SOURCE.glob("*/__init__.py")):
        lines += draw_room(room, 1)
    return "\n".join(lines) + "\n"


def draw_room(folder: Path, depth: int) -> list[str]:
    """A folder's line, then its files', then those of the folders in it."""
    lines = [line(folder / "__init__.py", depth, name=f"{folder.name}/")]
    paths = sorted(folder.glob("*.py"))
    lines += [line(path, depth + 1) for path in paths if path.name != "__init__.py"]
    for inner in sorted(path for path in folder.iterdir() if any(path.glob("*.py"))):
        lines += draw_room(inner, depth + 1)
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


def with_map(readme: str) -> str:
    """The README's text with the map as it is now."""
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise SystemExit(f"README.md has no place for the map: {BEGIN!r} … {END!r}")
    return before + BEGIN + draw_map() + END + after


def main() -> None:
    """Write the map, or with `--check` say whether it is out of date."""
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        raise SystemExit(0 if with_map(text) == text else "README.md: run `make map`")
    README.write_text(with_map(text), encoding="utf-8")


if __name__ == "__main__":
    main()
