"""Where each parameter stands in the one row of numbers that the engine works on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cllm.errors import SettingsError
from cllm.native.parts import Parts


@runtime_checkable
class Shape(Protocol):
    """The numbers that decide a plain model (`cllm.model.ModelSpec` has them)."""

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    @property
    def width(self) -> int:
        """C."""
        ...

    @property
    def layers(self) -> int:
        """L."""
        ...

    @property
    def heads(self) -> int:
        """H."""
        ...

    @property
    def kv_heads(self) -> int:
        """K."""
        ...

    @property
    def head_width(self) -> int:
        """D."""
        ...

    @property
    def mlp_width(self) -> int:
        """M."""
        ...

    @property
    def context(self) -> int:
        """Most tokens seen at once."""
        ...

    @property
    def rope_base(self) -> float:
        """Base of the rotary frequencies."""
        ...

    @property
    def norm_epsilon(self) -> float:
        """Added to the mean square in RMSNorm."""
        ...

    @property
    def tied(self) -> bool:
        """Whether input and output embeddings are one table."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """One parameter: the numbers from `start` on, `shape` of them in rows."""

    name: str
    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Where the next one begins."""
        return self.start + math.prod(self.shape)


def parameter_places(shape: Shape, parts: Parts | None = None) -> list[Place]:
    """Every parameter in the engine's order (`Layout` in source/shape.h).

    Names and shapes are those of `cllm.model.Transformer(spec).named_parameters()`; those of
    mechanisms follow. The table of the input memory (`TABLE`) stands apart, in an array of its own.
    """
    C, D, M = shape.width, shape.head_width, shape.mlp_width
    q_width, kv_width = shape.heads * D, shape.kv_heads * D
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (shape.vocab_size, C)}
    for layer in range(shape.layers):
        block = f"blocks.{layer}"
        shapes |= {
            f"{block}.attention_norm.weight": (C,),
            f"{block}.attention.qkv.weight": (q_width + 2 * kv_width, C),
            f"{block}.attention.q_norm.weight": (D,),
            f"{block}.attention.k_norm.weight": (D,),
            f"{block}.attention.out.weight": (C, q_width),
            f"{block}.feed_forward_norm.weight": (C,),
            f"{block}.feed_forward.gate_up.weight": (2 * M, C),
            f"{block}.feed_forward.down.weight": (C, M),
        }
    shapes["norm.weight"] = (C,)
    if not shape.tied:
        shapes["head.weight"] = (shape.vocab_size, C)
    if parts:
        shapes |= _mechanism_shapes(shape, parts)
    places, start = [], 0
    for name, size in shapes.items():
        places.append(Place(name, start, size))
        start = places[-1].stop
    return places


def named_views(
    shape: Shape, array: NDArray[np.float32], parts: Parts | None = None
) -> dict[str, NDArray[np.float32]]:
    """Each parameter's part of one row of all, by name."""
    return {
        place.name: array[place.start : place.stop].reshape(place.shape)
        for place in parameter_places(shape, parts)
    }


def _mechanism_shapes(shape: Shape, parts: Parts) -> dict[str, tuple[int, ...]]:
    C, H, K = shape.width, shape.heads, shape.kv_heads
    shapes: dict[str, tuple[int, ...]] = {}
    if parts.ngram:
        shapes["mechanisms.ngram.up"] = (C, parts.ngram.row_width)
    for layer in range(shape.layers):
        if parts.lags:
            shapes[f"mechanisms.dampening.{layer}.taps"] = (len(parts.lags), C)
        if parts.has_gamma:
            shapes[f"mechanisms.gamma.{layer}.weight"] = (H, C)
        if parts.schumann == "forget":
            shapes[f"mechanisms.schumann.{layer}.gate"] = (K, C)
            shapes[f"mechanisms.schumann.{layer}.offset"] = (K,)
        if parts.schumann:
            shapes[f"mechanisms.schumann.{layer}.strength"] = (H,)
    return shapes


def check_shape(shape: Shape) -> None:
    """Raises: SettingsError when the parts of a model don't fit each other."""
    for name in ("vocab_size", "width", "layers", "heads", "kv_heads", "mlp_width", "context"):
        if getattr(shape, name) < 1:
            raise SettingsError("must be at least 1", where=f"model.{name.replace('_', '-')}")
    if shape.head_width < 2 or shape.head_width % 2:
        message = f"the head width {shape.head_width} is odd, but rotary positions turn pairs"
        raise SettingsError(message, where="model.head-width")
    if shape.heads % shape.kv_heads:
        message = f"{shape.kv_heads} key-value heads do not divide the {shape.heads} query heads"
        raise SettingsError(message, where="model.kv-heads")
