"""Folding: what acts on weights alone is worked into them, and then costs nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    ChangesProjection,
    ChangesTable,
    FinishesWeights,
    Mechanism,
    ReordersVocabulary,
    ReplacesHead,
)
from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights

# Places where a mechanism's arithmetic on weights is worked in; others are numbers of the shape.
_WORKS_IN = (ChangesTable, ChangesProjection, ReordersVocabulary, ReplacesHead)


def kept(spec: ModelSpec) -> tuple[Mechanism, ...]:
    """The mechanisms that stay in a finished model, which then opens in CLLM alone."""
    return tuple(part for part in spec.mechanisms if part.export == "refuses")


def fold(spec: ModelSpec, weights: Weights, lexicon: Lexicon | None) -> tuple[ModelSpec, Weights]:
    """The same model with everything folded that can be; what is left is `kept`.

    Torch is loaded where there is something to fold.
    """
    if len(kept(spec)) == len(spec.mechanisms):
        return spec, weights
    folded = replace(spec, mechanisms=kept(spec))
    if any(part.export == "folds" and isinstance(part, _WORKS_IN) for part in spec.mechanisms):
        weights = _materialised(spec, weights, lexicon)
    for part in spec.mechanisms:
        if isinstance(part, FinishesWeights):
            folded, weights = part.finish(folded, weights)
    return folded, {name: weights[name] for name in folded.parameters()}


def _materialised(spec: ModelSpec, weights: Weights, lexicon: Lexicon | None) -> Weights:
    import torch

    from cllm.model.transformer import Transformer

    model = Transformer(spec, lexicon)
    model.load_weights(weights)
    parts, plain = model.mechanisms, dict(weights)
    with torch.no_grad():
        table = parts.table(None if model.embedding is None else model.embedding.weight)
        order = parts.order()
        plain["embedding.weight"] = np.array((table if order is None else table[order]).numpy())
        if order is not None and "head.weight" in plain:
            plain["head.weight"] = plain["head.weight"][order.numpy()]
        for part in spec.mechanisms:
            if isinstance(part, ReplacesHead) and part.export == "folds":
                # It is linear, so what it makes of each unit vector is its matrix.
                unit = torch.eye(spec.width)[None]
                plain["head.weight"] = np.array(part.head(unit, parts.tensors(part))[0].t().numpy())
        for layer in range(spec.layers):
            name = f"blocks.{layer}.attention.qkv.weight"
            plain[name] = np.array(parts.project(layer, model.get_parameter(name)).numpy())
    return plain
