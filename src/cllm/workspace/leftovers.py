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
from cllm.processes import is_at_work
from cllm.workspace.trash import Trash

# `_exchange` puts a folder aside so, where the system can't swap two in one step.
_ASIDE = re.compile(r"\.(?P<name>.+)~old\.\d+-[a-z0-9_]{8}")
# Of what does not say who writes it: surely nobody any more.
_FORGOTTEN_S = 86_400.0


def clear_leftovers(home: Path) -> int:
    """Remove what ended processes had not finished writing below `home`; returns how many.

    What living processes write stays, and so does everything that was finished. A folder that
    was put aside, or into the trash, to be replaced comes back where nothing has taken its name.
    """
    trash = Trash(home / "trash")
    for entry, lender in trash.lent():
        target = home / "models" / entry.name
        if not is_at_work(lender, entry.deleted) and not target.exists():
            with contextlib.suppress(CllmError):
                trash.take(entry.id, target)
    removed = trash.clear(older_than_s=_FORGOTTEN_S)
    for path in _temporaries(home):
        with contextlib.suppress(OSError):
            pid = writer_of(path.name)
            if pid is None or is_at_work(pid, path.stat().st_mtime):
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


def _give_back(path: Path) -> None:
    found = _ASIDE.fullmatch(path.name)
    if found is None:
        return
    target = path.with_name(found["name"])
    kept = path / found["name"]
    if kept.exists() and not target.exists():
        kept.rename(target)
