"""transformers on a Hugging Face folder; a child of `cllm bench`.

`python -m cllm.jobs.bench_transformers FOLDER FORMAT`, float32 or bfloat16. Writing is a plain
loop over its cache of keys and values, of which only the passes count (`generate` takes longer);
training a plain loop with torch's fused AdamW, in bfloat16 by autocast over float32 weights.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from cllm.jobs.bench_turns import peak_bytes, serve


class Transformers:
    """One folder, opened in a format."""

    def __init__(self, folder: Path, format_: str) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._library: Any = importlib.import_module("transformers")
        self._library.logging.set_verbosity_error()
        self._library.logging.disable_progress_bar()
        self._folder, self._format = folder, getattr(self._torch, format_)
        self._model: Any = self._open(self._format).eval()
        self._learner: Any = None
        self._optimiser: Any = None

    def _open(self, dtype: Any) -> Any:
        return self._library.AutoModelForCausalLM.from_pretrained(self._folder, dtype=dtype)

    def prefill(self, threads: int, prompt: list[int], seconds: float) -> dict[str, float]:
        """Read a prompt again and again, with the logits after its last token alone."""
        torch = self._torch
        torch.set_num_threads(threads)
        ids = torch.tensor([prompt])
        done, taken = 0, 0.0
        while not done or taken < seconds:
            start = perf_counter()
            with torch.inference_mode():
                self._model(ids, use_cache=True, logits_to_keep=1)
            taken += perf_counter() - start
            done += len(prompt)
        return {"done": done, "taken": taken}

    def write(
        self, threads: int, prompt: list[int], length: int, seconds: float
    ) -> dict[str, float]:
        """Write texts of `length` tokens with their prompt, one after the other."""
        torch = self._torch
        torch.set_num_threads(threads)
        done, taken = 0, 0.0
        with torch.inference_mode():
            while not done or taken < seconds:
                past = self._library.DynamicCache(config=self._model.config)
                if len(prompt) > 1:
                    self._model(torch.tensor([prompt[:-1]]), past_key_values=past, use_cache=True)
                fresh = torch.tensor([prompt[-1:]])
                for _ in range(len(prompt) - 1, length - 1):
                    start = perf_counter()
                    logits = self._model(fresh, past_key_values=past, use_cache=True).logits
                    taken += perf_counter() - start
                    fresh = logits[:, -1].argmax(-1, keepdim=True)
                    done += 1
                    if taken >= seconds:
                        break
        return {"done": done, "taken": taken}

    def train(
        self, threads: int, num_windows: int, length: int, seconds: float
    ) -> dict[str, float]:
        """Steps of a training over random windows."""
        torch = self._torch
        torch.set_num_threads(threads)
        if self._learner is None:
            self._learner = self._open(torch.float32).train()
            self._optimiser = torch.optim.AdamW(self._learner.parameters(), lr=1e-4, fused=True)
        vocab_size = self._learner.config.vocab_size
        ids = torch.randint(vocab_size, (num_windows, length + 1))
        is_half = self._format != torch.float32
        done, start = 0, perf_counter()
        while not done or perf_counter() - start < seconds:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
                logits = self._learner(ids[:, :-1], use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(
                    logits.float().flatten(0, 1), ids[:, 1:].flatten()
                )
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._learner.parameters(), 1.0)
            self._optimiser.step()
            done += num_windows * length
        return {"done": done, "taken": perf_counter() - start}


if __name__ == "__main__":
    opened = Transformers(Path(sys.argv[1]), sys.argv[2])
    serve(
        {
            "prefill": opened.prefill,
            "decode": opened.write,
            "training": opened.train,
            "memory": lambda: {"bytes": peak_bytes()},
        }
    )
