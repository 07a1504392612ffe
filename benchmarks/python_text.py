"""Text that every Python installation has: topics, docstrings, then sources of the library."""

from __future__ import annotations

import ast
import pydoc_data.topics
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path


def documentation() -> Iterator[str]:
    """The documentation topics, then the docstrings of the standard library."""
    yield from pydoc_data.topics.topics.values()
    for source in sources():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tree = ast.parse(source)
            except (SyntaxError, ValueError):
                continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def sources() -> Iterator[str]:
    """The modules of the standard library, in sorted order."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.parts:
            try:
                yield path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue


def take(num_bytes: int) -> str:
    """About `num_bytes` of it, documentation first."""
    parts: list[str] = []
    size = 0
    for texts in (documentation, sources):
        for text in texts():
            parts.append(text)
            size += len(text.encode())
            if size >= num_bytes:
                return "\n\n".join(parts)
    return "\n\n".join(parts)
