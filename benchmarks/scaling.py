"""Fit the planner's scaling law: runs of several sizes and lengths on the texts given.

Each run is the one that `cllm train` would make with that shape and that many tokens; only
the number of tokens matters, not the machine's speed. Results are kept in a file of JSON lines,
so that the fit can be made again or runs added. The law goes to src/cllm/training/.

    python benchmarks/scaling.py TEXT… --results runs.jsonl [--only-fit]
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cllm.config import Settings, TextSettings, resolve
from cllm.model import initial_weights, spec_from_settings
from cllm.native import load_library
from cllm.text.batches import Batches
from cllm.text.corpus import Corpus
from cllm.text.prepare import prepare
from cllm.training.checkpoint import Checkpoints
from cllm.training.compiled_learner import CompiledLearner
from cllm.training.held_out import HeldOut
from cllm.training.metrics import MetricsLog
from cllm.training.plan import Facts, decide
from cllm.training.scaling import LAW_FILE, ScalingLaw, block_parameters, tokens_per_s
from cllm.training.schedule import StepSchedule
from cllm.training.trainer import Surroundings, Trainer
from cllm.workspace.home import home_folder
from surroundings import surroundings

SHAPES = ((48, 2, 2), (64, 2, 2), (96, 3, 3), (128, 4, 4), (192, 5, 6))
TOKENS = (250_000, 1_000_000, 4_000_000)
# Runs that would take longer than this are left out; the law carries over to them.
MOST_FLOPS = 3e13


def run(corpus: Corpus, shape: tuple[int, int, int], tokens: int, threads: int) -> dict[str, Any]:
    """One run; returns what the fit needs to know of it."""
    width, layers, heads = shape
    flags = {
        "model.width": width,
        "model.layers": layers,
        "model.heads": heads,
        "model.context": 128,
        "train.threads": threads,
    }
    settings = resolve(Settings, flags)
    vocab_size = corpus.tokenizer.vocab_size
    spec = spec_from_settings(settings.model, vocab_size, "small")
    facts = Facts(
        vocab_size=vocab_size,
        train_tokens=corpus.train.num_tokens,
        train_bytes=corpus.train.num_bytes,
        engine="compiled",
        precision="bfloat16",
        flops_per_s=tokens / tokens_per_s(spec, 1.0),
        train_s=1.0,
    )
    settings, spec = decide(settings, facts)
    train = settings.train
    assert train.batch_size is not None
    steps = max(1, round(tokens / (train.batch_size * spec.context)))
    library = load_library(home_folder() / "native")
    learner = CompiledLearner(library, spec, initial_weights(spec, train.seed), train)
    with tempfile.TemporaryDirectory() as name:
        around = Surroundings(
            checkpoints=Checkpoints(Path(name)),
            metrics=MetricsLog(Path(name) / "metrics.jsonl", after_step=0, tensorboard=False),
            observe=[].append,
            validate=None,
            sample=None,
            prompt="",
            stop_requested=lambda: False,
            bytes_per_token=facts.bytes_per_token,
        )
        batches = Batches(corpus.tokens("train"), context=spec.context, seed=train.seed)
        Trainer(learner, batches, train, StepSchedule(steps), around).run()
    _, bpb = HeldOut(corpus).score(learner)
    seen = steps * train.batch_size * spec.context
    return {
        "corpus": corpus.folder.name,
        "shape": shape,
        "block_parameters": block_parameters(spec),
        "tokens": seen,
        "seen_bytes": seen * facts.bytes_per_token,
        "text_bytes": corpus.train.num_bytes,
        "dropout": train.dropout,
        "batch_tokens": train.batch_size * spec.context,
        "bits_per_byte": bpb,
    }


def fit(rows: list[dict[str, Any]]) -> ScalingLaw:
    """Least squares in bits per byte, with a floor of its own for each text.

    Powers and repeats come from a grid, the rest is linear. The law's floor is the mean of the
    texts' floors; its spread is how far the texts' own levels lie from it.
    """
    size = np.array([row["block_parameters"] for row in rows], float)
    seen = np.array([row["seen_bytes"] for row in rows], float)
    text = np.array([row["text_bytes"] for row in rows], float)
    bpb = np.array([row["bits_per_byte"] for row in rows])
    names = sorted({row["corpus"] for row in rows})
    own = np.array([[float(row["corpus"] == name) for name in names] for row in rows])
    best: tuple[float, ScalingLaw] | None = None
    powers, repeats = np.arange(0.15, 0.81, 0.05), (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
    for size_power, data_power, repeat in itertools.product(powers, powers, repeats):
        law = ScalingLaw(0.0, 1.0, size_power, 1.0, data_power, repeat, 0.0)
        unique = np.array([law.unique_bytes(s, t) for s, t in zip(seen, text, strict=True)])
        columns = np.column_stack([own, size**-size_power, unique**-data_power])
        scale = np.abs(columns).max(axis=0)
        solved, *_ = np.linalg.lstsq(columns / scale, bpb, rcond=None)
        solved = solved / scale
        if (solved[-2:] <= 0).any() or (solved[:-2] < 0.3).any():
            continue
        error = float(np.sqrt(np.mean((columns @ solved / bpb - 1.0) ** 2)))
        if best is None or error < best[0]:
            floors = solved[:-2]
            levels = np.array([bpb[own[:, i] > 0].mean() for i in range(len(names))])
            spread = float(2 * np.std(floors) / levels.mean() + 2 * error)
            best = (
                error,
                ScalingLaw(
                    float(floors.mean()),
                    float(solved[-2]),
                    float(size_power),
                    float(solved[-1]),
                    float(data_power),
                    float(repeat),
                    spread,
                ),
            )
    assert best is not None, "no law with falling losses fits"
    print(f"relative error of the fit: {best[0]:.2%}")
    return best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="*", type=Path)
    parser.add_argument("--results", type=Path, default=Path("scaling-runs.jsonl"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only-fit", action="store_true")
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    rows = [json.loads(line) for line in lines]
    if not options.only_fit:
        done = {(row["corpus"], tuple(row["shape"]), row["asked"]) for row in rows}
        for path in options.texts:
            with tempfile.TemporaryDirectory() as folder:
                corpus = prepare([path], TextSettings(), Path(folder) / path.stem)
                for tokens, shape in itertools.product(TOKENS, SHAPES):
                    spec = spec_from_settings(
                        resolve(
                            Settings, {"model.width": shape[0], "model.layers": shape[1]}
                        ).model,
                        corpus.tokenizer.vocab_size,
                        "small",
                    )
                    if (path.stem, shape, tokens) in done:
                        continue
                    if 6 * spec.num_parameters * tokens > MOST_FLOPS:
                        continue
                    row = run(corpus, shape, tokens, options.threads) | {"asked": tokens}
                    rows.append(row)
                    with options.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)
    if not rows:
        print("Give texts to train on, or --only-fit with --results of earlier runs.")
        return
    law = fit(rows)
    values = {name: getattr(law, name) for name in law.__dataclass_fields__}
    record = {"law": values, "runs": len(rows), "texts": sorted({row["corpus"] for row in rows})}
    LAW_FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"benchmark": "scaling", **record, **surroundings()}))


if __name__ == "__main__":
    main()
