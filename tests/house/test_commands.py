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


def commands(app: App, path: tuple[str, ...] = ("cllm",)) -> Iterator[tuple[str, App]]:
    """Every command that does something, by what a person types: `cllm models list`."""
    names = [name for name in app if not name.startswith("-")]
    if not names:
        yield " ".join(path), app
    for name in names:
        yield from commands(app[name], (*path, name))


COMMANDS = dict(commands(build_app()))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_guide_speaks_of_the_command(command: str) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in GUIDE)
    assert re.search(rf"{re.escape(command)}\b", text), f"no document mentions `{command}`"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_says_what_it_does(command: str) -> None:
    arguments = COMMANDS[command].assemble_argument_collection()
    silent = [argument.name for argument in arguments if not argument.parameter.help]
    assert silent == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str) -> None:
    assert COMMANDS[command].help
