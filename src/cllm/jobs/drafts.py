"""What the training text says of the next token, kept with a model: guesses that it can check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cllm.model.spec import ModelSpec
    from cllm.text.corpus import Corpus

# Counting takes half a second for so many; of a longer text the first ones are counted.
_MOST_TOKENS = 1 << 20
# Below, a guess costs as much as a token: nothing is gained, and the counts are larger than the
# model.
_LEAST_PARAMETERS = 1_000_000


def num_counted(corpus: Corpus, spec: ModelSpec) -> int:
    """How many tokens `write_drafts` counts."""
    if spec.num_parameters < _LEAST_PARAMETERS:
        return 0
    return min(corpus.train.num_tokens, _MOST_TOKENS)


def write_drafts(corpus: Corpus, spec: ModelSpec, folder: Path) -> None:
    """Count the training tokens, and write `drafts.safetensors` into a model's folder.

    Small models do without.
    """
    count = num_counted(corpus, spec)
    if not count:
        return
    import numpy as np

    from cllm.native.drafts import build_drafts

    ids = corpus.tokens("train").read(0, count)
    build_drafts(ids.astype(np.int32), corpus.tokenizer.vocab_size).save(folder)
