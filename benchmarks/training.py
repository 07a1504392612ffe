"""Tokens per second of training at the peers' own shape: 128 wide, 4 layers, 12 × 64 characters.

Programs take turns on the same text, each a process of its own: our loop as `cllm train` runs it
(steps, batches and metrics), with Muon and with AdamW; the plain PyTorch loop of
`peers/nanogpt_like.py`, in float32; and transformers' Trainer over a Qwen3 of that shape, in
float32 and in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import pydoc_data.topics
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cllm.config import ModelSettings, TrainSettings
from cllm.jobs.compute import choose_compute
from cllm.jobs.threads import thread_environment
from cllm.model import initial_weights, spec_from_settings
from cllm.text.batches import Batches
from cllm.training.checkpoint import Checkpoints
from cllm.training.metrics import MetricsLog
from cllm.training.schedule import StepSchedule
from cllm.training.scoring import ArrayTokens
from cllm.training.trainer import Surroundings, Trainer
from cllm.workspace.home import home_folder
from surroundings import surroundings

WIDTH, LAYERS, HEADS, BATCH, CONTEXT = 128, 4, 4, 12, 64
OURS = {"cllm": "muon", "cllm_adamw": "adamw"}
PEERS = ("plain_loop", "transformers_float32", "transformers_bfloat16")
PROGRAMS = (*OURS, *PEERS)


def characters() -> tuple[ArrayTokens, int]:
    """Python's documentation topics as character ids, and how many characters there are."""
    text = "\n".join(pydoc_data.topics.topics.values())
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    return ArrayTokens(np.array([alphabet[c] for c in text], dtype=np.uint32)), len(alphabet)


def ignore(event: object) -> None:
    """Nobody watches."""
    del event


def our_loop(
    tokens: ArrayTokens, vocab_size: int, optimizer: str, threads: int
) -> Callable[[int], float]:
    """`Trainer` over what this machine computes with; returns seconds in a number of steps."""
    shape = ModelSettings(width=WIDTH, layers=LAYERS, heads=HEADS, context=CONTEXT)
    spec = spec_from_settings(shape, vocab_size, "small")
    # Whole windows throughout, and nothing dropped: the work that the peers do.
    settings = TrainSettings(
        batch_size=BATCH, learning_rate=1e-3, matrix_rate=1e-3, momentum=0.95, dropout=0.0,
        optimizer=optimizer, context_ramp=False, threads=threads,
    )  # fmt: skip
    compute, advice = choose_compute(home_folder(), settings)
    print(f"{compute.kind} engine, {compute.precision}{f'; {advice}' if advice else ''}")
    decided = {"engine": compute.kind, "precision": compute.precision}
    settings = settings.model_copy(update=decided)

    def run(steps: int) -> float:
        with tempfile.TemporaryDirectory() as name:
            around = Surroundings(
                checkpoints=Checkpoints(Path(name) / "checkpoints"),
                metrics=MetricsLog(Path(name) / "metrics.jsonl", after_step=0, tensorboard=False),
                observe=ignore,
                validate=None,
                sample=None,
                prompt="",
                stop_requested=lambda: False,
                bytes_per_token=1.0,
            )
            learner = compute.learner(spec, initial_weights(spec, 0), settings)
            batches = Batches(tokens, context=CONTEXT, seed=0)
            trainer = Trainer(learner, batches, settings, StepSchedule(steps), around)
            return trainer.run().stepping_s

    return run


def plain_loop(tokens: ArrayTokens, vocab_size: int) -> Callable[[int], float]:
    """The peer's own loop, float32; returns seconds for a number of steps."""
    import torch

    from peers.nanogpt_like import RECIPES, Loop

    text = torch.from_numpy(tokens.read(0, len(tokens)).astype(np.int64))
    loop = Loop(RECIPES["default"], text, vocab_size, seed=0)

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            loop.advance(None)
        return time.perf_counter() - start

    return run


def transformers_trainer(
    tokens: ArrayTokens, vocab_size: int, is_bfloat16: bool
) -> Callable[[int], float]:
    """Transformers' Trainer over a Qwen3 of the same shape; returns its own train_runtime."""
    import torch
    import transformers

    config = transformers.Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=WIDTH,
        intermediate_size=352,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=WIDTH // HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        use_cache=False,
    )
    rows = len(tokens) // CONTEXT
    ids = torch.from_numpy(tokens.read(0, rows * CONTEXT).astype(np.int64)).view(rows, CONTEXT)
    data = [{"input_ids": row, "labels": row} for row in ids]
    transformers.logging.set_verbosity_error()

    def run(steps: int) -> float:
        with tempfile.TemporaryDirectory() as name:
            arguments = transformers.TrainingArguments(
                output_dir=name,
                max_steps=steps,
                per_device_train_batch_size=BATCH,
                learning_rate=1e-3,
                use_cpu=True,
                bf16=is_bfloat16,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            model = transformers.Qwen3ForCausalLM(config)
            trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
            return float(trainer.train().metrics["train_runtime"])

    return run


def run_program(name: str, steps: int, threads: int) -> None:
    """Warm one program up, time it, and print its tokens per second."""
    tokens, vocab_size = characters()
    if name in OURS:
        run = our_loop(tokens, vocab_size, OURS[name], threads)
    else:
        import torch

        torch.set_num_threads(threads)
        run = (
            plain_loop(tokens, vocab_size)
            if name == "plain_loop"
            else transformers_trainer(tokens, vocab_size, name.endswith("bfloat16"))
        )
    run(10)
    print(steps * BATCH * CONTEXT / run(steps))


def child(name: str, options: argparse.Namespace) -> tuple[float, str]:
    """Tokens per second of one program in a process of its own, and the first line it printed."""
    environment = dict(os.environ)
    if name in OURS:
        environment |= thread_environment()
    command = [sys.executable, __file__, "--program", name]
    command += ["--steps", str(options.steps), "--threads", str(options.threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} ended with {done.returncode}:\n{done.stderr}")
    lines = done.stdout.splitlines()
    return float(lines[-1]), lines[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--program", choices=PROGRAMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.program:
        run_program(options.program, options.steps, options.threads)
        return
    rates: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    computing = ""
    for _ in range(options.runs):
        for name in PROGRAMS:
            rate, first_line = child(name, options)
            rates[name].append(rate)
            computing = first_line if name in OURS else computing
    print(f"ours: {computing}")
    for name, values in rates.items():
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        print(f"{name:22} {statistics.median(values):9,.0f} tokens/s  {spread}")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = max(medians["transformers_float32"], medians["transformers_bfloat16"])
    pairs = [ours / theirs for ours, theirs in zip(rates["cllm"], rates["plain_loop"], strict=True)]
    result = {
        "benchmark": "training",
        "shape": f"{WIDTH} wide, {LAYERS} layers, {BATCH}x{CONTEXT}",
        "ours": computing,
        **{f"{name}_tokens_per_s": round(value) for name, value in medians.items()},
        "over_plain_loop": round(statistics.median(pairs), 3),
        "over_transformers_best": round(medians["cllm"] / best, 3),
        "runs": options.runs,
        "steps": options.steps,
        "threads": options.threads,
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
