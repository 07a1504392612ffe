"""The demo: text that every Python installation has, and a model trained on it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cllm.config import Settings, TrainSettings
from cllm.errors import NoTextError
from cllm.files import write_folder
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.training.events import Observe, TrainResult

NAME = "demo"
# Not on every machine (installed packages, tkinter), gone in later Pythons, or only tests.
_LEFT_OUT = {"site-packages", "dist-packages", "tkinter", "turtledemo", "idlelib", "distutils"}
_LEFT_OUT |= {"lib2to3", "test", "tests"}
# Shorter docstrings ("See base class.") teach a model nothing but themselves.
_MIN_CHARACTERS = 60
_BLOCKS = (ast.stmt, ast.ExceptHandler)


@dataclass(frozen=True, slots=True)
class DemoText:
    """The demo's text files and how much they hold."""

    paths: list[Path]
    num_bytes: int


def train_on_python_text(
    text: DemoText, *, workspace: Workspace, observe: Observe, minutes: float = 1.0
) -> TrainResult:
    """Train the model `demo` on the gathered text, in place of an earlier one.

    Raises: CllmError; InterruptedRunError when stopped, with all state saved.
    """
    from cllm.jobs.train import train

    return train(
        text.paths,
        name=NAME,
        settings=Settings(train=TrainSettings(minutes=minutes)),
        workspace=workspace,
        observe=observe,
        overwrite=True,
    )


def gather_python_text(folder: Path, *, stdlib: Path | None = None) -> DemoText:
    """Write Python's documentation topics and the docstrings of its library below `folder`.

    One text file a library module, in a fixed order, without repetitions: the same
    installation always gives the same bytes. Nothing is imported, only parsed. An existing
    `folder` is replaced. Takes some seconds.
    Raises: NoTextError, when this Python was installed without its library's sources.
    """
    root = stdlib or Path(sysconfig.get_path("stdlib"))
    seen: set[bytes] = set()
    texts: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _LEFT_OUT.isdisjoint(parts):
            entries = _topics(path) if parts == ("pydoc_data", "topics") else _docstrings(path)
            texts.setdefault(parts[0], []).extend(_new(entries, seen))
    if not any(texts.values()):
        hint = "Train on text of your own instead: cllm train FOLDER --name NAME"
        raise NoTextError("this Python has no library sources to learn from", where=root, hint=hint)
    num_bytes = 0
    with write_folder(folder, replace=True) as target:
        for name, written in texts.items():
            if written:
                data = ("\n\n\n".join(written) + "\n").encode()
                (target / f"{name}.txt").write_bytes(data)
                num_bytes += len(data)
    return DemoText(sorted(folder.glob("*.txt")), num_bytes)


def _new(entries: Iterator[str], seen: set[bytes]) -> Iterator[str]:
    for entry in entries:
        # The first line names the function; a text repeated under another name is still a copy.
        text = entry.partition("\n")[2].strip() or entry
        digest = hashlib.sha256(text.encode()).digest()
        if digest not in seen and len(text) >= _MIN_CHARACTERS:
            seen.add(digest)
            yield entry


def _parse(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _topics(path: Path) -> Iterator[str]:
    """The texts behind `help("for")` and its like: the values of one big dictionary."""
    tree = _parse(path)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value.strip()


def _docstrings(path: Path) -> Iterator[str]:
    """Every docstring of a file below its module's, class's or function's name, as `help` does."""
    tree = _parse(path)
    if tree is None:
        return
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, prefix = stack.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            title = _title(node, prefix)
            if text and title:
                yield f"{title}\n{_indent(text)}"
            elif text:
                yield inspect.cleandoc(text)
            if isinstance(node, ast.ClassDef):
                prefix += node.name + "."
        children = [child for child in ast.iter_child_nodes(node) if isinstance(child, _BLOCKS)]
        stack += [(child, prefix) for child in reversed(children)]


def _title(node: ast.AST, prefix: str) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {prefix}{node.name}({bases})"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"{prefix}{node.name}({ast.unparse(node.args)})"
    return ""


def _indent(text: str) -> str:
    return "\n".join("    " + line if line.strip() else "" for line in text.splitlines())
