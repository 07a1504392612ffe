"""What each mechanism costs: time of a training step and of a decoded token, and parameters.

A small model on one thread; every round times all arms in another order, and the plain model
among them. Shares are of the plain model in the same round. Less than three minutes.
"""

from __future__ import annotations

import os

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import json
import random
import statistics
import time
from collections.abc import Callable

import numpy as np

from cllm.config import TrainSettings
from cllm.infer.torch_decoder import TorchDecoder
from cllm.jobs.compute import choose_compute
from cllm.jobs.workspace import home_folder
from cllm.model import ModelSpec, initial_weights
from cllm.model.folding import fold
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.catalogue import NAMES, SETS
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.model.transformer import Transformer
from cllm.native.stream import Feed
from cllm.numbers.primes import first_primes
from cllm.training.learner import Learner, Rates
from cllm.training.torch_learner import TorchLearner
from surroundings import surroundings

ROUNDS, STEPS, TOKENS = 7, 3, 24
BATCH, PROMPT = 8, 64
PLAIN = ModelSpec(
    vocab_size=1024,
    width=64,
    layers=2,
    heads=4,
    kv_heads=4,
    head_width=16,
    mlp_width=160,
    context=128,
)
SETTINGS = TrainSettings(threads=1, precision="float32", dropout=0.0, batch_size=BATCH)
RATES = Rates(1e-3, 1e-3, 0.9)

Work = Callable[[], float]


def lexicon(size: int) -> Lexicon:
    """A made-up vocabulary: four tokens to a root, and up to two of twelve affixes each."""
    generator = np.random.default_rng(0)
    primes = first_primes(12 + size // 4)
    return Lexicon(
        ranks=np.arange(1, size + 1, dtype=np.int32),
        roots=(np.arange(size) // 4).astype(np.int32),
        affixes=generator.integers(0, 13, (size, 2)).astype(np.int32),
        root_primes=primes[12:],
        affix_primes=np.concatenate([[1], primes[:12]]).astype(np.int64),
    )


def stepping(learner: Learner) -> Work:
    """Milliseconds of one training step, by the mean of a few."""
    generator = np.random.default_rng(1)
    ids = generator.integers(0, PLAIN.vocab_size, (BATCH, PLAIN.context)).astype(np.int32)
    batch = (ids, np.roll(ids, -1, axis=1))

    def work() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            learner.step([batch], RATES)
        return (time.perf_counter() - start) / STEPS * 1e3

    return work


def decoding(decoder: TorchDecoder) -> Work:
    """Milliseconds of one decoded token after a prompt, by the mean of a few."""

    def work() -> float:
        decoder.truncate(0, 0)
        decoder.feed([Feed(0, range(PROMPT))])
        start = time.perf_counter()
        for token in range(TOKENS):
            decoder.feed([Feed(0, [token])])
        return (time.perf_counter() - start) / TOKENS * 1e3

    return work


def arms() -> tuple[dict[str, dict[str, Work]], dict[str, int]]:
    """{arm: {what is timed: work}}, and the parameters of each arm."""
    words = lexicon(PLAIN.vocab_size)
    works: dict[str, dict[str, Work]] = {}
    sizes = {}
    for name in ("none", *NAMES, *(key for key, members in SETS.items() if members)):
        chosen = choose((name,))
        spec = with_mechanisms(PLAIN, chosen, words)
        weights = initial_weights(spec, 0, words)
        sizes[name] = spec.num_parameters
        finished, folded = fold(spec, weights, words)
        model = Transformer(finished, words).eval()
        model.load_weights(folded)
        works[name] = {
            "torch step": stepping(TorchLearner(spec, weights, SETTINGS, words)),
            "torch decode": decoding(TorchDecoder(model)),
        }
        compute, _ = choose_compute(home_folder(), SETTINGS, chosen)
        if compute.kind == "compiled":
            learner = compute.learner(spec, weights, SETTINGS)
            works[name]["compiled step"] = stepping(learner)
    return works, sizes


def measure(works: dict[str, dict[str, Work]]) -> dict[str, dict[str, list[float]]]:
    """{what is timed: {arm: milliseconds of each round}}, the first round thrown away."""
    found: dict[str, dict[str, list[float]]] = {}
    every = [(kind, name) for name, kinds in works.items() for kind in kinds]
    for turn in range(ROUNDS + 1):
        random.Random(turn).shuffle(every)
        for kind, name in every:
            value = works[name][kind]()
            if turn:
                found.setdefault(kind, {}).setdefault(name, []).append(value)
    return found


def main() -> None:
    works, sizes = arms()
    found = measure(works)
    kinds = [kind for kind in ("torch step", "compiled step", "torch decode") if kind in found]
    rows: dict[str, dict[str, float]] = {}
    print(f"{'':18} {'parameters':>10}  " + "  ".join(f"{kind:>22}" for kind in kinds))
    for name in works:
        cells, row = [], {"parameters": round(sizes[name] / sizes["none"], 3)}
        for kind in kinds:
            values = found[kind].get(name)
            if values is None:
                cells.append(f"{'–':>22}")
                continue
            ratios = [v / p for v, p in zip(values, found[kind]["none"], strict=True)]
            ratio, median = statistics.median(ratios), statistics.median(values)
            spread = max(ratios) - min(ratios)
            cells.append(f"{median:6.2f} ms ×{ratio:5.2f} ±{spread / 2:.2f}")
            key = kind.replace(" ", "_")
            row |= {f"{key}_ms": round(median, 3), key: round(ratio, 3)}
            row[f"{key}_spread"] = round(spread, 3)
        rows[name] = row
        print(f"{name:18} {row['parameters']:10.3f}  " + "  ".join(f"{c:>22}" for c in cells))
    print(json.dumps({"benchmark": "mechanisms", "runs": ROUNDS, "arms": rows} | surroundings()))


if __name__ == "__main__":
    main()
