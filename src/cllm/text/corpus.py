"""A prepared corpus on disk: clean text, tokeniser, shards and what is known of them.

```
text.utf8                the clean text of all documents, in a row
tokenizer.json …         the tokeniser
train-00000.tokens …     token ids of the training part; val-… of the held-out part
train.documents.npy …    for each stretch of a document: its tokens, bytes and source
sources.json             names of the sources
corpus.json              figures, settings, report
manifest.json            size and SHA-256 of every file
```
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from cllm import files
from cllm.config import TextSettings
from cllm.errors import IntegrityError
from cllm.text.dialogue import Dialogue
from cllm.text.intake import IntakeReport
from cllm.text.shards import TokenStream
from cllm.text.tokenizers import Tokenizer

Split = Literal["train", "val"]
VERSION = 1
TEXT = "text.utf8"
SOURCES = "sources.json"
ABOUT = "corpus.json"
_TEXT_BYTES = 4 << 20

# One stretch of a document that lies in one split: its tokens in the split's row (eos
# included), its bytes in the text, its source and the number of its record (-1 for none).
STRETCH = np.dtype(
    [
        ("token_start", "<i8"),
        ("num_tokens", "<i8"),
        ("text_start", "<i8"),
        ("num_bytes", "<i8"),
        ("source", "<i4"),
        ("record", "<i4"),
    ]
)


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """Figures of one split.

    `charged_bytes` have no tokens that could be scored: the spellings of unknown tokens
    and, in a `val_file`, the bytes that cleaning removed. Each costs 8 bits.
    """

    num_tokens: int
    num_bytes: int
    num_characters: int
    num_documents: int
    charged_bytes: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a document in one split: where its tokens and its bytes lie."""

    source: str
    token_start: int
    num_tokens: int
    text_start: int
    num_bytes: int


class Corpus:
    """A prepared corpus, opened."""

    def __init__(self, folder: Path, about: dict[str, Any], sha256: str) -> None:
        self.folder = folder
        self.sha256 = sha256
        self.tokenizer = Tokenizer.load(folder)
        self.train = SplitInfo(**about["train"])
        self.val = SplitInfo(**about["val"])
        self.report = IntakeReport.from_json(about["report"])
        self.settings = TextSettings.model_validate(about["settings"])
        dialogue = about["dialogue"]
        self.dialogue = None if dialogue is None else Dialogue.from_json(dialogue)
        self._shards: dict[str, list[tuple[str, int]]] = about["shards"]

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> Corpus:
        """Open a corpus; `verify=False` checks sizes only.

        Raises: IntegrityError naming the file and its checksum.
        """
        if verify:
            files.check_manifest(folder)
        about = files.read_json(folder / ABOUT)
        manifest = files.read_json(folder / files.MANIFEST)
        if not isinstance(about, dict) or about.get("version") != VERSION:
            raise IntegrityError(
                "not a corpus of this version", where=folder, hint="Prepare the text again."
            )
        try:
            corpus = cls(folder, about, _identity(manifest))
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise IntegrityError(f"damaged: {error!r}", where=folder / ABOUT) from error
        for split in ("train", "val"):
            corpus.tokens(split)
        return corpus

    def tokens(self, split: Split) -> TokenStream:
        """The ids of a split as one row: each document's, then eos."""
        shards = self._shards[split]
        paths = [self.folder / name for name, _ in shards]
        return TokenStream(paths, [tokens for _, tokens in shards], self.tokenizer.vocab_size)

    def stretches(self, split: Split) -> npt.NDArray[Any]:
        """The index of a split, one row (`STRETCH`) for each stretch of a document."""
        path = self.folder / f"{split}.documents.npy"
        rows: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        if rows.dtype != STRETCH:
            raise IntegrityError("damaged: not an index of documents", where=path)
        return rows

    def documents(self, split: Split) -> Iterator[Stretch]:
        """Each stretch of a document in a split, in the order of the tokens."""
        names = files.read_json(self.folder / SOURCES)
        for row in self.stretches(split):
            name = names[row["source"]]
            source = name if row["record"] < 0 else f"{name}#{row['record']}"
            start, tokens, text_start, num_bytes = row.tolist()[:4]
            yield Stretch(source, start, tokens, text_start, num_bytes)

    def text(self, split: Split) -> Iterator[memoryview]:
        """The clean text of a split as UTF-8, mapped: one part for each row of stretches.

        Adjacent stretches come as one part, parts of different documents are not told apart.
        """
        path = self.folder / TEXT
        if not path.stat().st_size:
            return
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        rows = self.stretches(split)
        starts, lengths = rows["text_start"], rows["num_bytes"]
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            yield view[start : start + length]


def write_about(
    folder: Path,
    *,
    splits: dict[str, SplitInfo],
    shards: dict[str, list[tuple[str, int]]],
    report: IntakeReport,
    settings: TextSettings,
    dialogue: Dialogue | None,
) -> None:
    """Write `corpus.json`."""
    about = {
        "version": VERSION,
        **{name: asdict(info) for name, info in splits.items()},
        "shards": shards,
        "settings": settings.model_dump(mode="json"),
        "dialogue": None if dialogue is None else dialogue.to_json(),
        "report": report.to_json(),
    }
    files.write_json(folder / ABOUT, about)


def _identity(manifest: Any) -> str:
    """SHA-256 over the checksums of what training sees: the tokens and the tokeniser."""
    entries = sorted(
        (name, entry["sha256"])
        for name, entry in manifest["files"].items()
        if name.endswith((".tokens", "tokenizer.json"))
    )
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
