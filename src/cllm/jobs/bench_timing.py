"""Timed work for `cllm bench`: what is timed of a decoder, and rounds in which all take turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np

from cllm.infer.decoder import Decoder
from cllm.jobs.bench_turns import ProgramError
from cllm.native.stream import Choice, Feed, Stream

# Texts that are written at the same time.
BATCHES = (8, 32)
ROUNDS = 5
SHORT_PROMPT = 8
# Windows of the context's length in a step of training.
TRAINED_WINDOWS = 4
_MOST_TOKENS = 4096

# Works for about so many seconds; gives what was done (tokens) and the seconds it took.
Work = Callable[[float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Rates:
    """One figure of each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """What stands in tables."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half of the way from the least to the greatest, as a share of the median."""
        return (max(self.values) - min(self.values)) / 2 / self.median if self.median else 0.0

    def to_json(self) -> dict[str, float | int]:
        """Median, least and greatest, and the number of rounds."""
        return {
            "median": self.median,
            "least": min(self.values),
            "greatest": max(self.values),
            "rounds": len(self.values),
        }


def in_rounds(
    works: Mapping[str, Work],
    seconds: float,
    rounds: int = ROUNDS,
    on_round: Callable[[float], None] | None = None,
) -> dict[str, Rates]:
    """The rate of each work in each round, after one that warms up; a pause hits all alike.

    Works whose name ends in "first token" give seconds by the token, others tokens by the second.
    One whose program ends is left out. `on_round` is told the share that is done.
    """
    piece = seconds / len(works) / (rounds + 1)
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name in list(found):
            try:
                done, taken = works[name](piece)
            except ProgramError:
                del found[name]
                continue
            if turn:
                is_time = name.endswith("first token")
                found[name].append(taken / done if is_time else done / taken)
        if on_round is not None:
            on_round((turn + 1) / (rounds + 1))
    return {name: Rates(tuple(values)) for name, values in found.items()}


def writing_works(decoder: Decoder) -> dict[str, Work]:
    """What is timed of a decoder: prefill of its context, first token, one text, some at once."""
    works: dict[str, Work] = {
        "prefill": partial(_prefill, decoder),
        "first token": partial(_first_token, decoder),
        "decode": partial(_decode, decoder, 1),
    }
    for size in BATCHES:
        works[f"batch {size}"] = partial(_decode, decoder, size)
    return works


def stream(decoder: Decoder, slot: int, pending: list[int], max_tokens: int) -> Stream:
    """A text that takes the likeliest token each time, and never ends before `max_tokens`."""
    return Stream(
        slot=slot,
        pending=pending,
        max_tokens=max_tokens,
        choice=Choice(temperature=0.0),
        uniforms=np.zeros(max_tokens),
        seen=np.zeros(decoder.vocab_size, np.int32),
        written=np.zeros(decoder.vocab_size, np.int32),
    )


def _prompt(decoder: Decoder, length: int) -> list[int]:
    ids: list[int] = np.random.default_rng(length).integers(0, decoder.vocab_size, length).tolist()
    return ids


def _prefill(decoder: Decoder, seconds: float) -> tuple[float, float]:
    feed = [Feed(0, _prompt(decoder, decoder.context))]
    num_tokens, start = 0, perf_counter()
    while not num_tokens or perf_counter() - start < seconds:
        decoder.truncate(0, 0)
        decoder.feed(feed)
        num_tokens += decoder.context
    return float(num_tokens), perf_counter() - start


def _first_token(decoder: Decoder, seconds: float) -> tuple[float, float]:
    prompt = _prompt(decoder, min(SHORT_PROMPT, decoder.context))
    taken: list[float] = []
    while sum(taken) < seconds or not taken:
        decoder.truncate(0, 0)
        text = stream(decoder, 0, list(prompt), 1)
        start = perf_counter()
        decoder.write([text], max_seconds=0.0)
        taken.append(perf_counter() - start)
    # So short a time is spoilt by any interruption: of many the median counts.
    return 1.0, statistics.median(taken)


def _decode(decoder: Decoder, size: int, seconds: float) -> tuple[float, float]:
    """Texts of at most the context, begun anew until the time is over; prompts are not timed."""
    prompt = _prompt(decoder, min(SHORT_PROMPT, decoder.context))
    room = min(_MOST_TOKENS, max(1, decoder.context - len(prompt)))
    num_tokens, taken = 0, 0.0
    while not num_tokens or taken < seconds:
        for slot in range(size):
            decoder.truncate(slot, 0)
        if prompt[:-1]:
            decoder.feed([Feed(slot, prompt[:-1]) for slot in range(size)])
        texts = [stream(decoder, slot, prompt[-1:], room) for slot in range(size)]
        start = perf_counter()
        decoder.write(texts, max_seconds=max(seconds - taken, 0.0))
        taken += perf_counter() - start
        num_tokens += sum(len(text.ids) for text in texts)
    return float(num_tokens), taken
