"""transformers' side of `decoding.py`: `generate` with its cache, in float32.

`python -m peers.transformers_loop FOLDER` where FOLDER holds the model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from cllm.jobs.bench_turns import serve


class Transformers:
    """One model."""

    def __init__(self, folder: Path) -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32
        ).eval()

    @torch.inference_mode()
    def single(self, threads: int, prompt: list[int], tokens: int) -> dict[str, Any]:
        """Write one text; the prompt's time is in it, too."""
        torch.set_num_threads(threads)
        ids = torch.tensor([prompt])
        start = perf_counter()
        written = self._model.generate(
            ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
        )
        return {"seconds": perf_counter() - start, "ids": written[0, len(prompt) :].tolist()}


if __name__ == "__main__":
    serve({"single": Transformers(Path(sys.argv[1])).single})
