"""The held-out part of a corpus, as the measure of a model."""

from __future__ import annotations

from cllm.text.corpus import Corpus
from cllm.training.scoring import Score, Scorer, bits_per_byte, count_scored, score_tokens


class HeldOut:
    """Scores models on the held-out part of a corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.info = corpus.val
        self._tokens = corpus.tokens("val")
        self._eos_id, self._unk_id = corpus.tokenizer.eos_id, corpus.tokenizer.unk_id
        unscored = (self._eos_id,) if self._unk_id is None else (self._eos_id, self._unk_id)
        self._num_scored = count_scored(self._tokens, unscored=unscored)

    def score(self, model: Scorer, max_tokens: int | None = None) -> tuple[Score, float]:
        """Nats per token and bits per byte, on all of it or on evenly spread windows."""
        score = score_tokens(
            model, self._tokens, eos_id=self._eos_id, unk_id=self._unk_id, max_tokens=max_tokens
        )
        return score, bits_per_byte(
            score,
            num_scored=self._num_scored,
            num_bytes=self.info.num_bytes,
            charged_bytes=self.info.charged_bytes,
        )
