"""Every token is scored exactly once, in the windows that are promised."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.model import ModelSpec, Transformer, initial_weights
from cllm.training.scoring import ArrayTokens, Score, bits_per_byte, count_scored, score_tokens

EOS, UNK = 0, 1
SPEC = ModelSpec(
    vocab_size=20, width=16, layers=1, heads=2, kv_heads=1, head_width=8, mlp_width=16, context=8
)


class Uniform(Transformer):
    """Gives every token the same probability, and so each scored one log V nats."""

    def forward(self, ids, cache=None):
        return torch.zeros(*ids.shape, self.spec.vocab_size)


@given(
    length=st.integers(0, 60),
    stride=st.one_of(st.none(), st.integers(1, 20)),
    batch_tokens=st.sampled_from([1, 8, 64]),
)
def test_each_token_counts_once_whatever_the_windows(length, stride, batch_tokens):
    ids = np.full(length, 5, dtype=np.uint32)
    score = score_tokens(
        Uniform(SPEC),
        ArrayTokens(ids),
        eos_id=EOS,
        unk_id=UNK,
        stride=stride,
        batch_tokens=batch_tokens,
    )
    assert score.num_tokens == length
    assert score.nats == pytest.approx(length * math.log(20), rel=1e-6)


@given(st.lists(st.integers(0, 19), max_size=40))
def test_ends_of_text_and_unknown_tokens_are_not_scored(ids):
    tokens = ArrayTokens(np.array(ids, dtype=np.uint32))
    expected = sum(i not in (EOS, UNK) for i in ids)
    score = score_tokens(Uniform(SPEC), tokens, eos_id=EOS, unk_id=UNK)
    assert score.num_tokens == expected
    assert count_scored(tokens, unscored=(EOS, UNK)) == expected


def by_hand(model, ids, stride):
    """The definition, token by token: the last window that starts at a multiple of `stride`
    and first reaches the token decides what the model sees."""
    row = [EOS, *ids]
    total = 0.0
    for position in range(len(ids)):
        start = 0
        while start + SPEC.context <= position:
            start += stride
        with torch.no_grad():
            logits = model(torch.tensor([row[start : position + 1]]))[0, -1]
        total -= float(torch.log_softmax(logits.double(), -1)[ids[position]])
    return total


@pytest.mark.parametrize("stride", [8, 4, 3, 1])
def test_scores_equal_a_computation_token_by_token(stride):
    model = Transformer(SPEC)
    model.load_weights(initial_weights(SPEC, 0))
    ids = np.random.default_rng(0).integers(2, 20, 29).astype(np.uint32)
    score = score_tokens(model, ArrayTokens(ids), eos_id=EOS, unk_id=UNK, stride=stride)
    assert score.nats == pytest.approx(by_hand(model, ids.tolist(), stride), rel=1e-5)


@settings(max_examples=30)
@given(length=st.integers(100, 500), most=st.integers(8, 200))
def test_a_part_stands_for_the_whole(length, most):
    ids = np.full(length, 5, dtype=np.uint32)
    score = score_tokens(Uniform(SPEC), ArrayTokens(ids), eos_id=EOS, unk_id=UNK, max_tokens=most)
    assert 0 < score.num_tokens <= max(most, SPEC.context) + SPEC.context
    assert score.nats_per_token == pytest.approx(math.log(20), rel=1e-6)


def test_bits_per_byte_by_hand():
    # 100 tokens of ln 4 nats are 200 bits; 5 unknown bytes cost 40; over 80 bytes: 3.
    score = Score(nats=100 * math.log(4), num_tokens=100)
    value = bits_per_byte(score, num_scored=100, num_bytes=80, charged_bytes=5)
    assert value == pytest.approx(3.0)
    # A tenth of the tokens, scored as well, gives the same.
    part = Score(nats=10 * math.log(4), num_tokens=10)
    assert bits_per_byte(part, num_scored=100, num_bytes=80, charged_bytes=5) == pytest.approx(3.0)
    assert math.isnan(bits_per_byte(score, num_scored=0, num_bytes=0, charged_bytes=0))
