"""Tokens per second of training at the peers' own shape: 128 wide, 4 layers, 12 × 64 characters.

Three programs take turns on the same text, each a process of its own: our trainer, a plain
PyTorch loop over a GPT of that shape (as nanoGPT's, float32), and transformers' Trainer over a
Qwen3 of that shape, in float32 and in bfloat16.
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
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cllm.config import ModelSettings, TrainSettings
from cllm.jobs.threads import thread_environment
from cllm.model import Transformer, spec_from_settings
from cllm.text.batches import Batches
from cllm.training.checkpoint import Checkpoints
from cllm.training.metrics import MetricsLog
from cllm.training.precision import measure_precision
from cllm.training.schedule import StepSchedule
from cllm.training.scoring import ArrayTokens
from cllm.training.trainer import Surroundings, Trainer
from surroundings import surroundings

WIDTH, LAYERS, HEADS, BATCH, CONTEXT = 128, 4, 4, 12, 64


def characters() -> tuple[ArrayTokens, int]:
    """Python's documentation topics as character ids, and how many characters there are."""
    text = "\n".join(pydoc_data.topics.topics.values())
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    return ArrayTokens(np.array([alphabet[c] for c in text], dtype=np.uint32)), len(alphabet)


class PeerBlock(nn.Module):
    """LayerNorm, attention through the fused kernel, GELU: GPT-2's block without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        heads = self.qkv(self.norm1(x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Peer(nn.Module):
    """A GPT with learned positions."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(PeerBlock() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def peer_loop(tokens: ArrayTokens, vocab_size: int) -> Callable[[int], float]:
    """A plain loop, float32; returns seconds for a number of steps."""
    torch.manual_seed(0)
    model = Peer(vocab_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    text = torch.from_numpy(tokens.read(0, len(tokens)).astype(np.int64))

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            places = torch.randint(len(text) - CONTEXT - 1, (BATCH,)).tolist()
            inputs = torch.stack([text[i : i + CONTEXT] for i in places])
            targets = torch.stack([text[i + 1 : i + CONTEXT + 1] for i in places])
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        return time.perf_counter() - start

    return run


def ignore(event: object) -> None:
    """Nobody watches."""
    del event


def our_trainer(tokens: ArrayTokens, vocab_size: int, precision: str) -> Callable[[int], float]:
    """Our loop as `cllm train` runs it, checkpoints and metrics on disk included."""
    shape = ModelSettings(width=WIDTH, layers=LAYERS, heads=HEADS, context=CONTEXT)
    spec = spec_from_settings(shape, vocab_size, "small")
    settings = TrainSettings(batch_size=BATCH, learning_rate=1e-3, precision=precision)

    def run(steps: int) -> float:
        with tempfile.TemporaryDirectory() as name:
            model = Transformer(spec)
            model.initialise(torch.Generator().manual_seed(0))
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
            batches = Batches(tokens, context=CONTEXT, batch_size=BATCH, seed=0)
            trainer = Trainer(model, batches, settings, StepSchedule(steps), around)
            return trainer.run().stepping_s

    return run


def transformers_trainer(
    tokens: ArrayTokens, vocab_size: int, bf16: bool
) -> Callable[[int], float]:
    """Transformers' Trainer over a Qwen3 of the same shape; returns its own train_runtime."""
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
                bf16=bf16,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            model = transformers.Qwen3ForCausalLM(config)
            trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
            return float(trainer.train().metrics["train_runtime"])

    return run


PROGRAMS = ("cllm", "plain_loop", "transformers_float32", "transformers_bfloat16")


def run_program(name: str, steps: int) -> None:
    """Warm one program up, time it, and print its tokens per second."""
    torch.set_num_threads(os.cpu_count() or 1)
    tokens, vocab_size = characters()
    if name == "cllm":
        run = our_trainer(tokens, vocab_size, measure_precision("cpu"))
    elif name == "plain_loop":
        run = peer_loop(tokens, vocab_size)
    else:
        run = transformers_trainer(tokens, vocab_size, bf16=name.endswith("bfloat16"))
    run(10)
    print(steps * BATCH * CONTEXT / run(steps))


def child(name: str, steps: int) -> float:
    """Tokens per second of one program, in a process of its own."""
    environment = dict(os.environ)
    if name == "cllm":
        environment |= thread_environment()
    command = [sys.executable, __file__, "--program", name, "--steps", str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--program", choices=PROGRAMS)
    options = parser.parse_args()
    if options.program:
        run_program(options.program, options.steps)
        return
    rates: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(options.runs):
        for name in PROGRAMS:
            rates[name].append(child(name, options.steps))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        print(f"{name:22} {medians[name]:9,.0f} tokens/s  {spread}")
    best = max(medians["transformers_float32"], medians["transformers_bfloat16"])
    pairs = [ours / theirs for ours, theirs in zip(rates["cllm"], rates["plain_loop"], strict=True)]
    result = {
        "benchmark": "training",
        "shape": f"{WIDTH} wide, {LAYERS} layers, {BATCH}x{CONTEXT}",
        "precision": measure_precision("cpu"),
        **{f"{name}_tokens_per_s": round(value) for name, value in medians.items()},
        "over_plain_loop": round(statistics.median(pairs), 3),
        "over_transformers_best": round(medians["cllm"] / best, 3),
        "runs": options.runs,
        "torch": torch.__version__,
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
