"""Opens a model to measure it: what says how likely its tokens are, the fastest way there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int32

from cllm.errors import NativeError
from cllm.files import check_manifest
from cllm.infer.decoder import Decoder
from cllm.jobs.opening import open_decoder
from cllm.model.files import load_lexicon, load_weights
from cllm.model.packed import Packed, dequantised
from cllm.model.spec import ModelSpec
from cllm.native.stream import Feed
from cllm.training.scoring import Scorer


def open_scorer(folder: Path, home: Path) -> Scorer:
    """What scores the model in `folder` as it is run; compiled code stays in `home`.

    A quantised model is scored by the decoder, which rounds what its matrices read.
    Raises: IntegrityError, SettingsError.
    """
    check_manifest(folder)
    spec, weights = load_weights(folder)
    if any(isinstance(value, Packed) for value in weights.values()):
        decoder, _ = open_decoder(spec, weights, home, lexicon=load_lexicon(folder, spec))
        return DecoderScorer(decoder)
    try:
        from cllm.native import load_library
        from cllm.training.compiled_learner import scoring_engine
        from cllm.training.compiled_parts import require_compiled
        from cllm.training.plan import default_threads

        require_compiled(spec.mechanisms)
        library = load_library(home / "native")
        return scoring_engine(library, spec, dequantised(weights), threads=default_threads())
    except NativeError:
        return _by_torch(spec, dequantised(weights), folder)


def _by_torch(spec: ModelSpec, weights: dict[str, np.ndarray], folder: Path) -> Scorer:
    from cllm.model.transformer import Transformer

    model = Transformer(spec, load_lexicon(folder, spec)).eval()
    model.load_weights(weights)
    return model


class DecoderScorer:
    """A `Scorer` over a decoder: windows one after another in its first slot."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @property
    def context(self) -> int:
        """Most tokens it sees at once."""
        return self._decoder.context

    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0."""
        nats = 0.0
        for row, wanted in zip(ids, targets, strict=True):
            self._decoder.truncate(0, 0)
            logits = self._decoder.feed([Feed(0, row)], every=True)
            scored = np.flatnonzero(wanted >= 0)
            logits = logits[scored]
            logits -= logits.max(1, keepdims=True)
            chosen = logits[np.arange(len(scored)), wanted[scored]].astype(np.float64)
            nats += float((np.log(np.exp(logits).sum(1, dtype=np.float64)) - chosen).sum())
        return nats
