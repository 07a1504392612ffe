"""Files and functions stay small, and are named after what they hold."""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "benchmarks", "tools", "docs")
FORBIDDEN = ("util", "helper", "common", "misc", "manager", "handler", "enhanced", "advanced")
FORBIDDEN_WHOLE = ("new", "v2")


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def num_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_longer_than_500_lines() -> None:
    sizes = {str(path.relative_to(ROOT)): num_lines(path) for path in files(*FOLDERS)}
    assert {name: size for name, size in sizes.items() if size > 500} == {}


def test_half_the_files_have_at_most_250_lines() -> None:
    assert statistics.median(num_lines(path) for path in files("src")) <= 250


def test_functions_are_short_and_take_few_parameters() -> None:
    found = []
    for path in files(*FOLDERS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            arguments = node.args
            names = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
            count = len(set(names) - {"self", "cls"})
            if length > 60 or count > 8:
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                found.append(f"{where}: {length} lines, {count} parameters")
    assert found == []


def test_names_say_what_a_file_holds() -> None:
    found = []
    for path in files(*FOLDERS):
        words = path.stem.lower().split("_")
        if any(word in FORBIDDEN_WHOLE or word.rstrip("s") in FORBIDDEN for word in words):
            found.append(str(path.relative_to(ROOT)))
    assert found == []
