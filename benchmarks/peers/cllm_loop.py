"""Our side of `decoding.py`: the compiled decoder over one model, told what to do by `bench_turns`.

`python -m peers.cllm_loop FOLDER` where FOLDER holds the model.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numba
import numpy as np

from cllm.infer.decoder import Decoder
from cllm.jobs.bench_models import num_bytes, rounded
from cllm.jobs.bench_turns import serve
from cllm.jobs.opening import compiled_decoder, decoding_threads
from cllm.model.files import load_float_weights
from cllm.native import load_library
from cllm.native.stream import Choice, Feed, Stream
from cllm.workspace.home import home_folder

MOST_STREAMS = 32


class Ours:
    """Decoders over one model, made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._spec, self._weights = load_float_weights(folder)
        self._library = load_library(home_folder() / "native")
        self.threads = decoding_threads(self._spec)
        self._formatted = functools.cache(self._make_formatted)
        self._decoder = functools.cache(self._make_decoder)

    def _make_formatted(self, kind: str) -> Any:
        return self._weights if kind == "float32" else rounded(self._weights, kind)

    def _make_decoder(self, kind: str, context: int, num_slots: int, cache: str) -> Decoder:
        return compiled_decoder(
            self._library,
            replace(self._spec, context=context),
            self._formatted(kind),
            threads=self.threads,
            num_slots=num_slots,
            cache=cache,
        )

    def single(self, kind: str, prompt: list[int], tokens: int) -> dict[str, Any]:
        """Write one text; everything after the prompt but its last token is timed."""
        return self.streams(kind, [prompt], tokens)

    def streams(self, kind: str, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """Write texts at the same time."""
        num_slots = 1 if len(prompts) == 1 else MOST_STREAMS
        decoder = self._decoder(kind, len(prompts[0]) + tokens, num_slots, "float32")
        for slot, prompt in enumerate(prompts):
            decoder.truncate(slot, 0)
            decoder.feed([Feed(slot, prompt[:-1])])
        texts = [stream(decoder, slot, p[-1:], tokens) for slot, p in enumerate(prompts)]
        start = perf_counter()
        write_all(decoder, texts)
        return {"seconds": perf_counter() - start, "ids": texts[0].ids, "threads": self.threads}

    def prefill(self, kind: str, prompt: list[int]) -> dict[str, Any]:
        """Read a prompt, with the logits after its last token."""
        decoder = self._decoder(kind, len(prompt), 1, "float32")
        decoder.truncate(0, 0)
        start = perf_counter()
        decoder.feed([Feed(0, prompt)])
        return {"seconds": perf_counter() - start, "threads": self.threads}

    def first(self, kind: str, prompt: list[int]) -> dict[str, Any]:
        """Read a prompt and choose the first token."""
        decoder = self._decoder(kind, 256, 1, "float32")
        decoder.truncate(0, 0)
        text = stream(decoder, 0, list(prompt), 1)
        start = perf_counter()
        decoder.write([text], max_seconds=0.0)
        return {"seconds": perf_counter() - start, "threads": self.threads}

    def context(self, kind: str, lengths: Sequence[int], tokens: int, cache: str) -> dict[str, Any]:
        """Seconds by the token after contexts of some lengths, and the bytes of keys and values."""
        decoder = self._decoder(kind, max(lengths) + tokens + 1, 1, cache)
        random = np.random.default_rng(0)
        found, spec = [], self._spec
        for length in lengths:
            decoder.truncate(0, 0)
            decoder.feed([Feed(0, random.integers(1, spec.vocab_size, length).tolist())])
            text = stream(decoder, 0, [1], tokens)
            start = perf_counter()
            write_all(decoder, [text])
            found.append((perf_counter() - start) / tokens)
        item = {"float32": 4, "bfloat16": 2, "int8": 1}[cache]
        by_token = 2 * spec.layers * spec.kv_heads * spec.head_width * item
        return {
            "seconds_per_token": found,
            "kv_bytes": [by_token * (length + tokens // 2) for length in lengths],
            "threads": self.threads,
        }

    def floor(self, kind: str, num_read: int | None = None) -> dict[str, Any]:
        """Seconds to read as many bytes as the weights have, with the same threads."""
        size = num_read or num_bytes(self._formatted(kind))
        return {"seconds": read_seconds(size, self.threads), "bytes": size}

    def token(self, prompt: list[int], tokens: int) -> dict[str, Any]:
        """The greedy tokens in float32, to be compared."""
        return {"ids": self.single("float32", prompt, tokens)["ids"]}


def stream(decoder: Decoder, slot: int, pending: list[int], tokens: int) -> Stream:
    """A text of the likeliest tokens, without an end."""
    return Stream(
        slot=slot,
        pending=pending,
        max_tokens=tokens,
        choice=Choice(temperature=0.0),
        uniforms=np.zeros(tokens),
        seen=np.zeros(decoder.vocab_size, np.int32),
        written=np.zeros(decoder.vocab_size, np.int32),
    )


def write_all(decoder: Decoder, texts: Sequence[Stream]) -> None:
    """Until all have their tokens."""
    while going := [text for text in texts if text.finish is None]:
        decoder.write(going, max_seconds=60.0)


@numba.njit(nogil=True, fastmath=True, cache=True)
def _read(numbers: np.ndarray) -> float:
    total = np.float32(0)
    for i in range(numbers.size):
        total += numbers[i]
    return total


def read_seconds(num_read: int, threads: int, seconds: float = 0.2) -> float:
    """The median time in which threads together read an array that is read again and again."""
    array = np.ones(max(num_read // 4, threads), np.float32)
    parts = np.array_split(array, threads)
    _read(parts[0][:1])
    taken: list[list[float]] = [[] for _ in parts]
    together = threading.Barrier(threads)

    def work(number: int) -> None:
        together.wait()
        begin = perf_counter()
        while perf_counter() - begin < seconds:
            start = perf_counter()
            _read(parts[number])
            taken[number].append(perf_counter() - start)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(float(np.median(times)) for times in taken)


if __name__ == "__main__":
    ours = Ours(Path(sys.argv[1]))
    names = ("single", "streams", "prefill", "first", "context", "floor", "token")
    serve({name: getattr(ours, name) for name in names})
