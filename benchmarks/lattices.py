"""How many points a second are decoded, and how long LLL takes for 128 rows of 40 bits.

Decoders run on one thread and on two, the E8 one against the same algorithm in numpy; LLL runs
against FLINT's own, called once, whose last pass ours shares.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from functools import partial

import numpy as np
import numpy.typing as npt
from flint import fmpz_mat

from cllm.numbers.lattices import named_lattice, nearest_point
from cllm.numbers.leech import leech_minimal_vectors
from cllm.numbers.nearest_points import nearest_e8
from cllm.numbers.reduction import is_lll_reduced, lll
from surroundings import surroundings
from timing import seconds

GOALS = {"E8": 20e6, "Leech": 1e5}
GOAL_LLL_S = 2.0
NUM_POINTS = {"D4": 4_000_000, "E8": 2_000_000, "Leech": 100_000}
ROWS, BITS = 128, 40


def numpy_e8(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The better of two cosets of D8, each coset rounded in whole arrays."""

    def round_to_d8(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        near = np.rint(values)
        rest = values - near
        odd = np.flatnonzero(near.sum(1) % 2)
        place = np.abs(rest[odd]).argmax(1)
        near[odd, place] += np.where(rest[odd, place] >= 0, 1, -1)
        return near

    whole, half = round_to_d8(points), round_to_d8(points - np.float32(0.5)) + np.float32(0.5)
    is_half = ((points - half) ** 2).sum(1) < ((points - whole) ** 2).sum(1)
    return np.where(is_half[:, None], half, whole)


def uniform(seed: int) -> list[list[int]]:
    """Entries drawn from all numbers of 40 bits."""
    chance = random.Random(seed)
    return [[chance.getrandbits(BITS) for _ in range(ROWS)] for _ in range(ROWS)]


def q_ary(seed: int) -> list[list[int]]:
    """The lattice of 64 random linear congruences mod a number of 40 bits: hard to reduce."""
    chance, half, modulus = random.Random(seed), ROWS // 2, 2**BITS - 87
    top = [[modulus * (i == j) for j in range(ROWS)] for i in range(half)]
    rest = [
        [*(chance.randrange(modulus) for _ in range(half)), *(int(i == j) for j in range(half))]
        for i in range(half)
    ]
    return top + rest


def decoders(runs: int) -> dict[str, float]:
    found: dict[str, float] = {}
    rng = np.random.default_rng(0)
    for name, count in NUM_POINTS.items():
        shape = (count, named_lattice(name).dimension)
        points = (rng.normal(size=shape) * 3).astype(np.float32)
        for threads in (1, 2):
            taken = seconds(partial(nearest_point, name, points, threads), runs)
            key = f"{name}_{threads}_threads_per_s"
            found[key] = count / statistics.median(taken)
            found[f"{key}_spread"] = count / min(taken) - count / max(taken)
            print(f"{name:5} {threads} threads: {found[key] / 1e6:8.2f} million points/s")
        if name == "E8":
            some = points[:200_000]
            taken = seconds(partial(numpy_e8, some), runs)
            found["E8_numpy_per_s"] = len(some) / statistics.median(taken)
            found["E8_equal_to_numpy"] = float((nearest_e8(some) == numpy_e8(some)).all(1).mean())
            print(f"{name:5} in numpy:  {found['E8_numpy_per_s'] / 1e6:8.2f} million points/s")
    return found


def reductions(runs: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, rows in (("uniform", uniform(1)), ("q_ary", q_ary(1))):
        start = time.process_time()
        ours = seconds(partial(lll, rows), runs)
        processor_s = (time.process_time() - start) / (runs + 1)
        flint = seconds(fmpz_mat(rows).lll, max(runs // 2, 1))
        assert is_lll_reduced(lll(rows))
        key = f"lll_{name}"
        found[f"{key}_s"] = statistics.median(ours)
        found[f"{key}_spread_s"] = max(ours) - min(ours)
        found[f"{key}_processor_s"] = processor_s
        found[f"{key}_flint_s"] = statistics.median(flint)
        print(
            f"LLL of {ROWS} × {ROWS}, {BITS} bits, {name}: {found[f'{key}_s']:.2f} s, "
            f"of the processor {processor_s:.2f} s "
            f"(FLINT in one pass {found[f'{key}_flint_s']:.2f} s)"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    start = time.perf_counter()
    leech_minimal_vectors()
    result: dict[str, object] = {
        "benchmark": "lattices",
        "leech_minimal_vectors_s": round(time.perf_counter() - start, 3),
        "runs": options.runs,
    }
    rates = decoders(options.runs)
    result |= {name: round(value, 4) for name, value in rates.items()}
    times = reductions(options.runs)
    result |= {name: round(value, 4) for name, value in times.items()}
    result["are_goals_met"] = times["lll_uniform_s"] < GOAL_LLL_S and all(
        rates[f"{name}_2_threads_per_s"] >= goal for name, goal in GOALS.items()
    )
    print(json.dumps(result | surroundings()))


if __name__ == "__main__":
    main()
