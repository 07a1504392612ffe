"""Morfessor: cut strings so that a lexicon of parts and the strings written with it are short.

Source: Creutz and Lagus 2007 (Unsupervised models for morpheme segmentation); the library
Morfessor 2.0 (Virpioja et al. 2013).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from typing import Any

# One training at a time has the library's generator.
_TRAINING = threading.Lock()


class Baseline:
    """A trained Morfessor Baseline model; `weight` below 1 makes it cut more.

    Deterministic, whatever other threads draw, and leaves Python's random numbers as they were.
    Cost: about 0.4 ms a word of eight letters and epoch, growing with its length's square.
    """

    def __init__(self, counts: Mapping[str, int], *, weight: float, max_epochs: int | None) -> None:
        import morfessor
        import morfessor.utils

        morfessor.utils.show_progress_bar = False
        self._model: Any = morfessor.BaselineModel(corpusweight=weight)
        with _TRAINING:
            # The library shuffles with Python's own generator, of which any thread may draw.
            shared = morfessor.baseline.random
            morfessor.baseline.random = random.Random(0)
            try:
                self._model.load_data([(counts[text], text) for text in sorted(counts)])
                if counts:
                    self._model.train_batch(max_epochs=max_epochs)
            finally:
                morfessor.baseline.random = shared

    def cut(self, text: str) -> tuple[list[str], float]:
        """The parts of a string and the cost of writing them in nats."""
        # No smoothing: a part that was never met costs as much as a whole word's letters.
        parts, cost = self._model.viterbi_segment(text, 0, max(30, len(text)))
        return list(parts), float(cost)
