"""Is the planned model the best that the time can buy? The plan against a grid of four sizes.

    python benchmarks/planner.py TEXT… --minutes 1 --runs 3

Every run is `cllm train` from Enter to the saved model, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from surroundings import surroundings

COMMAND = str(Path(sys.executable).with_name("cllm"))
GRID = {
    "64x2": ("64", "2", "2"),
    "96x3": ("96", "3", "3"),
    "128x4": ("128", "4", "4"),
    "192x5": ("192", "5", "6"),
}


def train(text: Path, minutes: float, seed: int, home: str, size: str | None) -> dict[str, float]:
    """One run; returns bits per byte, seconds and the number of parameters."""
    command = [COMMAND, "train", str(text), "--minutes", str(minutes), "--seed", str(seed)]
    command += ["--name", "run", "--overwrite", "--json"]
    if size is not None:
        width, layers, heads = GRID[size]
        command += ["--model.width", width, "--model.layers", layers, "--model.heads", heads]
        command += ["--context", "128" if minutes < 2 else "256"]
    done = subprocess.run(
        command,
        env={**os.environ, "CLLM_HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    kept = ("val_bits_per_byte", "seconds_total", "num_parameters", "peak_rss_bytes")
    return {name: figures[name] for name in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="*", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if not options.texts:
        print("Give texts to plan for.")
        return
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as home:
        for text in options.texts:
            rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("planned", *GRID)}
            for seed in range(options.runs):
                for name in rows:
                    size = None if name == "planned" else name
                    rows[name].append(train(text, options.minutes, seed, home, size))
            bpb = {
                name: statistics.median(row["val_bits_per_byte"] for row in found)
                for name, found in rows.items()
            }
            best = min(bpb[name] for name in GRID)
            print(f"\n{text.name}, {options.minutes:g} minutes, median of {options.runs}")
            for name, found in rows.items():
                seconds = statistics.median(row["seconds_total"] for row in found)
                size_text = f"{found[0]['num_parameters']:,.0f}"
                print(f"  {name:8} {bpb[name]:.4f} bits/byte {seconds:6.1f} s {size_text:>12}")
            print(f"  planned over the best of the grid: {bpb['planned'] / best - 1:+.2%}")
            result[text.name] = {"bits_per_byte": bpb, "over_best": bpb["planned"] / best - 1}
    print(
        json.dumps(
            {
                "benchmark": "planner",
                "minutes": options.minutes,
                **result,
                "runs": options.runs,
                **surroundings(),
            }
        )
    )


if __name__ == "__main__":
    main()
