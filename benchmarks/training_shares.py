"""The share of the machine's matrix-product peak that training reaches, by size of model.

Each size is a process of its own, in which these take turns: torch's bfloat16 and float32
products (the best rate of three shapes is the peak), the compiled engine with AdamW, with Muon,
and a plain loop in float32: the same Transformer and torch.optim.AdamW. The work of a token is
6 x parameters; attention's own products, 12 x layers x width x context / 2, are told apart, and
Muon's own are not counted. Ids are random: only time is measured, and memory, in a process for
each program.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cllm.config import ModelSettings
from cllm.model import ModelSpec, Transformer, spec_from_settings
from cllm.native import Engine, Update, load_library
from cllm.workspace.home import home_folder
from surroundings import surroundings

VOCAB_SIZE = 65
# Rows, inner and columns of the products whose best rate is the peak.
PRODUCTS = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 512, 512))
PROGRAMS = ("adamw", "muon", "plain")


@dataclass(frozen=True, slots=True)
class Size:
    """A model and its batch."""

    width: int
    layers: int
    heads: int
    context: int
    batch_size: int


SIZES = {
    "0.1M": Size(64, 2, 2, 64, 64),
    "0.8M": Size(128, 4, 4, 64, 64),
    "10.6M": Size(384, 6, 6, 256, 8),
    "30M": Size(640, 6, 10, 256, 8),
}


def product_flops_per_s(dtype: torch.dtype, seconds: float) -> float:
    """The best rate of a product of any of the shapes, for about `seconds` in all."""
    best = 0.0
    for rows, inner, columns in PRODUCTS:
        a, b = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
        end = time.perf_counter() + seconds / len(PRODUCTS)
        while (start := time.perf_counter()) < end:
            a @ b
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - start))
    return best


def random_batch(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, both [B, T] int32."""
    random = np.random.default_rng(0)
    shape = (size.batch_size, size.context + 1)
    ids = random.integers(0, VOCAB_SIZE, shape, dtype=np.int32)
    return np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:])


def engine_step(
    size: Size, spec: ModelSpec, optimizer: str, options: argparse.Namespace
) -> Callable[[], None]:
    """One step of the compiled engine."""
    engine = Engine(
        load_library(home_folder() / "native"),
        spec,
        threads=options.threads,
        is_bfloat16=options.precision == "bfloat16",
    )
    random = np.random.default_rng(1)
    # Gains are small numbers here too: only time is measured, and no sum grows beyond measure.
    engine.parameters[:] = random.normal(0, 0.02, engine.parameters.shape)
    engine.changed()
    ids, targets = random_batch(size)
    update = Update(
        step=1, rate=1e-4, matrix_rate=1e-4 if optimizer == "muon" else 0.0, beta1=0.9,
        beta2=0.95, epsilon=1e-8, weight_decay=0.1, clip=1.0, momentum=0.95,
    )  # fmt: skip

    def step() -> None:
        engine.gradient(ids, targets, weight=1.0 / targets.size)
        assert np.isfinite(engine.update(update)), "a step that changes nothing is no step"
        update.step += 1

    return step


