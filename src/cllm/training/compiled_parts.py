"""Which mechanisms the compiled engine has, and how it is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from cllm.errors import NativeError
from cllm.model.mechanisms.mechanism import Mechanism
from cllm.model.spec import ModelSpec
from cllm.native import NgramPart, Parts

M = TypeVar("M", bound=Mechanism)


def uncompiled(mechanisms: Sequence[Mechanism]) -> list[str]:
    """Names of those that only torch can compute."""
    return [part.name for part in mechanisms if not part.is_compiled]


def require_compiled(mechanisms: Sequence[Mechanism]) -> None:
    """Raises: NativeError naming those that only torch can compute."""
    others = uncompiled(mechanisms)
    if others:
        raise NativeError(
            f"the compiled engine does not have {' and '.join(others)}",
            where="train.engine",
            hint="Leave the setting out.",
        )


def require_head_norm(spec: ModelSpec) -> None:
    """Raises: NativeError for a Llama, whose queries and keys are not normalised."""
    if not spec.has_head_norm:
        raise NativeError(
            "the compiled engine trains no model without norms of queries and keys",
            where="train.engine",
            hint="Leave the setting out.",
        )


def parts_of(spec: ModelSpec) -> Parts:
    """What the engine is told of a model's mechanisms, all of which it has."""
    assert not uncompiled(spec.mechanisms), "the caller has chosen torch for these"
    if not spec.mechanisms:
        return Parts(eos_id=spec.eos_id)
    # A plain model's run does without them and what they import.
    from cllm.model.mechanisms.dampening import Dampening
    from cllm.model.mechanisms.gamma import Gamma
    from cllm.model.mechanisms.ngram import Ngram
    from cllm.model.mechanisms.schumann import Schumann

    ngram, dampening = _found(spec, Ngram), _found(spec, Dampening)
    gamma, schumann = _found(spec, Gamma), _found(spec, Schumann)
    return Parts(
        ngram=NgramPart(ngram.orders, ngram.heads, ngram.moduli, ngram.row_width, ngram.multipliers)
        if ngram
        else None,
        lags=dampening.reads if dampening else (),
        has_gamma=gamma is not None,
        schumann=schumann.kind if schumann else None,
        decays=schumann.ladder(spec.heads) if schumann and schumann.kind == "static" else (),
        eos_id=spec.eos_id,
        gamma_noise=_noise_of(gamma, spec),
        forget_noise=_noise_of(schumann, spec),
    )


def _found(spec: ModelSpec, kind: type[M]) -> M | None:
    return next((part for part in spec.mechanisms if isinstance(part, kind)), None)


def _noise_of(part: Mechanism | None, spec: ModelSpec) -> Float32[np.ndarray, "N C"] | None:
    return part.fixed(spec, None).get("noise") if part else None
