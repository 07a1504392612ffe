"""Prepared corpora: text read, split and turned into tokens once, to train on many times."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.config import TextSettings
from cllm.errors import IntegrityError
from cllm.files import storage_errors, temporary_prefix
from cllm.jobs.models import iso_time
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.text.corpus import Corpus
    from cllm.text.progress import Progress
    from cllm.workspace.corpora import CorpusRecord


def add_corpus(
    workspace: Workspace,
    name: str,
    places: Sequence[str | Path],
    settings: TextSettings,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Corpus:
    """Prepare the text of `places` and keep it as `name`.

    An existing corpus stays as it is until the new one is complete.
    Raises: ExistsError and InvalidNameError before any work, NoTextError, InputError.
    """
    from cllm.text.corpus import Corpus
    from cllm.text.prepare import prepare

    store = workspace.corpora
    store.check_free(name, overwrite=overwrite)
    target = store.root / name
    with storage_errors(target):
        store.root.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=temporary_prefix(name), dir=store.root))
    try:
        prepare(places, settings, workshop / name, progress=progress)
        store.check_free(name, overwrite=overwrite)
        if store.exists(name):
            store.remove(name)
        (workshop / name).replace(target)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return Corpus.open(target, verify=False)


def list_corpora(workspace: Workspace) -> list[dict[str, Any]]:
    """Every prepared corpus, by name, with its sizes; `problem` says what is wrong, if anything."""
    return [_summary(record) for record in workspace.corpora.list()]


def show_corpus(workspace: Workspace, name: str) -> dict[str, Any]:
    """One corpus with its settings and the report of its reading, every checksum compared.

    Raises: NotFoundError, InvalidNameError.
    """
    from cllm.text.corpus import Corpus

    record = workspace.corpora.describe(name)
    details = _summary(record)
    try:
        corpus = Corpus.open(record.path, verify=True)
    except IntegrityError as error:
        return details | {"problem": str(error), "report": None, "settings": None}
    return details | {
        "report": corpus.report.to_json(),
        "settings": corpus.settings.model_dump(mode="json"),
    }


def remove_corpus(workspace: Workspace, name: str) -> None:
    """Remove a prepared corpus from the disk; the files it was made from stay."""
    workspace.corpora.remove(name)


def summarise_corpus(corpus: Corpus) -> dict[str, Any]:
    """The sizes of a corpus: tokens, bytes and documents of both parts, tokeniser, vocabulary."""
    return {
        "sha256": corpus.sha256,
        "tokenizer": corpus.tokenizer.kind,
        "vocab_size": corpus.tokenizer.vocab_size,
        "train_tokens": corpus.train.num_tokens,
        "train_bytes": corpus.train.num_bytes,
        "train_documents": corpus.train.num_documents,
        "val_tokens": corpus.val.num_tokens,
        "val_bytes": corpus.val.num_bytes,
        "dialogue": None if corpus.dialogue is None else corpus.dialogue.kind,
    }


def _summary(record: CorpusRecord) -> dict[str, Any]:
    from cllm.text.corpus import Corpus

    summary: dict[str, Any] = {
        "name": record.name,
        "path": str(record.path),
        "num_bytes": record.num_bytes,
        "modified": iso_time(record.modified),
        "problem": record.problem,
    }
    if record.problem is None:
        try:
            summary |= summarise_corpus(Corpus.open(record.path, verify=False))
        except IntegrityError as error:
            summary["problem"] = str(error)
    return summary
