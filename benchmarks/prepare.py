"""Preparing plain text, reading to shards, against the tokenizers library's own encoding.

The peer reads the same file, encodes it with `encode_batch` on all cores and writes the ids:
no cleaning, duplicates, split, index or checksums, and its tokenizer is trained already.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cllm.config import TextSettings
from cllm.text.prepare import prepare
from cllm.text.tokenizers import Tokenizer
from python_text import take
from surroundings import surroundings

GOALS_MB_PER_S = {"bpe": 6.0, "characters": 60.0, "bytes": 60.0}


def rates(work: Callable[[Path], object], num_bytes: int, runs: int) -> list[float]:
    """MB/s of `runs` runs, each in a fresh folder, after one that is thrown away."""
    found = []
    for _ in range(runs + 1):
        folder = Path(tempfile.mkdtemp())
        start = time.perf_counter()
        work(folder / "out")
        found.append(num_bytes / 1e6 / (time.perf_counter() - start))
        shutil.rmtree(folder)
    return found[1:]


def library(path: Path, tokenizer: Tokenizer) -> Callable[[Path], object]:
    """What the peer does."""

    def work(out: Path) -> None:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        # Batches of about 64 KiB a text, so that all cores have work.
        step = max(1, len(lines) * 65_536 // max(len(text), 1))
        parts = ["".join(lines[at : at + step]) for at in range(0, len(lines), step)]
        encoded = tokenizer.backend.encode_batch(parts, add_special_tokens=False)
        ids = np.concatenate([np.array(part.ids, np.uint16) for part in encoded])
        out.write_bytes(ids.tobytes())

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, help="plain text to prepare instead of Python's own")
    parser.add_argument("--megabytes", type=float, default=24.0, help="of Python's own text")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["bpe", "characters", "bytes"])
    options = parser.parse_args()
    shelf = Path(tempfile.mkdtemp())
    path = options.file or shelf / "python.txt"
    if options.file is None:
        path.write_text(take(int(options.megabytes * 1e6)), encoding="utf-8")
    num_bytes = path.stat().st_size
    found: dict[str, list[float]] = {}
    tokenizer: Tokenizer | None = None
    for kind in options.kinds:
        settings = TextSettings(tokenizer=kind)

        def work(
            out: Path, settings: TextSettings = settings, given: Tokenizer | None = None
        ) -> object:
            return prepare([path], settings, out, tokenizer=given)

        found[kind] = rates(work, num_bytes, options.runs)
        if kind == "bpe":
            tokenizer = prepare([path], settings, shelf / "trained").tokenizer
            plain = Tokenizer(tokenizer.kind, tokenizer.backend)
            found["bpe, tokenizer given"] = rates(
                lambda out, given=plain, run=work: run(out, given=given), num_bytes, options.runs
            )
            found["tokenizers library"] = rates(library(path, plain), num_bytes, options.runs)
    shutil.rmtree(shelf)
    result: dict[str, object] = {"benchmark": "prepare", "bytes": num_bytes, "runs": options.runs}
    for name, values in found.items():
        median, spread = statistics.median(values), max(values) - min(values)
        goal = GOALS_MB_PER_S.get(name)
        note = f" (goal {goal:.0f})" if goal else ""
        print(f"{name}: {median:.1f} MB/s, spread {spread:.1f}{note}")
        key = name.replace(", ", "_").replace(" ", "_")
        result |= {f"{key}_mb_per_s": round(median, 2), f"{key}_spread": round(spread, 2)}
    result |= {
        "vocab_size": None if tokenizer is None else tokenizer.vocab_size,
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
