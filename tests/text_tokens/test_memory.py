"""Preparing takes the same memory however much text there is."""

import json
import pydoc_data.topics
import random
import subprocess
import sys
from pathlib import Path

import pytest

# Prints the peak resident bytes of this process and, added up, of its workers.
SCRIPT = """
import json, sys, threading, time
from pathlib import Path
import psutil
from cllm.config import TextSettings
from cllm.text import pipeline
from cllm.text.prepare import prepare

pipeline._PATIENCE_S = 0.0
peaks, here = {}, psutil.Process()

def watch():
    while True:
        for process in [here, *here.children()]:
            try:
                rows = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak = next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmHWM"))
                peaks[process.pid] = max(peaks.get(process.pid, 0), peak)
            except (OSError, StopIteration):
                pass
        time.sleep(0.02)

threading.Thread(target=watch, daemon=True).start()
settings = TextSettings(tokenizer=sys.argv[3], workers=2)
corpus = prepare([sys.argv[1]], settings, Path(sys.argv[2]))
time.sleep(0.05)
print(json.dumps({"peak_bytes": sum(peaks.values()), "processes": len(peaks),
                  "num_bytes": corpus.train.num_bytes + corpus.val.num_bytes}))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def write_corpus(folder: Path, num_bytes: int) -> None:
    """Files of about 6 MB each, of the lines of Python's documentation in random order."""
    folder.mkdir()
    source = random.Random(7)
    lines = [line for text in pydoc_data.topics.topics.values() for line in text.splitlines()]
    for number in range(max(1, num_bytes // 6_000_000)):
        rows = source.choices(lines, k=6_000_000 // 38)
        rows = [f"{row} {source.randrange(10**9)}" for row in rows]
        (folder / f"{number}.txt").write_text("\n".join(rows), encoding="utf-8")


def peak_bytes(tmp_path: Path, num_bytes: int, kind: str) -> dict[str, int]:
    text = tmp_path / f"text-{num_bytes}"
    if not text.exists():
        write_corpus(text, num_bytes)
    out = tmp_path / f"out-{num_bytes}-{kind}"
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(text), str(out), kind],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def check(tmp_path: Path, small_bytes: int, large_bytes: int, kind: str) -> None:
    small = peak_bytes(tmp_path, small_bytes, kind)
    large = peak_bytes(tmp_path, large_bytes, kind)
    assert large["processes"] == 3
    assert large["num_bytes"] > 3 * small["num_bytes"]
    assert large["peak_bytes"] < 1e9
    assert large["peak_bytes"] - small["peak_bytes"] < 120e6


def test_memory_is_flat(tmp_path):
    check(tmp_path, 6_000_000, 24_000_000, "bpe")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_memory_is_flat_for_hundreds_of_megabytes(tmp_path, kind):
    check(tmp_path, 60_000_000, 360_000_000, kind)
