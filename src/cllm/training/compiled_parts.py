"""Which mechanisms the compiled engine has, and how it is told of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from cllm.model.mechanisms.dampening import Dampening
from cllm.model.mechanisms.einstein import Einstein
from cllm.model.mechanisms.gamma import Gamma
from cllm.model.mechanisms.golden import Golden
from cllm.model.mechanisms.lattice_transform import LatticeTransform
from cllm.model.mechanisms.mechanism import Mechanism
from cllm.model.mechanisms.ngram import Ngram
from cllm.model.mechanisms.reduction import Reduction
from cllm.model.mechanisms.schumann import Schumann
from cllm.model.spec import ModelSpec
from cllm.native import NgramPart, Parts


def uncompiled(mechanisms: Sequence[Mechanism]) -> list[str]:
    """Names of those that only torch can compute."""
    return [part.name for part in mechanisms if not _is_compiled(part)]


def _is_compiled(part: Mechanism) -> bool:
    if isinstance(part, Gamma):
        return part.kind == "gate"
    if isinstance(part, Reduction):
        return part.kind == "svd"
    # Golden is a number of the shape, einstein one of the optimiser's; two act at the end.
    return isinstance(part, Ngram | Dampening | Schumann | Golden | Einstein | LatticeTransform)


def parts_of(spec: ModelSpec) -> Parts:
    """What the engine is told of a model's mechanisms, all of which it has."""
    assert not uncompiled(spec.mechanisms), "the caller has chosen torch for these"
    found = {part.name: part for part in spec.mechanisms}
    ngram, dampening = found.get("ngram"), found.get("dampening")
    gamma, schumann = found.get("gamma"), found.get("schumann")
    is_static = isinstance(schumann, Schumann) and schumann.kind == "static"
    return Parts(
        ngram=_ngram_part(ngram) if isinstance(ngram, Ngram) else None,
        lags=dampening.reads if isinstance(dampening, Dampening) else (),
        has_gamma=gamma is not None,
        schumann=schumann.kind if isinstance(schumann, Schumann) else None,
        decays=schumann.ladder(spec.heads) if is_static and isinstance(schumann, Schumann) else (),
        eos_id=spec.eos_id,
        gamma_noise=_noise_of(gamma, spec),
        forget_noise=_noise_of(schumann, spec),
    )


def _noise_of(part: Mechanism | None, spec: ModelSpec) -> Float32[np.ndarray, "N C"] | None:
    return part.fixed(spec, None).get("noise") if part else None


def _ngram_part(ngram: Ngram) -> NgramPart:
    return NgramPart(ngram.orders, ngram.heads, ngram.moduli, ngram.row_width, ngram.multipliers)
