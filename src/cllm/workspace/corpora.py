"""The prepared corpora on disk: shards of tokens with their sources, ready to train on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cllm.workspace.folders import FolderStore


@dataclasses.dataclass(frozen=True, slots=True)
class CorpusRecord:
    """Where a prepared corpus lies; `cllm.text.corpus.Corpus.open` reads what is in it."""

    name: str
    path: Path
    num_bytes: int
    modified: float
    problem: str | None


class CorpusStore(FolderStore[CorpusRecord]):
    """Prepared corpora by name below `CLLM_HOME/corpora`."""

    what = "corpus"
    marker = "manifest.json"

    def describe(self, name: str) -> CorpusRecord:
        """What the file system says of a corpus. Raises: NotFoundError."""
        folder = self.path(name)
        return CorpusRecord(
            name=name,
            path=folder,
            num_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            modified=(folder / self.marker).stat().st_mtime,
            problem=self.quick_problem(name),
        )
