"""Which files to read: from files, folders, patterns and standard input to a sorted list."""

from __future__ import annotations

import atexit
import errno
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cllm.config import TextSettings
from cllm.errors import InputError, NoTextError
from cllm.files import storage_errors
from cllm.text.document import Skip
from cllm.text.gitignore import GitIgnore

__all__ = ["Skip", "Source", "find_sources"]

STDIN_NAME = "standard input"


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read, and the name to show for it."""

    path: Path
    name: str
    num_bytes: int = 0


def find_sources(
    places: Sequence[str | Path], settings: TextSettings
) -> tuple[list[Source], list[Skip]]:
    """Find the files in `places`: files, folders, patterns (`notes/**/*.md`), `-` for stdin.

    Folders are searched to the bottom, in sorted order. Hidden files, what a .gitignore
    names and loops of symbolic links are left out, but a place that is named itself is read
    whatever it is. A file that is reached twice comes once.
    Raises: InputError when a place does not exist, NoTextError when there is no file at all.
    """
    search = _Search(settings)
    for place in places:
        search.add(str(place))
    if not search.sources:
        reasons = "; ".join(f"{skip.source}: {skip.reason}" for skip in search.skips[:3])
        raise NoTextError(
            "no files found" + (f" ({reasons})" if reasons else ""),
            where=", ".join(str(place) for place in places) or None,
            hint="Hidden files and what a .gitignore names are left out "
            "(--text.hidden and --text.no-gitignore read them too).",
        )
    return search.sources, search.skips


@dataclass(slots=True)
class _Search:
    settings: TextSettings
    sources: list[Source] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    seen_files: set[tuple[int, int]] = field(default_factory=set)
    seen_folders: set[tuple[int, int]] = field(default_factory=set)

    def add(self, place: str) -> None:
        if place == "-":
            if not any(source.name == STDIN_NAME for source in self.sources):
                path = _spool_stdin()
                self.sources.append(Source(path, STDIN_NAME, path.stat().st_size))
            return
        path = Path(place).expanduser()
        try:
            is_there, is_folder = path.exists(), path.is_dir()
        except (OSError, ValueError) as error:
            raise InputError(f"can't be read ({_reason(error)})", where=place) from error
        if is_there and is_folder:
            self._walk(path)
        elif is_there:
            self._file(path, str(path))
        elif glob.has_magic(place):
            self._glob(place)
        elif path.is_symlink():
            raise InputError("a symbolic link that leads nowhere", where=place)
        else:
            raise InputError("there is no such file or folder", where=place)

    def _glob(self, pattern: str) -> None:
        expanded = str(Path(pattern).expanduser())
        hidden = self.settings.hidden
        found = sorted(glob.glob(expanded, recursive=True, include_hidden=hidden))  # noqa: PTH207
        if not found:
            raise InputError("no file matches this pattern", where=pattern)
        base = _fixed_part(expanded)
        rules = GitIgnore(base.resolve()) if self.settings.gitignore and base.is_dir() else None
        # `**` also yields every folder on the way, and must not pull in what it holds.
        folders = [] if "**" in pattern else [name for name in found if Path(name).is_dir()]
        for name in found:
            path = Path(name)
            if not path.is_dir() and not (rules and _is_ignored(rules, base, path)):
                self._file(path, name)
        for name in folders:
            self._walk(Path(name))

    def _walk(self, root: Path) -> None:
        real = root.resolve()
        rules = GitIgnore(real) if self.settings.gitignore else None
        entries: list[tuple[Path, str]] = []
        links: list[tuple[Path, Path]] = []
        self._collect(root, real, rules, entries, links)
        # Linked folders come last, so that a file is known by its own place, not the link's.
        while links:
            link, target = links.pop(0)
            self._collect(link, target, rules, entries, links)
        for path, name in sorted(entries, key=lambda entry: Path(entry[1]).parts):
            self._file(path, name)

    def _collect(
        self,
        shown: Path,
        real: Path,
        rules: GitIgnore | None,
        entries: list[tuple[Path, str]],
        links: list[tuple[Path, Path]],
    ) -> None:
        """Gather the files below the folder `real`, which is shown as `shown`."""
        pending = [(shown, real)]
        while pending:
            shown, real = pending.pop()
            for entry in self._scan(shown, real):
                name = shown / entry.name
                if rules is not None and _is_left_out(rules, real / entry.name, entry):
                    continue
                if entry.is_symlink():
                    self._link(name, Path(entry.path), entries, links)
                elif entry.is_dir():
                    pending.append((name, real / entry.name))
                else:
                    entries.append((Path(entry.path), str(name)))

    def _scan(self, shown: Path, real: Path) -> list[os.DirEntry[str]]:
        try:
            status = real.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in self.seen_folders:
                return []
            self.seen_folders.add(identity)
            with os.scandir(real) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            self.skips.append(Skip(str(shown), "folder", f"can't be read: {_reason(error)}", 0))
            return []
        return [entry for entry in entries if self.settings.hidden or entry.name[0] != "."]

    def _link(
        self,
        name: Path,
        path: Path,
        entries: list[tuple[Path, str]],
        links: list[tuple[Path, Path]],
    ) -> None:
        try:
            target = path.resolve(strict=True)
            is_folder = target.is_dir()
        except (OSError, RuntimeError) as error:
            is_loop = isinstance(error, RuntimeError) or error.errno == errno.ELOOP
            reason = "a loop of symbolic links" if is_loop else "a symbolic link that leads nowhere"
            self.skips.append(Skip(str(name), "link", reason, 0))
            return
        if not is_folder:
            entries.append((path, str(name)))
        elif target in path.parent.resolve().parents or target == path.parent.resolve():
            self.skips.append(Skip(str(name), "link", "a loop of symbolic links", 0))
        else:
            links.append((name, target))

    def _file(self, path: Path, name: str) -> None:
        try:
            status = path.stat()
        except OSError as error:
            self.skips.append(Skip(name, "unknown", f"can't be read: {_reason(error)}", 0))
            return
        identity = (status.st_dev, status.st_ino)
        if identity not in self.seen_files:
            self.seen_files.add(identity)
            self.sources.append(Source(path, Path(name).as_posix(), status.st_size))


def _is_left_out(rules: GitIgnore, path: Path, entry: os.DirEntry[str]) -> bool:
    return rules.ignores(path, is_folder=entry.is_dir(follow_symlinks=False))


def _is_ignored(rules: GitIgnore, base: Path, path: Path) -> bool:
    """Whether a pattern's match, or a folder between it and the pattern's base, is ignored."""
    real = base.resolve()
    try:
        inner = path.relative_to(base)
    except ValueError:
        return False
    folders: Iterator[Path] = (real / parent for parent in inner.parents if parent.parts)
    if any(rules.ignores(folder, is_folder=True) for folder in folders):
        return True
    return rules.ignores(real / inner, is_folder=False)


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before its first wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed) if fixed else Path()


def _spool_stdin() -> Path:
    """Copy standard input to a temporary file, removed when the process ends."""
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("standard input is closed", where="-")
    folder = Path(tempfile.mkdtemp(prefix="cllm-stdin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "stdin"
    with storage_errors(path), path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    return path


def _reason(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else str(error).lower()
