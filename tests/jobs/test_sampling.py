"""Samples along the way: by the weights as they stand, and refused when these are broken."""

import numpy as np
import pytest

from cllm.errors import TrainingError
from cllm.infer.torch_decoder import TorchDecoder
from cllm.jobs.sampling import Sampler
from cllm.model import ModelSpec, Transformer, initial_weights
from cllm.text.tokenizers import train_tokenizer

SPEC = ModelSpec(
    vocab_size=257,
    width=32,
    layers=1,
    heads=2,
    kv_heads=2,
    head_width=16,
    mlp_width=32,
    context=16,
)


@pytest.fixture
def tokenizer():
    return train_tokenizer(
        "bytes", lambda: iter(["abc"]), vocab_size=None, num_characters=3, progress=None
    )


def decoder_of(weights):
    model = Transformer(SPEC).eval()
    model.load_weights(weights)
    return TorchDecoder(model)


def test_the_same_weights_write_the_same_sample(tokenizer):
    weights = initial_weights(SPEC, 1)
    sampler = Sampler(tokenizer, "a prompt longer than the context", 20)
    decoder = decoder_of(weights)
    text = sampler(decoder)
    # Neither what it wrote before nor another decoder makes a difference.
    assert sampler(decoder) == text == sampler(decoder_of(weights))
    assert Sampler(tokenizer, "a", 0)(decoder) == ""


def test_weights_that_are_not_finite_are_no_model(tokenizer):
    weights = initial_weights(SPEC, 1)
    weights["norm.weight"][3] = np.nan
    with pytest.raises(TrainingError, match="not finite"):
        Sampler(tokenizer, "a", 20)(decoder_of(weights))
