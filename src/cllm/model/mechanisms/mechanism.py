"""What a mechanism is, and the places of the model where one can stand.

A mechanism is a frozen settings object that also knows its parameters and its arithmetic. It
takes part at a place by having that place's method (the protocols below); the model asks once,
when it is built. Torch is not imported here: a method gets tensors and uses what they offer.

Dimension letters: B batch, T query, S key, C width, H heads, K key-value heads, D head width,
V vocabulary. A method's `p` maps the mechanism's own tensors by short name: parameters and fixed
tables alike; those of a layer begin with its number (`0.weight`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from cllm.model.lexicon import Lexicon
from cllm.model.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor

    from cllm.model.reading import Reading
    from cllm.model.spec import ModelSpec
else:
    # Shapes are checked all the same; torch is loaded by whoever calls.
    Tensor, Reading, ModelSpec = Any, Any, Any

__all__ = [
    "AddsLoss",
    "AddsToInput",
    "BiasesScores",
    "ChangesProjection",
    "ChangesTable",
    "ChangesValues",
    "FiltersInput",
    "FinishesWeights",
    "GatesOutput",
    "MapsLogits",
    "Mechanism",
    "ModelSpec",
    "Parameter",
    "Reading",
    "ReordersVocabulary",
    "ReplacesHead",
    "Tensor",
    "Tensors",
    "TurnsHeads",
    "needs_of",
    "random_for",
]

Tensors = Mapping[str, Tensor]
Need = Literal["ranks", "roots"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A trained array: its shape, how it begins, and how it is updated.

    It begins as `constant` + `deviation` · normal unless the mechanism's `begin` sets it.
    `update` is adamw, muon (`rows` names the matrices stacked in it), or rows: row-wise Adagrad
    on the rows that a step has touched, outside of clipping. No step takes it below `lowest`.
    """

    shape: tuple[int, ...]
    constant: float = 0.0
    deviation: float = 0.0
    update: Literal["adamw", "muon", "rows"] = "adamw"
    decays: bool = False
    rows: tuple[int, ...] | None = None
    lowest: float | None = None


class Mechanism(BaseModel):
    """The settings that every mechanism has, and what it says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    placebo: bool = Field(
        False, description="The control arm: the same shape and cost, without the idea."
    )

    name: ClassVar[str]
    # One line each, shown by `cllm mechanisms`.
    title: ClassVar[str]
    cost: ClassVar[str]
    control: ClassVar[str]
    # folds: costs nothing in a finished model; refuses: opens in CLLM alone; training: acts
    # on the training alone.
    export: ClassVar[Literal["folds", "refuses", "training"]]
    # Others that can't be on at the same time, with the reason; the earlier in NAMES says so.
    excludes: ClassVar[Mapping[str, str]] = {}

    # These three may hang on the settings; where they don't, a class says so by a ClassVar.
    @property
    def needs(self) -> frozenset[Need]:
        """What of the lexicon it is made from."""
        return frozenset()

    @property
    def replaces(self) -> bool:
        """Whether part of the model is replaced, so that it does not begin as the plain model."""
        return False

    @property
    def replaces_scores(self) -> bool:
        """Whether its bias stands for attention's q · k."""
        return False

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled engine has it; any other is computed by torch."""
        return False

    def fitted(self, spec: ModelSpec, lexicon: Lexicon | None) -> Mechanism:
        """The same with every setting decided that depends on the model or its words.

        Raises: SettingsError.
        """
        del spec, lexicon
        return self

    def adapted(self, spec: ModelSpec) -> ModelSpec:
        """The model's numbers with this mechanism on."""
        return spec

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """Its parameters by full name; a plain name changes that one, None takes it away."""
        del spec
        return {}

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Its fixed tables by short name, made anew whenever the model is built."""
        del spec, lexicon
        return {}

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Change the first weights where `Parameter` can't say how they begin.

        `weights` are the plain model's with this mechanism's own added.
        """
        del weights, spec, lexicon

    @property
    def table_rate(self) -> float:
        """Peak learning rate of its parameters with `update` rows."""
        return 0.0

    def first_squares(
        self, spec: ModelSpec, texts: Iterable[NDArray[np.uint32]], readings: float
    ) -> dict[str, Float32[np.ndarray, " R"]]:
        """What the sums of squares of these parameters' rows begin with, by full name.

        In squared gradients of one token's loss: the larger, the less a row moves at first.
        `texts` are the training text's ids, piece by piece; it will be read `readings` times.
        """
        del spec, texts, readings
        return {}

    def step_factor(self, rate: float) -> float | None:
        """What weights are multiplied with at each step instead of 1 − rate · decay, or None."""
        del rate
        return None


