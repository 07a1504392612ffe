"""From sources to a corpus: read, split, train the tokeniser, encode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cllm import files
from cllm.config import TextSettings
from cllm.errors import ExistsError, InputError, NoTextError
from cllm.text.corpus import SOURCES, STRETCH, TEXT, Corpus, Split, SplitInfo, write_about
from cllm.text.dialogue import detect_dialogue
from cllm.text.encode import EncodedSpans, encode_spans
from cllm.text.gather import DocumentTable, TextFile, gather
from cllm.text.intake import IntakeReport
from cllm.text.pipeline import WorkerPool
from cllm.text.progress import Progress
from cllm.text.sample import sample_text
from cllm.text.shards import ShardWriter
from cllm.text.sources import find_sources
from cllm.text.split import Span, split_documents
from cllm.text.tokenizers import Tokenizer, choose_vocab_size, train_tokenizer

# Text that a tokeniser is trained on, for each entry of its vocabulary and at least; more
# changes the vocabulary little. Characters need all text, so that none is unknown.
_SAMPLE_BYTES_PER_ENTRY = {
    "bpe": 1 << 10,
    "wordpiece": 1 << 10,
    "unigram": 1 << 9,
    "words": 1 << 11,
}
_LEAST_SAMPLE_BYTES = 4 << 20
_DIALOGUE_BYTES = 100_000
_MOST_REASONS = 20


def prepare(
    places: Sequence[str | Path],
    settings: TextSettings,
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Prepare the text in `places` as a corpus in `folder`, which must not exist.

    With `tokenizer` (continuing a model) it is used as it is. Memory stays below about
    1 GB with all worker processes, however much text there is.
    Raises: NoTextError, InputError, SettingsError, StorageError, ExistsError.
    """
    if folder.exists():
        raise ExistsError("something is there already", where=folder)
    sources, skips = find_sources(places, settings)
    report = IntakeReport()
    for skip in skips:
        report.add_skip(skip)
    with files.write_folder(folder) as temporary, WorkerPool(settings.workers) as pool:
        path = temporary / TEXT
        with path.open("wb") as file:
            text = TextFile(file)
            gather(sources, settings, text, report, pool, progress)
            if not text.has_text:
                raise _no_text(report)
            num_documents = text.num_documents
            removed_bytes = _gather_val_file(settings, text, pool)
        table = text.table()
        spans = _split(path, table, num_documents, settings)
        if tokenizer is None:
            tokenizer = _train(path, spans["train"], settings, progress)
        tokenizer.save(temporary)
        infos: dict[str, SplitInfo] = {}
        shards: dict[str, list[tuple[str, int]]] = {}
        for name, part in spans.items():
            writer = ShardWriter(temporary, name, tokenizer.vocab_size)
            encoded = encode_spans(path, part, tokenizer, writer, pool, progress)
            writer.close()
            shards[name] = writer.shards
            infos[name] = _write_index(temporary, name, part, table, encoded)
        infos["val"] = _charge(infos["val"], removed_bytes)
        files.write_json(temporary / SOURCES, table.names)
        write_about(
            temporary,
            splits=infos,
            shards=shards,
            report=report,
            settings=settings,
            dialogue=detect_dialogue(sample_text(path, spans["train"], _DIALOGUE_BYTES)),
        )
    return Corpus.open(folder, verify=False)


def _gather_val_file(settings: TextSettings, text: TextFile, pool: WorkerPool) -> int:
    """Append the explicit held-out file; the bytes that cleaning removed from it."""
    if settings.val_file is None:
        return 0
    first, report = text.num_bytes, IntakeReport()
    sources, _ = find_sources([settings.val_file], settings)
    whole = {"exact_duplicates": False, "near_duplicates": False}
    gather(sources, settings.model_copy(update=whole), text, report, pool)
    if report.skipped or text.num_bytes == first:
        reason = report.skipped[0].reason if report.skipped else "no text in it"
        raise InputError(
            f"can't be used to measure the model: {reason}",
            where=settings.val_file,
            hint="Give another --val-file, or none: then a part of the text is held out.",
        )
    num_bytes = sum(row.num_bytes for row in report.rows.values())
    return max(0, num_bytes - (text.num_bytes - first))


def _split(
    path: Path, table: DocumentTable, num_documents: int, settings: TextSettings
) -> dict[Split, list[Span]]:
    """Spans of each split; documents from `num_documents` on are the explicit held-out file."""
    spans = split_documents(
        path,
        table.starts[:num_documents],
        table.lengths[:num_documents],
        table.hashes[:num_documents],
        settings.val_fraction if settings.val_file is None else 0.0,
    )
    for number in range(num_documents, len(table.starts)):
        start = int(table.starts[number])
        spans.append(Span(number, start, start + int(table.lengths[number]), True))
    return {
        "train": [span for span in spans if not span.is_val],
        "val": [span for span in spans if span.is_val],
    }


def _train(
    path: Path, spans: Sequence[Span], settings: TextSettings, progress: Progress | None
) -> Tokenizer:
    num_bytes = sum(span.end - span.start for span in spans)
    limit = num_bytes
    if settings.tokenizer in _SAMPLE_BYTES_PER_ENTRY:
        entries = settings.vocab_size or choose_vocab_size(settings.tokenizer, num_bytes)
        limit = max(_LEAST_SAMPLE_BYTES, entries * _SAMPLE_BYTES_PER_ENTRY[settings.tokenizer])
    return train_tokenizer(
        settings.tokenizer,
        lambda: sample_text(path, spans, limit),
        vocab_size=settings.vocab_size,
        num_characters=num_bytes,
        progress=progress,
    )


def _write_index(
    folder: Path, name: Split, spans: Sequence[Span], table: DocumentTable, encoded: EncodedSpans
) -> SplitInfo:
    documents = np.array([span.document for span in spans], np.int64)
    starts = np.array([span.start for span in spans], np.int64)
    ends = np.array([span.end for span in spans], np.int64)
    index = np.empty(len(spans), STRETCH)
    index["token_start"] = np.cumsum(encoded.num_tokens) - encoded.num_tokens
    index["num_tokens"] = encoded.num_tokens
    index["text_start"] = starts
    index["num_bytes"] = ends - starts
    index["source"] = table.sources[documents]
    index["record"] = table.records[documents]
    np.save(folder / f"{name}.documents.npy", index)
    return SplitInfo(
        num_tokens=int(encoded.num_tokens.sum()),
        num_bytes=int((ends - starts).sum()),
        num_characters=encoded.num_characters,
        num_documents=len(np.unique(documents)),
        charged_bytes=encoded.unknown_bytes,
    )


def _charge(info: SplitInfo, removed_bytes: int) -> SplitInfo:
    """Count bytes that cleaning removed as the file's own, each at the price of a byte."""
    return replace(
        info,
        num_bytes=info.num_bytes + removed_bytes,
        charged_bytes=info.charged_bytes + removed_bytes,
    )


def _no_text(report: IntakeReport) -> NoTextError:
    reasons = [f"{skip.source}: {skip.reason}" for skip in report.skipped]
    shown = reasons[:_MOST_REASONS]
    if len(reasons) > len(shown):
        shown.append(f"… and {len(reasons) - len(shown):,} more")
    return NoTextError(
        "no readable text" if reasons else "no text but white space",
        hint="\n".join([*shown, "Give at least one file with text in it."]),
    )
