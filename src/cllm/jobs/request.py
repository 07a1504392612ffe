"""What a person asked a training run to do, kept in the run so that it can be taken up again."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cllm.config import Settings
from cllm.errors import IntegrityError
from cllm.files import read_json, write_json

_FILE = "request.json"


@dataclass(frozen=True, slots=True)
class Request:
    """The sources (or a prepared corpus), the model's name and the settings as given."""

    places: tuple[str, ...]
    model: str
    settings: Settings
    overwrite: bool = False
    corpus: str | None = None
    from_model: str | None = None

    def save(self, folder: Path) -> None:
        """Write the request into the run's folder."""
        value = {
            "version": 1,
            "places": list(self.places),
            "model": self.model,
            "settings": self.settings.model_dump(mode="json", exclude_unset=True),
            "overwrite": self.overwrite,
            "corpus": self.corpus,
            "from_model": self.from_model,
        }
        write_json(folder / _FILE, value)

    @classmethod
    def load(cls, folder: Path) -> Request:
        """Read the request of a run. Raises: IntegrityError."""
        value = read_json(folder / _FILE)
        try:
            if value.pop("version") != 1:
                raise IntegrityError("written by another version", where=folder / _FILE)
            value["places"] = tuple(value["places"])
            value["settings"] = Settings.model_validate(value["settings"])
            return cls(**value)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"the file is damaged: {error}", where=folder / _FILE) from None


def absolute_places(places: Sequence[str | Path]) -> tuple[str, ...]:
    """Sources as they can be found from any folder; standard input stays `-`."""
    return tuple(
        str(place) if str(place) == "-" else os.path.abspath(Path(place).expanduser())  # noqa: PTH100
        for place in places
    )


def process_began() -> float:
    """When this process was started, on `time.monotonic`'s clock; "Enter" for a command."""
    try:
        with Path("/proc/self/stat").open(encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError, IndexError):
        age = time.time() - psutil.Process().create_time()
    return time.monotonic() - max(0.0, age)
