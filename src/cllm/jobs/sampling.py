"""Samples of a model in training: the same prompt and seed each time, so that they compare."""

from __future__ import annotations

import numpy as np

from cllm.config import GenerateSettings
from cllm.errors import TrainingError
from cllm.infer.completion import Completion
from cllm.infer.decoder import Decoder
from cllm.infer.passage import prompt_tokens
from cllm.infer.slots import Slots
from cllm.native.stream import Feed
from cllm.text.corpus import Corpus
from cllm.text.tokenizers import Tokenizer

_LONGEST_PROMPT = 32


class Sampler:
    """Lets a model continue a prompt; not at all with 0 tokens."""

    def __init__(self, tokenizer: Tokenizer, prompt: str, max_tokens: int) -> None:
        self.prompt = prompt
        self._tokenizer = tokenizer
        self._settings = GenerateSettings(max_tokens=max_tokens) if max_tokens else None

    def __call__(self, decoder: Decoder) -> str:
        """The continuation that this model writes.

        Raises: TrainingError when what it computes is not finite.
        """
        if self._settings is None:
            return ""
        ids = prompt_tokens(self._tokenizer, self.prompt)
        logits = decoder.feed([Feed(0, ids[-decoder.context :])])
        if not np.isfinite(logits).all():
            raise TrainingError("what the model computes is not finite any more")
        return Completion(Slots(decoder), self._tokenizer, ids, self._settings).run().text


def choose_prompt(corpus: Corpus) -> str:
    """The beginning of the training text: its first line, or its first words."""
    ids = corpus.tokens("train").read(0, min(64, corpus.train.num_tokens))
    text = corpus.tokenizer.decode(ids[ids != corpus.tokenizer.eos_id]).lstrip()
    line, cut, _ = text[:_LONGEST_PROMPT].partition("\n")
    if cut and len(line) >= 3:
        return line + "\n"
    return line.rsplit(" ", 1)[0] if " " in line.strip() else line
