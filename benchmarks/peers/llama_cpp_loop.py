"""llama.cpp's side of `decoding.py`: its own library, called token by token.

`python -m peers.llama_cpp_loop FOLDER` where FOLDER holds f32.gguf, q8_0.gguf and q4_0.gguf.
Only the time inside `llama_decode` counts: choosing the token, and Python between the calls, are
left out in its favour.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import llama_cpp
import numpy as np

from turns import serve

FILES = {"float32": "f32.gguf", "int8": "q8_0.gguf", "int4": "q4_0.gguf"}


@llama_cpp.llama_log_callback
def _silent(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    """It tells more than a screen can hold."""


class LlamaCpp:
    """Contexts over one model, made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._batch = llama_cpp.llama_batch_init(512, 0, 1)
        self._model = functools.cache(self._load)
        self._vocab_size = functools.cache(self._count)
        self._context = functools.cache(self._make_context)

    def _load(self, kind: str) -> Any:
        path = str(self._folder / FILES[kind]).encode()
        model = llama_cpp.llama_model_load_from_file(path, llama_cpp.llama_model_default_params())
        assert model, path
        return model

    def _count(self, kind: str) -> int:
        size: int = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self._model(kind))
        )
        return size

    def _make_context(self, kind: str, length: int, num_streams: int) -> Any:
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = length * num_streams
        settings.n_batch = settings.n_ubatch = max(512, num_streams)
        settings.n_seq_max = num_streams
        settings.no_perf = True
        context = llama_cpp.llama_init_from_model(self._model(kind), settings)
        assert context, "no memory for a context"
        return context

    def _begin(self, kind: str, length: int, num_streams: int, threads: int) -> Any:
        context = self._context(kind, length, num_streams)
        llama_cpp.llama_set_n_threads(context, threads, threads)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        return context

    def _decode(self, context: Any, tokens: Sequence[tuple[int, int, int, bool]]) -> float:
        """Seconds to compute (token, position, stream, whether its logits are wanted)."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, (token, position, stream, is_wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, stream
            batch.logits[i] = is_wanted
        start = perf_counter()
        code = llama_cpp.llama_decode(context, batch)
        # Its work may be finished by another thread.
        llama_cpp.llama_synchronize(context)
        seconds = perf_counter() - start
        assert code == 0, f"llama_decode: {code}"
        return seconds

    def _likeliest(self, kind: str, context: Any, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(context, row)
        return int(np.ctypeslib.as_array(logits, (self._vocab_size(kind),)).argmax())

    def _read(self, context: Any, stream: int, prompt: Sequence[int]) -> float:
        last = len(prompt) - 1
        return self._decode(
            context, [(token, i, stream, i == last) for i, token in enumerate(prompt)]
        )

    def single(self, kind: str, threads: int, prompt: list[int], tokens: int) -> dict[str, Any]:
        """Write one text."""
        return self.streams(kind, threads, [prompt], tokens)

    def streams(
        self, kind: str, threads: int, prompts: list[list[int]], tokens: int
    ) -> dict[str, Any]:
        """Write texts at the same time, one batch a step."""
        length = len(prompts[0]) + tokens
        context = self._begin(kind, length, len(prompts), threads)
        for stream, prompt in enumerate(prompts):
            if len(prompt) > 1:
                self._read(context, stream, prompt[:-1])
        now, seconds, first = [prompt[-1] for prompt in prompts], 0.0, []
        for position in range(len(prompts[0]) - 1, length - 1):
            step = [(token, position, stream, True) for stream, token in enumerate(now)]
            seconds += self._decode(context, step)
            now = [self._likeliest(kind, context, stream) for stream in range(len(prompts))]
            first.append(now[0])
        return {"seconds": seconds, "ids": first}

    def prefill(self, kind: str, threads: int, prompt: list[int]) -> dict[str, Any]:
        """Read a prompt, with the logits after its last token."""
        context = self._begin(kind, len(prompt), 1, threads)
        return {"seconds": self._read(context, 0, prompt)}

    def first(self, kind: str, threads: int, prompt: list[int]) -> dict[str, Any]:
        """Read a short prompt; the first token is there then."""
        return {"seconds": self._read(self._begin(kind, 256, 1, threads), 0, prompt)}

    def context(
        self, kind: str, threads: int, lengths: Sequence[int], tokens: int
    ) -> dict[str, Any]:
        """Seconds by the token after contexts of some lengths."""
        context = self._begin(kind, max(lengths) + tokens, 1, threads)
        random, at, found = np.random.default_rng(0), 0, []
        for length in lengths:
            ids = random.integers(1, self._vocab_size(kind), length).tolist()
            for begin in range(at, length, 512):
                part = range(begin, min(begin + 512, length))
                self._decode(context, [(ids[i], i, 0, i == part[-1]) for i in part])
            seconds = [self._decode(context, [(1, length + i, 0, True)]) for i in range(tokens)]
            found.append(sum(seconds) / tokens)
            llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(context), 0, length, -1)
            at = length
        return {"seconds_per_token": found}

    def token(self, prompt: list[int], tokens: int) -> dict[str, Any]:
        """The greedy tokens in float32, to be compared."""
        return {"ids": self.single("float32", 1, prompt, tokens)["ids"]}


if __name__ == "__main__":
    peer = LlamaCpp(Path(sys.argv[1]))
    names = ("single", "streams", "prefill", "first", "context", "token")
    serve({name: getattr(peer, name) for name in names})
