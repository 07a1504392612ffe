"""Training a byte-level BPE of 4,096 entries on 3 MB, against the tokenizers library's trainer."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from cllm.text.tokenizers import train_tokenizer
from cllm.text.tokenizers.pieces import PATTERNS
from python_text import take
from surroundings import surroundings
from timing import seconds

GOAL_S = 1.5


def library(text: str, vocab_size: int) -> Backend:
    """The same pattern and alphabet, trained by the peer on all cores, a line at a time."""
    backend = Backend(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERNS["byte-level"]), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(text.splitlines(keepends=True), trainer)
    return backend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, help="plain text to use instead of Python's own")
    parser.add_argument("--megabytes", type=float, default=3.0)
    parser.add_argument("--entries", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    num_bytes = int(options.megabytes * 1e6)
    if options.file is None:
        text = take(num_bytes)
    else:
        text = options.file.read_text(encoding="utf-8", errors="ignore")
    text = text.encode()[:num_bytes].decode("utf-8", "ignore")
    found = {
        "cllm": seconds(
            lambda: train_tokenizer(
                "bpe",
                lambda: iter([text]),
                vocab_size=options.entries,
                num_characters=len(text),
            ),
            options.runs,
        ),
        "library": seconds(lambda: library(text, options.entries), options.runs),
    }
    result: dict[str, object] = {"benchmark": "tokenizer_training", "bytes": len(text.encode())}
    for name, values in found.items():
        median, spread = statistics.median(values), max(values) - min(values)
        print(f"{name}: {median:.2f} s, spread {spread:.2f} (goal {GOAL_S})")
        result |= {f"{name}_s": round(median, 3), f"{name}_spread_s": round(spread, 3)}
    result |= {
        "entries": options.entries,
        "runs": options.runs,
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
