"""What was read and what was left out: the table a person sees, and the record on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cllm.text.document import Document, Skip


@dataclass(slots=True)
class KindCount:
    """Counts for one type of file. Bytes are UTF-8 before cleaning, characters after it."""

    files_read: int = 0
    files_skipped: int = 0
    documents: int = 0
    num_bytes: int = 0
    num_characters: int = 0


@dataclass(slots=True)
class IntakeReport:
    """Counts per type of file, every skip with its reason, and the duplicates dropped.

    Reports of several processes are joined with `merge`. `skipped` holds files, and also
    records of a file that could not be used (their `files_skipped` is not counted).
    """

    rows: dict[str, KindCount] = field(default_factory=dict)
    skipped: list[Skip] = field(default_factory=list)
    exact_duplicates: int = 0
    near_duplicates: int = 0

    def row(self, kind: str) -> KindCount:
        """The counts of `kind`, made if there are none yet."""
        return self.rows.setdefault(kind, KindCount())

    def add_file(self, kind: str) -> None:
        """Count a file that was read."""
        self.row(kind).files_read += 1

    def add_document(self, document: Document) -> None:
        """Count a document, or a further piece of one."""
        row = self.row(document.kind)
        row.documents += not document.is_continuation
        row.num_bytes += document.num_bytes
        row.num_characters += len(document.text)

    def add_skip(self, skip: Skip) -> None:
        """Count a file that was left out."""
        self.row(skip.kind).files_skipped += 1
        self.skipped.append(skip)

    def add_bad_records(self, skip: Skip) -> None:
        """Note records that were left out of a file that was otherwise read."""
        self.skipped.append(skip)

    def merge(self, other: IntakeReport) -> None:
        """Add the counts of `other` to these."""
        for kind, theirs in other.rows.items():
            row = self.row(kind)
            row.files_read += theirs.files_read
            row.files_skipped += theirs.files_skipped
            row.documents += theirs.documents
            row.num_bytes += theirs.num_bytes
            row.num_characters += theirs.num_characters
        self.skipped += other.skipped
        self.exact_duplicates += other.exact_duplicates
        self.near_duplicates += other.near_duplicates

    def to_json(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> IntakeReport:
        """The report that `to_json` wrote."""
        return cls(
            rows={kind: KindCount(**row) for kind, row in data["rows"].items()},
            skipped=[Skip(**skip) for skip in data["skipped"]],
            exact_duplicates=data["exact_duplicates"],
            near_duplicates=data["near_duplicates"],
        )
