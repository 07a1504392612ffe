"""Measure a model on files: bits per byte and perplexity, each byte once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import TextSettings
from cllm.errors import NoTextError, SettingsError
from cllm.text.document import Document, Skip
from cllm.text.intake import SkipFile, read_source
from cllm.text.sources import Source, find_sources
from cllm.text.tokenizers import Tokenizer
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.jobs.memorisation import Memorisation
    from cllm.training.scoring import Scorer

# (source, tokens done of those read so far)
OnProgress = Callable[[str, int, int], None]

# Text that is read as it is: what cleaning removes from it are bytes of the file.
_PLAIN_KINDS = frozenset({"text", "code", "rst", "markdown"})
# Longer texts are scored in parts of this many tokens, each beginning anew (16 MB of ids).
_PART_TOKENS = 1 << 22


@dataclass(slots=True)
class SourceScore:
    """How well one file is predicted; `charged_bytes` cost 8 bits each, as no token spells them."""

    source: str
    kind: str
    bytes: int = 0
    tokens: int = 0
    nats: float = 0.0
    charged_bytes: int = 0

    @property
    def bits_per_byte(self) -> float:
        """Bits to write one byte of the file down."""
        bits = self.nats / math.log(2) + 8.0 * self.charged_bytes
        return bits / self.bytes if self.bytes else math.nan

    @property
    def nats_per_token(self) -> float:
        """Mean loss of a scored token."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss of a token."""
        nats = self.nats_per_token
        return math.exp(nats) if nats < 700 else math.inf

    def to_json(self) -> dict[str, Any]:
        """Plain values with the derived figures."""
        return asdict(self) | {
            "bits_per_byte": self.bits_per_byte,
            "nats_per_token": self.nats_per_token,
            "perplexity": self.perplexity,
        }


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """The scores of all files and of each."""

    model: str
    total: SourceScore
    sources: list[SourceScore]
    skipped: list[Skip]
    context: int
    stride: int
    memorisation: Memorisation | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; the total's figures stand at the top."""
        total = self.total.to_json()
        del total["source"], total["kind"]
        return {
            "model": self.model,
            **total,
            "context": self.context,
            "stride": self.stride,
            "sources": [score.to_json() for score in self.sources],
            "skipped": [asdict(skip) for skip in self.skipped],
            "memorisation": self.memorisation.to_json() if self.memorisation else None,
        }


def evaluate(
    model: str,
    places: Sequence[str | Path],
    *,
    workspace: Workspace,
    settings: TextSettings | None = None,
    stride: int | None = None,
    memorisation: bool = False,
    on_progress: OnProgress | None = None,
) -> EvaluateResult:
    """Score files of any readable kind with windows that move by `stride` tokens.

    `stride` is half of the context unless given. With `memorisation` it is also measured how
    much of what the model writes, and of the files, stands in the training text.
    Raises: NotFoundError, IntegrityError, InputError, NoTextError, SettingsError.
    """
    from cllm.jobs.memorisation import measure_memorisation, open_training_corpus
    from cllm.jobs.opening import open_model
    from cllm.jobs.scorers import open_scorer

    folder = workspace.models.path(model)
    settings = settings or TextSettings()
    sources, skipped = find_sources(places, settings)
    opened, tokenizer = open_scorer(folder, workspace.home), Tokenizer.load(folder)
    corpus = open_training_corpus(folder) if memorisation else None
    context = opened.context
    if stride is not None and not 1 <= stride <= context:
        hint = "The stride is how far the window moves on; at most the whole window."
        raise SettingsError(f"{stride} is not between 1 and {context}", where="--stride", hint=hint)
    stride = stride or max(1, context // 2)
    scorer = _Scorer(opened, tokenizer, stride, on_progress)
    for source in sources:
        try:
            scorer.score(source, settings)
        except SkipFile as skip:
            skipped.append(Skip(source.name, skip.kind, skip.reason, source.num_bytes))
    if not scorer.scores:
        reasons = "; ".join(f"{skip.source}: {skip.reason}" for skip in skipped[:5])
        raise NoTextError(f"there is nothing to measure ({reasons})")
    return EvaluateResult(
        model=model,
        total=_total(scorer.scores),
        sources=scorer.scores,
        skipped=skipped,
        context=context,
        stride=stride,
        memorisation=measure_memorisation(
            open_model(folder, workspace.home).slots, tokenizer, corpus, sources, settings
        )
        if corpus
        else None,
    )


def _total(scores: Sequence[SourceScore]) -> SourceScore:
    total = SourceScore("", "")
    for score in scores:
        total.bytes += score.bytes
        total.tokens += score.tokens
        total.nats += score.nats
        total.charged_bytes += score.charged_bytes
    return total


@dataclass(slots=True)
class _Scorer:
    """Scores files one after another: the documents of a file in a row, eos after each."""

    model: Scorer
    tokenizer: Tokenizer
    stride: int
    on_progress: OnProgress | None
    scores: list[SourceScore] = field(default_factory=list)

    def score(self, source: Source, settings: TextSettings) -> None:
        """Score one file. Raises: SkipFile."""
        score = SourceScore(source.name, "")
        for ids in self._parts(_counted(read_source(source, settings), score)):
            self._score_ids(ids, score)
        self.scores.append(score)

    def _parts(self, documents: Iterator[tuple[Document, SourceScore]]) -> Iterator[_Ids]:
        """The ids of a file, as long as they are kept in memory together."""
        eos = np.array([self.tokenizer.eos_id], dtype=np.uint32)
        held: list[_Ids] = []
        for document, score in documents:
            if held and not document.is_continuation:
                held.append(eos)
            encoded = self.tokenizer.encode_utf8([document.text.encode()], [False])
            held.append(encoded.ids)
            score.charged_bytes += encoded.unknown_bytes
            if sum(map(len, held)) >= _PART_TOKENS:
                yield np.concatenate(held)
                held = []
        if held:
            yield np.concatenate(held)

    def _score_ids(self, ids: _Ids, score: SourceScore) -> None:
        from cllm.training.scoring import score_tokens

        found = score_tokens(
            self.model,
            _Watched(ids, score.source, self.on_progress),
            eos_id=self.tokenizer.eos_id,
            unk_id=self.tokenizer.unk_id,
            stride=self.stride,
        )
        score.nats += found.nats
        score.tokens += found.num_tokens


_Ids = NDArray[np.uint32]


def _counted(
    documents: Iterator[Document], score: SourceScore
) -> Iterator[tuple[Document, SourceScore]]:
    """Count each document's own bytes, and those that cleaning has removed."""
    for document in documents:
        score.kind = document.kind
        score.bytes += document.num_bytes
        if document.kind in _PLAIN_KINDS:
            removed = document.num_bytes - len(document.text.encode())
            score.charged_bytes += max(0, removed)
        yield document, score


class _Watched:
    """Ids in memory whose reading shows how far the scoring is."""

    def __init__(self, ids: _Ids, source: str, on_progress: OnProgress | None) -> None:
        self._ids, self._source, self._on_progress = ids, source, on_progress

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, start: int, length: int) -> _Ids:
        """The ids from `start` on."""
        if self._on_progress is not None:
            self._on_progress(self._source, start, len(self._ids))
        return self._ids[start : start + length]
