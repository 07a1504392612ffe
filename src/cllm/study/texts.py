"""The texts of a study: those a person names, or two that every Python installation has."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cllm.errors import InputError, NoTextError
from cllm.jobs.demo import gather_python_text
from cllm.jobs.models import suggest_name

MOST_TEXTS = 2
_TOPICS = "pydoc_data"


@dataclass(frozen=True, slots=True)
class Text:
    """A text by a short name, with the files, folders or patterns that hold it."""

    name: str
    places: tuple[str, ...]


def check_places(places: Sequence[str]) -> None:
    """Raises: InputError, NoTextError when the places can't be a study's texts."""
    if len(places) > MOST_TEXTS:
        hint = "Put the files of one text into a folder, and name the folder."
        raise InputError(f"a study takes one or two texts, not {len(places)}", hint=hint)
    for place in places:
        if place == "-":
            hint = "Write it to a file: every run of a study reads it."
            raise InputError("a study can't read standard input", where=place, hint=hint)
        if not Path(place).expanduser().exists() and not glob.glob(place, recursive=True):  # noqa: PTH207
            raise NoTextError("there is no such file or folder", where=place)


def texts(places: Sequence[str], folder: Path) -> list[Text]:
    """The texts by name; without places, the docstrings and the help topics of this Python.

    Those are written below `folder`. Raises: NoTextError.
    """
    if not places:
        written = gather_python_text(folder / "python-text").paths
        topics = [str(path) for path in written if path.stem == _TOPICS]
        others = [str(path) for path in written if path.stem != _TOPICS]
        return [Text("docstrings", tuple(others)), Text("topics", tuple(topics))]
    found: list[Text] = []
    for place in places:
        path = Path(place).expanduser().absolute()
        name = suggest_name(path.name if path.is_dir() else path.stem)[:32]
        taken = {text.name for text in found}
        found.append(Text(f"{name}-2" if name in taken else name, (str(path),)))
    return found
