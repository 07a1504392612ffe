"""Steering a run from another process: a wish in the run's folder, on every platform alike."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from cllm.errors import IntegrityError
from cllm.files import read_json, write_json

CONTROL = "control.json"
# Steps can be shorter than a look at the disk should be frequent.
_LOOK_S = 0.25

Wish = Literal["go", "pause", "stop"]
_WISHES: tuple[Wish, ...] = ("go", "pause", "stop")


def wish_of(folder: Path) -> Wish:
    """What is wished of the run in `folder`; "go" unless something else is."""
    try:
        wanted = read_json(folder / CONTROL)["wish"]
    except (IntegrityError, OSError, KeyError, TypeError):
        return "go"
    return next((wish for wish in _WISHES if wish == wanted), "go")


def set_wish(folder: Path, wish: Wish) -> None:
    """Wish something of the run: it looks several times a second. Raises: StorageError."""
    if wish == "go" and not (folder / CONTROL).exists():
        return
    write_json(folder / CONTROL, {"version": 1, "wish": wish})


class Steering:
    """The wish, for the run itself to ask after every step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wish: Wish = "go"
        self._looked_at = 0.0

    def __call__(self) -> Wish:
        """What is wished now, or was a quarter of a second ago."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at, self._wish = now, wish_of(self._folder)
        return self._wish