def plain_step(size: Size, spec: ModelSpec) -> Callable[[], None]:
    """One step of a plain loop, float32."""
    torch.manual_seed(0)
    model = Transformer(spec)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.02) if weight.dim() == 2 else weight.fill_(1.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    ids, targets = (torch.from_numpy(array).long() for array in random_batch(size))

    def step() -> None:
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def tokens_per_s(step: Callable[[], None], tokens: int, seconds: float) -> float:
    """The mean rate of steps for about some seconds, at least two of them."""
    start, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * tokens / (time.perf_counter() - start)


def spec_of(size: Size) -> ModelSpec:
    """The model of a size."""
    shape = ModelSettings(
        width=size.width, layers=size.layers, heads=size.heads, context=size.context
    )
    return spec_from_settings(shape, VOCAB_SIZE, "small")


def make_step(
    program: str, size: Size, spec: ModelSpec, options: argparse.Namespace
) -> Callable[[], None]:
    """One step of one of `PROGRAMS`."""
    if program == "plain":
        return plain_step(size, spec)
    return engine_step(size, spec, program, options)


def measure_memory(name: str, program: str, options: argparse.Namespace) -> dict[str, int]:
    """The largest memory of a process with torch, and what of it three steps added."""
    torch.set_num_threads(options.threads)
    before = _peak_bytes()
    step = make_step(program, SIZES[name], spec_of(SIZES[name]), options)
    for _ in range(3):
        step()
    return {"peak_bytes": _peak_bytes(), "added_bytes": _peak_bytes() - before}


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one size, its rates in rounds."""
    torch.set_num_threads(options.threads)
    size, spec = SIZES[name], spec_of(SIZES[name])
    work = 6 * spec.num_parameters
    attention = 12 * size.layers * size.width * size.context // 2
    steps = {program: make_step(program, size, spec, options) for program in PROGRAMS}
    peaks: dict[str, list[float]] = {"bfloat16": [], "float32": []}
    rates: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    tokens = size.batch_size * size.context
    for _ in range(options.runs + 1):
        for kind, found in peaks.items():
            found.append(product_flops_per_s(getattr(torch, kind), options.seconds / 2))
        for program, step in steps.items():
            rates[program].append(tokens_per_s(step, tokens, options.seconds))
    return {
        "parameters": spec.num_parameters,
        "flops_per_token": work,
        "attention_flops_per_token": attention,
        # The first round warms up.
        "peak_flops_per_s": {kind: max(found[1:]) for kind, found in peaks.items()},
        "peak_spread": {kind: [min(found[1:]), max(found[1:])] for kind, found in peaks.items()},
        "tokens_per_s": {program: found[1:] for program, found in rates.items()},
    }


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _peak_bytes() -> int:
    """The largest memory of this process so far."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def child(options: argparse.Namespace, name: str, program: str | None) -> dict[str, Any]:
    """What `measure` or `measure_memory` returns in a fresh process."""
    command = [sys.executable, __file__, "--child", name, "--threads", str(options.threads)]
    command += ["--runs", str(options.runs), "--seconds", str(options.seconds)]
    command += ["--precision", options.precision]
    command += ["--memory-of", program] if program else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(name: str, found: dict[str, Any]) -> None:
    """Print one size, and add medians and shares to what was found."""
    peaks = found["peak_flops_per_s"]
    listed = ", ".join(f"{kind} {rate / 1e9:,.0f} GFLOP/s" for kind, rate in peaks.items())
    print(f"{name}: {found['parameters']:,} parameters; peak {listed}")
    work, attention = found["flops_per_token"], found["attention_flops_per_token"]
    found["medians"], found["shares"], found["shares_with_attention"] = {}, {}, {}
    for program, rates in found["tokens_per_s"].items():
        kind = "float32" if program == "plain" else found["precision"]
        median = statistics.median(rates)
        share, whole = (median * flops / peaks[kind] for flops in (work, work + attention))
        found["medians"][program] = round(median)
        found["shares"][program] = round(share, 4)
        found["shares_with_attention"][program] = round(whole, 4)
        most, added = (found["memory"][program][key] / 1e6 for key in ("peak_bytes", "added_bytes"))
        print(
            f"  {program:6} {median:10,.0f} tokens/s ({min(rates):,.0f} to {max(rates):,.0f})"
            f" {share:6.1%} of the {kind} peak, {whole:6.1%} with attention;"
            f" {most:,.0f} MB, {added:,.0f} of them added"
        )


def show_evenness(sizes: dict[str, Any]) -> dict[str, float]:
    """Print and return how much tokens/s x parameters differs between the sizes from 0.8M on."""
    spread = {}
    larger = [found for found in sizes.values() if found["parameters"] > 500_000]
    for program in PROGRAMS if larger else ():
        products = [found["medians"][program] * found["parameters"] for found in larger]
        spread[program] = round(max(products) / min(products), 3)
        listed = ", ".join(f"{product / 1e9:.2f}" for product in products)
        print(f"{program:6} tokens/s x parameters: {listed} billion; greatest over least"
              f" {spread[program]:.2f}")  # fmt: skip
    return spread


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--runs", type=int, default=5, help="rounds, after one that warms up")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each program in a round")
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16",
                        help="of the engine")  # fmt: skip
    parser.add_argument("--child", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", choices=PROGRAMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        is_memory = options.memory_of is not None
        print(json.dumps(
            measure_memory(options.child, options.memory_of, options)
            if is_memory else measure(options.child, options)
        ))  # fmt: skip
        return
    sizes = {}
    for name in options.sizes:
        found = child(options, name, None)
        found |= {"shape": asdict(SIZES[name]), "precision": options.precision}
        found["memory"] = {program: child(options, name, program) for program in PROGRAMS}
        show(name, found)
        sizes[name] = found
    result = {
        "benchmark": "training_shares",
        "sizes": sizes,
        "greatest_over_least": show_evenness(sizes),
        "runs": options.runs,
        "threads": options.threads,
        "torch": torch.__version__,
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
