"""ONNX Runtime on an exported graph; a child of `cllm bench`.

`python -m cllm.jobs.bench_onnxruntime FOLDER`. Its cache goes out of one run and into the next,
as the names of the graph's inputs and outputs foresee; only the runs count.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.jobs.bench_turns import peak_bytes, serve

_FILE = "model.onnx"
Cache = dict[str, NDArray[Any]]


class OnnxRuntime:
    """One graph; a session for each number of threads, the last one asked for being kept."""

    def __init__(self, folder: Path) -> None:
        self._library: Any = importlib.import_module("onnxruntime")
        self._path = folder / _FILE
        self._session = functools.lru_cache(maxsize=1)(self._make_session)

    def _make_session(self, threads: int) -> Any:
        settings = self._library.SessionOptions()
        settings.intra_op_num_threads = threads
        # Threads that spin between the turns would be in the others' way.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1")
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        settings.log_severity_level = 3
        return self._library.InferenceSession(
            str(self._path), settings, providers=["CPUExecutionProvider"]
        )

    def _run(
        self, session: Any, ids: Sequence[int], past: Cache
    ) -> tuple[float, NDArray[np.float32], Cache]:
        """Seconds, the logits, and the cache with these tokens in it."""
        start = next(iter(past.values())).shape[2]
        feeds = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, start + len(ids)), np.int64),
            "position_ids": np.arange(start, start + len(ids))[None],
        }
        began = perf_counter()
        logits, *fresh = session.run(None, feeds | past)
        return perf_counter() - began, logits[0], dict(zip(past, fresh, strict=True))

    def _empty(self, session: Any) -> Cache:
        return {
            entry.name: np.zeros((1, entry.shape[1], 0, entry.shape[3]), np.float32)
            for entry in session.get_inputs()
            if entry.name.startswith("past_key_values.")
        }

    def prefill(self, threads: int, prompt: list[int], seconds: float) -> dict[str, float]:
        """Read a prompt again and again."""
        session = self._session(threads)
        empty, done, taken = self._empty(session), 0, 0.0
        while not done or taken < seconds:
            taken += self._run(session, prompt, empty)[0]
            done += len(prompt)
        return {"done": done, "taken": taken}

    def write(
        self, threads: int, prompt: list[int], length: int, seconds: float
    ) -> dict[str, float]:
        """Write texts of `length` tokens with their prompt, one after the other."""
        session = self._session(threads)
        done, taken = 0, 0.0
        while not done or taken < seconds:
            past, token = self._empty(session), prompt[-1]
            if len(prompt) > 1:
                _, _, past = self._run(session, prompt[:-1], past)
            for _ in range(len(prompt) - 1, length - 1):
                spent, logits, past = self._run(session, [token], past)
                token, taken, done = int(logits[-1].argmax()), taken + spent, done + 1
                if taken >= seconds:
                    break
        return {"done": done, "taken": taken}


if __name__ == "__main__":
    opened = OnnxRuntime(Path(sys.argv[1]))
    serve(
        {
            "prefill": opened.prefill,
            "decode": opened.write,
            "memory": lambda: {"bytes": peak_bytes()},
        }
    )
