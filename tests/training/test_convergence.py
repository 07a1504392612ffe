"""Models of three sizes learn three unlike texts: the loss falls, below the unigram entropy."""

import random
from itertools import pairwise

import numpy as np
import pytest

from cllm.config import Settings, TextSettings, resolve
from cllm.model import initial_weights
from cllm.native import load_library
from cllm.text.batches import Batches
from cllm.text.prepare import prepare
from cllm.training.compiled_learner import CompiledLearner
from cllm.training.held_out import HeldOut
from cllm.training.learner import Rates
from cllm.training.plan import Facts, decide

pytestmark = pytest.mark.long

# Width, layers, heads and steps; with 65 to 100 characters about 82 thousand, 510 thousand and
# ten million parameters.
SIZES = {"82K": (56, 2, 2, 250), "510K": (120, 3, 4, 250), "10M": (384, 6, 6, 60)}


def prose():
    """Sentences from a small grammar: order and agreement can be learned."""
    rng = random.Random(0)
    nouns, verbs = ["river", "lamp", "stone", "song", "wind"], ["sees", "holds", "follows"]
    return "\n".join(
        f"A {rng.choice(nouns)} {rng.choice(verbs)} a {rng.choice(nouns)} of {rng.randint(1, 99)}."
        for _ in range(8000)
    )


def arithmetic():
    """Sums and products, whose results follow from the operands."""
    rng = random.Random(1)
    rows = [(rng.randint(0, 99), rng.randint(0, 99)) for _ in range(12000)]
    return "\n".join(f"{a} + {b} = {a + b}; {a} x {b} = {a * b}" for a, b in rows)


def code():
    """Real source: modules of the standard library."""
    import argparse
    import difflib
    import inspect
    import tarfile

    return "\n".join(inspect.getsource(module) for module in (argparse, difflib, tarfile))


@pytest.mark.parametrize("text", [prose, arithmetic, code])
@pytest.mark.parametrize("size", SIZES)
def test_the_held_out_loss_falls_below_the_unigram_entropy(tmp_path, text, size):
    width, layers, heads, steps = SIZES[size]
    (tmp_path / "text.txt").write_text(text(), encoding="utf-8")
    settings = TextSettings(tokenizer="characters", exact_duplicates=False, near_duplicates=False)
    corpus = prepare([tmp_path / "text.txt"], settings, tmp_path / "corpus")
    flags = {"model.width": width, "model.layers": layers, "model.heads": heads}
    flags |= {"model.context": 64, "train.steps": steps, "train.batch_size": 16}
    library = load_library(tmp_path / "native")
    facts = Facts(
        vocab_size=corpus.tokenizer.vocab_size,
        train_tokens=corpus.train.num_tokens,
        train_bytes=corpus.train.num_bytes,
        engine="compiled",
        precision="bfloat16" if library.has_bfloat16 else "float32",
        flops_per_s=1e11,
        train_s=None,
    )
    decided, spec = decide(resolve(Settings, flags), facts)
    train = decided.train
    expected = {"82K": 82e3, "510K": 510e3, "10M": 10e6}[size]
    assert spec.num_parameters == pytest.approx(expected, rel=0.15)
    learner = CompiledLearner(library, spec, initial_weights(spec, 0), train)
    held_out, batches = HeldOut(corpus), Batches(corpus.tokens("train"), context=64, seed=0)
    seen = []
    for step in range(steps):
        if step % (steps // 5) == 0:
            seen.append(held_out.score(learner, max_tokens=4096)[0].nats_per_token)
        shape = min(1.0, (step + 1) / 10) * (1 - step / steps)
        rates = Rates(train.learning_rate * shape, train.matrix_rate * shape, train.momentum)
        learner.step([batches.read(16 * step, 16)], rates)
    seen.append(held_out.score(learner, max_tokens=4096)[0].nats_per_token)
    counts = np.bincount(corpus.tokens("val").read(0, corpus.val.num_tokens))
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    assert all(after < before * 1.02 for before, after in pairwise(seen))
    assert seen[-1] < 0.75 * entropy, (seen, entropy)
