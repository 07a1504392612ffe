"""`ngram`: a memory of what follows two or three tokens, in tables of prime size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, UInt64
from numpy.typing import NDArray
from pydantic import Field, field_validator

from cllm.errors import SettingsError
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Reading,
    Tensor,
    Tensors,
    random_for,
)
from cllm.numbers.primes import next_prime

_MOST_BITS = 63


@final
class Ngram(Mechanism):
    """Rows of a table that the last tokens point to are added to the embedding.

        z_n = Σ_{k<n} x_{t−k} · V^k                     (exact; n in `orders`)
        e_t += Up · Σ_{n,h} M_{n,h}[z_n mod P_{n,h}]

    The tables all have different primes P. Two n-grams meet in every head h only if ∏P divides
    z − z′ (Chinese remainder theorem); never, when ∏P ≥ Vⁿ. What lies before the document counts
    as its end mark. The tables begin at 0, so the model begins as the plain one; a step touches
    few of their rows, and only those are updated (row-wise Adagrad).

    Differs from the first definition: the gate g is left out, since g ⊙ Up is a matrix again. And
    rows that the text meets seldom are held back (`first_squares`): where a text was read ten
    times, the tables learned its places by heart and made the model worse than the plain one.

    Shapes: table [ΣP, W], up [C, W]. Cost per token: a row of W read from each table, C·W
    multiplications for the projection. Placebo: tables of 2^k rows, reached by multiplying with
    a random odd number.

    Source: Svenstrup 2017, arXiv:1709.03933 (hash embeddings); DeepSeek-AI 2026 (Engram).
    Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "ngram"
    title: ClassVar = "a memory of what follows two or three tokens, in tables of prime size"
    cost: ClassVar = "C·W multiplications and a row of each table a token"
    control: ClassVar = "sizes that are powers of two, reached by a random hash"
    export: ClassVar = "refuses"
    is_compiled: ClassVar = True

    orders: tuple[int, ...] = Field((2, 3), description="Lengths n of the n-grams.")
    heads: int = Field(1, ge=1, le=16, description="Tables for each length.")
    rows: int = Field(131_072, ge=2, le=1 << 27, description="Rows of each table, about.")
    row_width: int = Field(64, ge=1, description="Width W of a row.")
    rate: float = Field(0.01, gt=0.0, description="Learning rate of the tables, at its peak.")
    prior: float = Field(
        4000.0, ge=0.0, description="Squared gradients that each row's sum begins with."
    )
    occurrences: float = Field(
        30.0,
        ge=0.0,
        description="Rows met less often than this, for each further reading of the text, are"
        " held back.",
    )

    @field_validator("orders")
    @classmethod
    def _check_orders(cls, orders: tuple[int, ...]) -> tuple[int, ...]:
        if not orders or min(orders) < 2 or len(set(orders)) < len(orders):
            raise ValueError("these are not different lengths from 2 on")
        return orders

    def fitted(self, spec: ModelSpec, lexicon: Lexicon | None) -> Mechanism:
        """Checked against the vocabulary. Raises: SettingsError."""
        del lexicon
        longest = int(_MOST_BITS / max(math.log2(spec.vocab_size), 1.0))
        if max(self.orders) > longest:
            raise SettingsError(
                f"{max(self.orders)} tokens of {spec.vocab_size:,} kinds are no number below"
                f" 2^{_MOST_BITS}",
                where="ngram.orders",
                hint=f"Choose lengths up to {longest}, or a smaller vocabulary.",
            )
        return self

    @property
    def table_rate(self) -> float:
        """Peak learning rate of the tables."""
        return self.rate

    @property
    def moduli(self) -> tuple[int, ...]:
        """Rows of each table: all heads of the first length, then of the next."""
        count = len(self.orders) * self.heads
        if self.placebo:
            return (1 << max(1, round(math.log2(self.rows))),) * count
        found = [next_prime(self.rows - 1)]
        while len(found) < count:
            found.append(next_prime(found[-1]))
        return tuple(found)

    @property
    def multipliers(self) -> tuple[int, ...]:
        """What z is multiplied with, modulo 2^64, before the remainder is taken."""
        moduli = self.moduli
        if not self.placebo:
            return (1,) * len(moduli)
        drawn = random_for("ngram.placebo").integers(0, 1 << 63, len(moduli))
        return tuple(2 * int(number) + 1 for number in drawn)

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The tables, one after the other, and the projection."""
        return {
            "mechanisms.ngram.table": Parameter((sum(self.moduli), self.row_width), update="rows"),
            "mechanisms.ngram.up": Parameter(
                (spec.width, self.row_width), deviation=self.row_width**-0.5, decays=True
            ),
        }

    def first_squares(
        self, spec: ModelSpec, texts: Iterable[NDArray[np.uint32]], readings: float
    ) -> dict[str, Float32[np.ndarray, " R"]]:
        """Prior · (1 + (occurrences · further readings / times a row is met)²).

        A row that stands for two or three places of a text, read again and again, would learn
        those places by heart, and the model would learn to trust it.
        """
        met = np.maximum(self.row_counts(spec, texts), 1)
        doubt = self.occurrences * max(readings - 1.0, 0.0) / met
        squares = (self.prior * (1.0 + doubt**2)).astype(np.float32)
        return {"mechanisms.ngram.table": squares}

    def row_counts(
        self, spec: ModelSpec, texts: Iterable[NDArray[np.uint32]]
    ) -> Int64[np.ndarray, " R"]:
        """How often each row is met in a text that comes piece by piece."""
        counts = [np.zeros(modulus, np.int64) for modulus in self.moduli]
        orders = np.repeat(self.orders, self.heads).tolist()
        for ids in texts:
            numbers = self._numbers(ids, spec)
            for count, order, modulus, multiplier in zip(
                counts, orders, self.moduli, self.multipliers, strict=True
            ):
                rows = numbers[order] * np.uint64(multiplier) % np.uint64(modulus)
                np.add.at(count, rows.astype(np.int64), 1)
        return np.concatenate(counts)

    def _numbers(
        self, ids: NDArray[np.uint32], spec: ModelSpec
    ) -> dict[int, UInt64[np.ndarray, " N"]]:
        """Z of each order at each position."""
        z, known = np.zeros(len(ids), np.uint64), np.ones(len(ids), bool)
        found = {}
        for lag in range(max(self.orders)):
            if lag:
                # Once an end mark lies between, all before it counts as one.
                known[lag:] &= ids[:-lag] != spec.eos_id
                known[:lag] = False
            back = np.full(len(ids), spec.eos_id, np.uint64)
            back[lag:] = ids[: len(ids) - lag]
            token = np.where(known, back, np.uint64(spec.eos_id)).astype(np.uint64)
            z = z + token * np.uint64(spec.vocab_size**lag)
            found[lag + 1] = z
        return found

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Powers of V, and for each table its length n, modulus, multiplier and first row."""
        del lexicon
        powers = [spec.vocab_size**k for k in range(max(self.orders))]
        starts = np.concatenate([[0], np.cumsum(self.moduli)[:-1]]).astype(np.int64)
        return {
            "powers": np.array(powers, np.int64),
            "moduli": np.array(self.moduli, np.int64),
            # Two's complement: products wrap modulo 2^64 all the same.
            "multipliers": np.array(self.multipliers, np.uint64).view(np.int64),
            "starts": starts,
        }

    def add(self, reading: Reading, p: Tensors) -> Float[Tensor, "B T C"]:
        """Up times the sum of the rows."""
        import torch.nn.functional as F

        rows = self.rows_of(reading, p)
        # A sparse gradient: nothing is as large as the tables but the tables.
        found = F.embedding(rows, p["table"], sparse=True).sum(-2)
        added: Tensor = found @ p["up"].t()
        return added

    def rows_of(self, reading: Reading, p: Tensors) -> Int[Tensor, "B T N"]:
        """The row of each table that stands for each position."""
        import torch

        sums, z = {}, torch.zeros_like(reading.ids)
        for lag in range(max(self.orders)):
            z = z + reading.ids_back(lag) * p["powers"][lag]
            sums[lag + 1] = z
        numbers = torch.stack([sums[n] for n in self.orders for _ in range(self.heads)], -1)
        mixed = numbers * p["multipliers"]
        # The remainder of an unsigned 64-bit number: torch has none, so in two halves.
        high, low = (mixed >> 32) & 0xFFFFFFFF, mixed & 0xFFFFFFFF
        moduli = p["moduli"]
        shift = (1 << 32) % moduli
        return ((high % moduli) * shift + low % moduli) % moduli + p["starts"]