def needs_of(mechanisms: Iterable[Mechanism]) -> frozenset[Need]:
    """What of the lexicon they are made from, together."""
    return frozenset(need for part in mechanisms for need in part.needs)


def random_for(name: str, seed: int = 0) -> np.random.Generator:
    """Random numbers of a mechanism's own; the same on every machine."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.random.Generator(np.random.Philox(key=[seed, int.from_bytes(digest)]))


@runtime_checkable
class ChangesTable(Protocol):
    """Makes the table of token embeddings, or changes it. Folds into it."""

    def table(self, table: Float[Tensor, "V C"] | None, p: Tensors) -> Float[Tensor, "V C"] | None:
        """The table to use; `table` is None where the plain one is taken away."""
        ...


@runtime_checkable
class AddsToInput(Protocol):
    """Adds to the embeddings of a text's tokens."""

    def add(self, reading: Reading, p: Tensors) -> Float[Tensor, "B T C"]:
        """What is added at each position."""
        ...


@runtime_checkable
class ChangesProjection(Protocol):
    """Changes the matrix that gives queries, keys and values. Folds into it."""

    def project(
        self, layer: int, qkv: Float[Tensor, "R C"], p: Tensors
    ) -> Float[Tensor, "(H+2*K)*D C"]:
        """The matrix to use: rows of queries, keys, values."""
        ...


@runtime_checkable
class FiltersInput(Protocol):
    """Changes what attention reads, after the norm."""

    def filter(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "B T C"]:
        """The filtered rows."""
        ...


@runtime_checkable
class TurnsHeads(Protocol):
    """Chooses the angles of rotary positions."""

    def frequencies(self, spec: ModelSpec) -> Float64[np.ndarray, " P"]:
        """The angle by which each pair of a head turns from one position to the next."""
        ...


@runtime_checkable
class BiasesScores(Protocol):
    """Adds to attention's scores (which are q · k / √D)."""

    def bias(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "#B #H #T S"]:
        """What is added for each key."""
        ...


@runtime_checkable
class ChangesValues(Protocol):
    """Changes the values before they are mixed."""

    def values(
        self, layer: int, v: Float[Tensor, "B K S D"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "B K S D"]:
        """The values of all positions so far."""
        ...


@runtime_checkable
class GatesOutput(Protocol):
    """Scales what each head gives."""

    def gate(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "#B #T #H"]:
        """The factor of each head; `h` is what attention has read."""
        ...


@runtime_checkable
class ReplacesHead(Protocol):
    """Computes the logits in another way than by the table."""

    def head(self, h: Float[Tensor, "B T C"], p: Tensors) -> Float[Tensor, "B T V"]:
        """Logits from the last norm's output."""
        ...


@runtime_checkable
class MapsLogits(Protocol):
    """Changes the logits."""

    def map_logits(self, logits: Float[Tensor, "B T V"], p: Tensors) -> Float[Tensor, "B T V"]:
        """The logits to use."""
        ...


@runtime_checkable
class ReordersVocabulary(Protocol):
    """Keeps the rows of the tables in another order than that of the ids. Folds."""

    def order(self, p: Tensors) -> Int[Tensor, " V"]:
        """The row of each id."""
        ...


@runtime_checkable
class AddsLoss(Protocol):
    """Adds to the loss in training; what is reported stays the plain cross-entropy."""

    def loss(
        self,
        logits: Float[Tensor, "N V"],
        targets: Int[Tensor, " N"],
        table: Float[Tensor, "V C"],
        progress: float,
        p: Tensors,
    ) -> Float[Tensor, ""]:
        """Summed over targets ≥ 0; `progress` is the share of the run that is done."""
        ...


@runtime_checkable
class FinishesWeights(Protocol):
    """Rewrites the finished model's weights."""

    def finish(self, spec: ModelSpec, weights: Weights) -> tuple[ModelSpec, Weights]:
        """Shape and weights to save: a model without this mechanism."""
        ...
