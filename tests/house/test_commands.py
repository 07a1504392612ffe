"""Every command is explained somewhere in the guide, every flag in its help."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from cllm.cli.main import build_app

ROOT = Path(__file__).parents[2]
GUIDE = [
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if not {"generated", "_build"} & set(path.parts)
]


def find_commands(app: App, path: tuple[str, ...] = ("cllm",)) -> Iterator[tuple[str, App]]:
    """Every command that does something, by what a person types: `cllm models list`."""
    names = [name for name in app if not name.startswith("-")]
    if not names:
        yield " ".join(path), app
    for name in names:
        yield from find_commands(app[name], (*path, name))


@pytest.fixture(scope="module")
def commands() -> dict[str, App]:
    return dict(find_commands(build_app()))


def test_the_guide_speaks_of_every_command(commands: dict[str, App]) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in GUIDE)
    missing = [name for name in commands if not re.search(rf"{re.escape(name)}\b", text)]
    assert "cllm train" in commands
    assert missing == []


def test_every_command_and_every_flag_says_what_it_does(commands: dict[str, App]) -> None:
    silent = [name for name, app in commands.items() if not app.help]
    silent += [
        f"{name} {argument.name}"
        for name, app in commands.items()
        for argument in app.assemble_argument_collection()
        if not argument.parameter.help
    ]
    assert silent == []
