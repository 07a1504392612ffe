"""`dampening`: a causal filter over what attention reads, a few tokens long."""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np
from jaxtyping import Float, Float64
from pydantic import Field, field_validator

from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Reading,
    Tensor,
    Tensors,
    random_for,
)

_FARTHEST = 16


@final
class Dampening(Mechanism):
    """Each channel mixes its last few values before attention reads it.

        h_t ← h_t + Σ_k w_k ⊙ h_{t−k},   k in `lags`

    h is the norm's output; w = 0 at the start, and both signs are allowed, so a channel learns to
    smooth or to sharpen. No tap reaches into another document.

    Differs from the first definition: no gate (taps at 0 begin as the plain model by themselves),
    no tap on the position itself (the next matrix holds it) and no exponential pole.
    `attention_spectrum` is the diagnostic of an attention map.

    Shapes: taps [len(lags), C] a layer. Cost: len(lags)·C multiplications a token and layer, a
    state of max(lags) rows (all rows so far in torch's cache). Placebo: as many lags, from 1 to 16.

    Source: So 2021, arXiv:2109.08668 (Primer); Allen-Zhu 2025 (Canon layers).
    Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "dampening"
    title: ClassVar = "a causal filter, channel by channel, over what attention reads"
    cost: ClassVar = "3·C multiplications a token and layer"
    control: ClassVar = "as many taps at random places, up to 16 back"
    export: ClassVar = "refuses"
    is_compiled: ClassVar = True
    excludes: ClassVar = {
        "lattice_transform": "the filter works channel by channel, and a turned stream has"
        " other channels"
    }

    lags: tuple[int, ...] = Field((1, 2, 3), description="How far back each tap reads.")

    @field_validator("lags")
    @classmethod
    def _check_lags(cls, lags: tuple[int, ...]) -> tuple[int, ...]:
        if not lags or len(set(lags)) < len(lags) or min(lags) < 1 or max(lags) > _FARTHEST:
            raise ValueError(f"these are not different places from 1 to {_FARTHEST} back")
        return lags

    @property
    def reads(self) -> tuple[int, ...]:
        """The lags in use."""
        if not self.placebo:
            return self.lags
        drawn = random_for("dampening.placebo").permutation(_FARTHEST)[: len(self.lags)]
        return tuple(sorted(int(lag) + 1 for lag in drawn))

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The taps."""
        shape = (len(self.lags), spec.width)
        return {
            f"mechanisms.dampening.{layer}.taps": Parameter(shape) for layer in range(spec.layers)
        }

    def filter(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "B T C"]:
        """The filtered rows."""
        taps = p[f"{layer}.taps"]
        rows = reading.remember(f"dampening.{layer}", h)
        for tap, lag in enumerate(self.reads):
            h = h + taps[tap] * reading.rows_back(rows, lag)
        return h


def attention_spectrum(weights: Float64[np.ndarray, "T T"]) -> Float64[np.ndarray, " F"]:
    """The power of an attention map at each frequency over the distance, from 0 to one half.

    The map [query, key] is averaged over queries that see as far as half the window, as a
    function of the distance 0 … T/2 − 1; power is the squared size of its Fourier transform over
    that at frequency 0. A head that looks at one distance has a flat spectrum, one that
    averages over all a spectrum that falls at once.
    """
    T = len(weights)
    reach = max(T // 2, 1)
    queries = np.arange(reach - 1, T)
    by_distance = np.stack([weights[queries, queries - back] for back in range(reach)]).mean(1)
    power: Float64[np.ndarray, " F"] = np.abs(np.fft.rfft(by_distance)) ** 2
    return power / max(float(power[0]), 1e-300)
