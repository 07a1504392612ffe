"""llama.cpp's side of `decoding.py`: its own library, called token by token.

`python -m peers.llama_cpp_loop FOLDER` where FOLDER holds f32.gguf, q8_0.gguf and q4_0.gguf.
Only the time inside `llama_decode` counts: choosing the token, and Python between the calls, are
left out in its favour.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cllm.jobs.bench_llama_cpp import MOST_TOKENS, LlamaCpp
from cllm.jobs.bench_turns import serve

FILES = {"float32": "f32.gguf", "int8": "q8_0.gguf", "int4": "q4_0.gguf"}


class Peer:
    """A model in three formats, each opened when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._opened = functools.cache(lambda kind: LlamaCpp(folder / FILES[kind]))

    def single(self, kind: str, threads: int, prompt: list[int], tokens: int) -> dict[str, Any]:
        """Write one text."""
        return self.streams(kind, threads, [prompt], tokens)

    def streams(
        self, kind: str, threads: int, prompts: list[list[int]], tokens: int
    ) -> dict[str, Any]:
        """Write texts at the same time, one batch a step."""
        model, length = self._opened(kind), len(prompts[0]) + tokens
        context = model.begin(length, len(prompts), threads)
        for stream, prompt in enumerate(prompts):
            if len(prompt) > 1:
                model.read(context, stream, prompt[:-1])
        now, seconds, first = [prompt[-1] for prompt in prompts], 0.0, []
        for position in range(len(prompts[0]) - 1, length - 1):
            step = [(token, position, stream, True) for stream, token in enumerate(now)]
            seconds += model.decode(context, step)
            now = [model.likeliest(context, stream) for stream in range(len(prompts))]
            first.append(now[0])
        return {"seconds": seconds, "ids": first}

    def prefill(self, kind: str, threads: int, prompt: list[int]) -> dict[str, Any]:
        """Read a prompt, with the logits after its last token."""
        model = self._opened(kind)
        return {"seconds": model.read(model.begin(len(prompt), 1, threads), 0, prompt)}

    def first(self, kind: str, threads: int, prompt: list[int]) -> dict[str, Any]:
        """Read a short prompt; the first token is there then."""
        model = self._opened(kind)
        return {"seconds": model.read(model.begin(256, 1, threads), 0, prompt)}

    def context(
        self, kind: str, threads: int, lengths: Sequence[int], tokens: int
    ) -> dict[str, Any]:
        """Seconds by the token after contexts of some lengths."""
        model = self._opened(kind)
        context = model.begin(max(lengths) + tokens, 1, threads)
        random, at, found = np.random.default_rng(0), 0, []
        for length in lengths:
            ids = random.integers(1, model.vocab_size, length).tolist()
            for begin in range(at, length, MOST_TOKENS):
                part = range(begin, min(begin + MOST_TOKENS, length))
                model.decode(context, [(ids[i], i, 0, i == part[-1]) for i in part])
            seconds = [model.decode(context, [(1, length + i, 0, True)]) for i in range(tokens)]
            found.append(sum(seconds) / tokens)
            model.cut(context, length)
            at = length
        return {"seconds_per_token": found}

    def token(self, prompt: list[int], tokens: int) -> dict[str, Any]:
        """The greedy tokens in float32, to be compared."""
        return {"ids": self.single("float32", 1, prompt, tokens)["ids"]}


if __name__ == "__main__":
    peer = Peer(Path(sys.argv[1]))
    names = ("single", "streams", "prefill", "first", "context", "token")
    serve({name: getattr(peer, name) for name in names})
