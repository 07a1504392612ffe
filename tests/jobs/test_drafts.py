"""Counts of the training text stand beside models that are large enough to gain from them."""

import numpy as np

from cllm.config import ModelSettings
from cllm.jobs.drafts import num_counted, write_drafts
from cllm.model.spec import spec_from_settings
from cllm.native.drafts import DRAFTS, Drafts


class _Corpus:
    """Of a corpus, what counting reads: 'a b c' over and over."""

    class train:  # noqa: N801
        num_tokens = 3000

    class tokenizer:  # noqa: N801
        vocab_size = 600

    def tokens(self, split):
        assert split == "train"
        return self

    def read(self, start, length):
        return np.tile(np.array([5, 6, 7], np.uint32), 1000)[start : start + length]


def test_a_large_model_gets_counts_and_a_small_one_none(tmp_path):
    small = spec_from_settings(ModelSettings(preset="tiny"), 600, "tiny")
    large = spec_from_settings(ModelSettings(preset="base"), 600, "base")
    write_drafts(_Corpus(), small, tmp_path)
    assert not (tmp_path / DRAFTS).exists()
    assert num_counted(_Corpus(), small) == 0
    write_drafts(_Corpus(), large, tmp_path)
    drafts = Drafts.load(tmp_path, 600)
    # After 5 always comes 6: a context of one token t is 4·t + 1.
    [place] = np.flatnonzero(drafts.contexts == 4 * 5 + 1)
    assert drafts.tokens[place] == 6
    assert drafts.shares[place] == 255
