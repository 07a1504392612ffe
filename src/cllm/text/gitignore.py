"""What `.gitignore` files say about a path, as git reads them."""

from __future__ import annotations

import os
from pathlib import Path

from pathspec import GitIgnoreSpec


class GitIgnore:
    """The rules that hold below `root`: its own, its subfolders', and its repository's.

    The deepest file with a matching rule decides, and in it the last such rule. When `root`
    itself is ignored by a parent's rules, those don't count: it was asked for by name.
    """

    def __init__(self, root: Path) -> None:
        self._specs: dict[Path, GitIgnoreSpec | None] = {}
        self._top = _repository(root) or root
        if self._top != root and self._is_ignored_from(root, is_folder=True, top=self._top):
            self._top = root

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        """Whether `path`, an absolute path below the root, is left out."""
        return self._is_ignored_from(path, is_folder=is_folder, top=self._top)

    def _is_ignored_from(self, path: Path, *, is_folder: bool, top: Path) -> bool:
        if not path.is_relative_to(top):
            return False
        for folder in path.parents:
            spec = self._spec(folder)
            if spec is not None:
                relative = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
                verdict = spec.check_file(relative).include
                if verdict is not None:
                    return bool(verdict)
            if folder == top:
                break
        return False

    def _spec(self, folder: Path) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            lines: list[str] = []
            names = [".gitignore"] if folder != self._top else [".git/info/exclude", ".gitignore"]
            for name in names:
                try:
                    text = (folder / name).read_text(encoding="utf-8", errors="replace")
                except OSError:
                    continue
                lines += text.removeprefix("\ufeff").splitlines()
            self._specs[folder] = _spec_of(lines) if lines else None
        return self._specs[folder]


def _spec_of(lines: list[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        # git passes over a malformed rule and keeps the others.
        return GitIgnoreSpec.from_lines([line for line in lines if _is_valid(line)])


def _is_valid(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _repository(folder: Path) -> Path | None:
    return next(
        (parent for parent in (folder, *folder.parents) if os.path.lexists(parent / ".git")), None
    )
