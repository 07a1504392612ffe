"""Rooms import only what the architecture allows, and never each other's private names."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "cllm"


def test_the_contracts_hold() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [tool, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_a_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    for room in rooms:
        [contract] = [entry for entry in contracts if entry["id"] == room]
        assert contract["source_modules"] == [f"cllm.{room}"]
    named = {name for entry in contracts for name in entry["source_modules"]}
    assert {f"cllm.{path.stem}" for path in SOURCE.glob("[a-z]*.py")} <= named


def private_names(tree: ast.AST, room: str) -> Iterator[str]:
    """Names with a leading underscore that a file of `room` reads from elsewhere in cllm."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            aliases |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            aliases |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        else:
            continue
        for module in modules:
            if is_private(module, room):
                yield module
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            origin = aliases.get(node.value.id, "")
            if is_private(f"{origin}.{node.attr}", room):
                yield f"{origin}.{node.attr}"


def is_private(name: str, room: str) -> bool:
    parts = name.split(".")
    return (
        parts[0] == "cllm"
        and parts[1:2] != [room]
        and any(part.startswith("_") and not part.endswith("__") for part in parts)
    )


def test_a_private_name_would_be_found() -> None:
    code = "import cllm.text.split as s\nfrom cllm.model import _x, y\ns._cut(y._z)\ns.cut(1)"
    assert list(private_names(ast.parse(code), "train")) == [
        "cllm.model._x",
        "cllm.text.split._cut",
        "cllm.model.y._z",
    ]
    assert list(private_names(ast.parse(code), "text")) == ["cllm.model._x", "cllm.model.y._z"]


def test_no_room_reads_anothers_private_names() -> None:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(ROOT)}: {name}" for name in private_names(tree, parts[0])]
    assert found == []
