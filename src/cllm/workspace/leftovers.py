"""What killed processes had begun to write: found by its name, and cleared away."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cllm.errors import CllmError
from cllm.files import writer_of
from cllm.processes import SAME_START_S, start_of
from cllm.workspace.trash import Trash

# `_exchange` puts a folder aside so, where the system can't swap two in one step.
_ASIDE = re.compile(r"\.(?P<name>.+)\.old\.\d+-[a-z0-9_]{8}")
# Of what does not say who writes it: surely nobody any more.
_FORGOTTEN_S = 86_400.0


def clear_leftovers(home: Path) -> int:
    """Remove what ended processes had not finished writing below `home`; returns how many.

    What living processes write stays, and so does everything that was finished. A folder that
    was put aside, or into the trash, to be replaced comes back where nothing has taken its name.
    """
    removed = 0
    trash = Trash(home / "trash")
    for entry, lender in trash.lent():
        target = home / "models" / entry.name
        if not _is_at_work(lender, entry.deleted) and not target.exists():
            with contextlib.suppress(CllmError):
                trash.take(entry.id, target)
    for path in _temporaries(home):
        with contextlib.suppress(OSError):
            pid = writer_of(path.name)
            if pid is None or _is_at_work(pid, path.stat().st_mtime):
                continue
            _give_back(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed += 1
    for folder in _children(home / "runs"):
        # A run's folder is made before its row; one killed in between leaves it empty.
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _FORGOTTEN_S:
                folder.rmdir()
                removed += 1
    return removed


def _temporaries(home: Path) -> Iterator[Path]:
    """Hidden files and folders named after who writes them, down to one in each thing's folder."""
    rooms = [path for path in _children(home) if path.is_dir()]
    things = [path for room in rooms for path in _children(room) if path.is_dir()]
    for folder in (home, *rooms, *things):
        for path in _children(folder):
            if writer_of(path.name) is not None:
                yield path


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_at_work(pid: int, changed: float) -> bool:
    """Whether the process that made a change then is alive."""
    started = start_of(pid)
    # A process that began after the change has only got the same number.
    return started is not None and started <= changed + SAME_START_S


def _give_back(path: Path) -> None:
    found = _ASIDE.fullmatch(path.name)
    if found is None:
        return
    target = path.with_name(found["name"])
    kept = path / found["name"]
    if kept.exists() and not target.exists():
        kept.rename(target)
