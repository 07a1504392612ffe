"""Named folders below one root: the part that models and corpora have in common."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from cllm.errors import ExistsError, IntegrityError, NotFoundError
from cllm.files import (
    MANIFEST,
    check_manifest,
    copy_files,
    read_json,
    remove_folder,
    write_folder,
)
from cllm.workspace.names import check_name, is_name, nearest_names, slug

R = TypeVar("R")


class FolderStore(abc.ABC, Generic[R]):
    """Folders on disk by name; what is on disk is the truth, also if copied in by hand."""

    what: str
    marker: str

    def __init__(self, root: Path) -> None:
        self.root = root

    @abc.abstractmethod
    def describe(self, name: str) -> R:
        """What is known of one folder, without reading its large files."""

    def path(self, name: str) -> Path:
        """The folder of that name. Raises: InvalidNameError, NotFoundError."""
        folder = self.root / check_name(name, self.what)
        # Damaged ones are there, folders that somebody else put there are not.
        if not any((folder / file).is_file() for file in (self.marker, MANIFEST)):
            hint = nearest_names(name, self.names())
            raise NotFoundError(f"there is no {self.what} named {name!r}", hint=hint)
        return folder

    def exists(self, name: str) -> bool:
        """Whether something of that name is there. Raises: InvalidNameError."""
        folder = self.root / check_name(name, self.what)
        return folder.exists() or folder.is_symlink()

    def names(self) -> Sequence[str]:
        """The names in use, sorted."""
        if not self.root.is_dir():
            return []
        folders = (path for path in self.root.iterdir() if is_name(path.name))
        return sorted(path.name for path in folders if (path / self.marker).is_file())

    def list(self) -> Sequence[R]:
        """Everything in the store, by name."""
        return [self.describe(name) for name in self.names()]

    def free_name(self, text: str) -> str:
        """An unused name made from `text`: itself, or with -2, -3 and so on."""
        base = slug(text, self.what)
        name, number = base, 1
        while self.exists(name):
            number += 1
            ending = f"-{number}"
            name = base[: 64 - len(ending)].rstrip("-._") + ending
        return name

    @contextlib.contextmanager
    def write(
        self,
        name: str,
        *,
        overwrite: bool = False,
        on_replaced: Callable[[Path], object] | None = None,
    ) -> Iterator[Path]:
        """Yield an empty folder that becomes `name`, whole and with checksums, at the end.

        `on_replaced` gets what had the name before, which is removed after that.
        Raises: InvalidNameError, ExistsError before anything is done, StorageError.
        """
        self.check_free(name, overwrite=overwrite)
        with write_folder(self.root / name, replace=overwrite, on_replaced=on_replaced) as folder:
            yield folder
            # Somebody else may have made it meanwhile.
            self.check_free(name, overwrite=overwrite)

    def check_free(self, name: str, *, overwrite: bool = False) -> None:
        """Raises: ExistsError if `name` is taken and not to be overwritten."""
        if self.exists(name) and not overwrite:
            hint = f"Choose another name, or replace the {self.what} with --overwrite."
            raise ExistsError(f"there is a {self.what} named {name!r} already", hint=hint)

    def copy(self, source: str, target: str, *, overwrite: bool = False) -> Path:
        """Copy a folder, after checking it. Raises: NotFoundError, ExistsError, IntegrityError."""
        folder = self.path(source)
        self.check_free(target, overwrite=overwrite)
        if source == target:
            return folder
        if (folder / MANIFEST).is_file():
            check_manifest(folder)
        with self.write(target, overwrite=overwrite) as temporary:
            copy_files(folder, temporary)
        return self.root / target

    def remove(self, name: str) -> None:
        """Remove a folder: at once for all who look, then from the disk."""
        remove_folder(self.path(name))

    def check(self, name: str) -> None:
        """Compare every file with its checksum. Raises: NotFoundError, IntegrityError."""
        check_manifest(self.path(name))

    def quick_problem(self, name: str) -> str | None:
        """What is plainly wrong with a folder by the sizes of its files, in a few words."""
        folder = self.root / name
        if not (folder / MANIFEST).is_file():
            return "no manifest: can't be checked"
        try:
            files = read_json(folder / MANIFEST)["files"]
            for file_name, expected in files.items():
                path = folder / file_name
                if not path.is_file():
                    return f"{file_name} is missing"
                if path.stat().st_size != expected["bytes"]:
                    return f"{file_name} is truncated or altered"
        except (IntegrityError, KeyError, TypeError, AttributeError, OSError):
            return "the manifest is damaged"
        return None
