"""How much memory a process takes that writes with a model; measured in a process of its own."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import psutil

from cllm.jobs.bench_models import Format, Subject, folder_subject, size_subject
from cllm.jobs.bench_timing import stream
from cllm.jobs.bench_turns import peak_bytes
from cllm.jobs.opening import open_decoder
from cllm.native.stream import Feed


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Resident bytes of a process, Python and all: after it has written, and at most."""

    resident: int
    peak: int


def process_memory(
    subject: Subject, format_: Format, home: Path, threads: int
) -> ProcessMemory | None:
    """What a process takes that reads a prompt and writes with the model.

    None where the process does not come to its end, for want of memory perhaps. About 0.5 s.
    """
    folder = "" if subject.folder is None else str(subject.folder)
    command = [sys.executable, "-m", __name__, subject.name, format_, folder]
    command += [str(home), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return ProcessMemory(**json.loads(done.stdout)) if done.returncode == 0 else None


def main(name: str, format_: Format, folder: str, home: str, threads: str) -> None:
    """Write with the model, then print what this process holds."""
    subject = folder_subject(name, Path(folder)) if folder else size_subject(name)
    weights = subject.weights(format_)
    lexicon = subject.lexicon()
    decoder, _ = open_decoder(
        subject.spec, weights, Path(home), lexicon=lexicon, threads=int(threads)
    )
    del weights
    prompt = np.random.default_rng(0).integers(0, decoder.vocab_size, decoder.context)
    decoder.feed([Feed(0, prompt.tolist())])
    decoder.truncate(0, 0)
    text = stream(decoder, 0, [1], max(1, decoder.context - 1))
    while text.finish is None:
        decoder.write([text], max_seconds=60.0)
    gc.collect()
    resident = psutil.Process().memory_info().rss
    print(json.dumps({"resident": resident, "peak": peak_bytes()}))


if __name__ == "__main__":
    name, format_, *rest = sys.argv[1:]
    main(name, cast("Format", format_), *rest)
