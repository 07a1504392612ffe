"""llama.cpp on a GGUF file, its own library called token by token; a child of `cllm bench`.

`python -m cllm.jobs.bench_llama_cpp FILE`. Only the time inside `llama_decode` counts: choosing
the token, and Python between the calls, are left out in its favour.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cllm.export.llama_cpp_settings import model_settings
from cllm.jobs.bench_turns import peak_bytes, serve

# Tokens of one pass at most.
MOST_TOKENS = 512


class LlamaCpp:
    """One file; contexts are made when they are first needed."""

    def __init__(self, path: Path) -> None:
        self._library: Any = importlib.import_module("llama_cpp")
        # It tells more than a screen can hold. The library keeps no reference of its own.
        self._silent = self._library.llama_log_callback(lambda *_: None)
        self._library.llama_log_set(self._silent, ctypes.c_void_p(0))
        self._library.llama_backend_init()
        settings = model_settings(self._library)
        self._model = self._library.llama_model_load_from_file(str(path).encode(), settings)
        if not self._model:
            sys.exit(f"llama.cpp does not open {path.name}")
        vocabulary = self._library.llama_model_get_vocab(self._model)
        self.vocab_size: int = self._library.llama_vocab_n_tokens(vocabulary)
        self._batch = self._library.llama_batch_init(MOST_TOKENS, 0, 1)
        self._context = functools.cache(self._make_context)

    def _make_context(self, length: int, num_streams: int) -> Any:
        settings = self._library.llama_context_default_params()
        settings.n_ctx = length * num_streams
        settings.n_batch = settings.n_ubatch = MOST_TOKENS
        settings.n_seq_max = num_streams
        settings.no_perf = True
        context = self._library.llama_init_from_model(self._model, settings)
        if not context:
            sys.exit("no memory for a context")
        return context

    def begin(self, length: int, num_streams: int, threads: int) -> Any:
        """An empty context for so many tokens of so many texts."""
        context = self._context(length, num_streams)
        self._library.llama_set_n_threads(context, threads, threads)
        self.clear(context)
        return context

    def clear(self, context: Any) -> None:
        """Forget all that was read."""
        self._library.llama_memory_clear(self._library.llama_get_memory(context), False)

    def cut(self, context: Any, length: int) -> None:
        """Forget what the first text read beyond `length` tokens."""
        memory = self._library.llama_get_memory(context)
        self._library.llama_memory_seq_rm(memory, 0, length, -1)

    def decode(self, context: Any, tokens: Sequence[tuple[int, int, int, bool]]) -> float:
        """Seconds to compute (token, position, text, whether its logits are wanted)."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, (token, position, text, is_wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, text
            batch.logits[i] = is_wanted
        start = perf_counter()
        code = self._library.llama_decode(context, batch)
        # Its work may be finished by another thread.
        self._library.llama_synchronize(context)
        seconds = perf_counter() - start
        if code != 0:
            sys.exit(f"llama_decode: {code}")
        return seconds

    def read(self, context: Any, text: int, prompt: Sequence[int]) -> float:
        """Seconds to read a prompt, with the logits after its last token."""
        last = len(prompt) - 1
        return self.decode(context, [(token, i, text, i == last) for i, token in enumerate(prompt)])

    def likeliest(self, context: Any, row: int) -> int:
        """The token with the greatest of the logits of a row."""
        logits = self._library.llama_get_logits_ith(context, row)
        return int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax())

    def prefill(self, threads: int, prompt: list[int], seconds: float) -> dict[str, float]:
        """Read a prompt again and again."""
        context = self.begin(len(prompt), 1, threads)
        done, taken = 0, 0.0
        while not done or taken < seconds:
            self.clear(context)
            taken += self.read(context, 0, prompt)
            done += len(prompt)
        return {"done": done, "taken": taken}

    def write(
        self, threads: int, prompt: list[int], length: int, seconds: float
    ) -> dict[str, float]:
        """Write texts of `length` tokens with their prompt, one after the other."""
        context = self.begin(length, 1, threads)
        done, taken = 0, 0.0
        while not done or taken < seconds:
            self.clear(context)
            if len(prompt) > 1:
                self.read(context, 0, prompt[:-1])
            token = prompt[-1]
            for position in range(len(prompt) - 1, length - 1):
                taken += self.decode(context, [(token, position, 0, True)])
                token = self.likeliest(context, 0)
                done += 1
                if taken >= seconds:
                    break
        return {"done": done, "taken": taken}


if __name__ == "__main__":
    opened = LlamaCpp(Path(sys.argv[1]))
    serve(
        {
            "prefill": opened.prefill,
            "decode": opened.write,
            "memory": lambda: {"bytes": peak_bytes()},
        }
    )
