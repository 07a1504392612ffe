"""The weights before training."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import Parameter, random_for
from cllm.model.spec import ModelSpec
from cllm.model.weights import EMBEDDING_RMS, SHARED_PART, Weights

# See "Initialisation" in docs/log.md for the runs behind these.
_HEAD_GAIN = 1.5
_LOOKING_LAYERS = 2
_SLOWEST_TURN = 0.02


def initial_weights(spec: ModelSpec, seed: int, lexicon: Lexicon | None = None) -> Weights:
    """Draw every weight; the same seed gives the same weights on every machine.

    Matrices that read the residual stream are normal with deviation 0.02 at width 768, growing
    as 1/√width for narrower models; those that write to it are 0, so that each block begins as
    the identity. All embeddings share a part in one direction, and from it the heads of the
    first two blocks begin by looking 1, 2, 3 … tokens back. Gains are 1 but for those heads'.
    With mechanisms the plain weights are the same, as far as they are there.
    Source: this project.
    """
    weights = _plain_weights(spec.plain, seed)
    for mechanism in spec.mechanisms:
        random = random_for(mechanism.name, seed)
        own = mechanism.parameters(spec)
        for name, parameter in own.items():
            if parameter is not None and name not in weights:
                weights[name] = _drawn(parameter, random)
        mechanism.begin(weights, spec, lexicon)
    return {name: weights[name] for name in spec.parameters()}


def _drawn(parameter: Parameter, random: np.random.Generator) -> NDArray[np.float32]:
    values = np.full(parameter.shape, parameter.constant, np.float32)
    if parameter.deviation:
        values += random.standard_normal(parameter.shape, np.float32) * np.float32(
            parameter.deviation
        )
    return values


def _plain_weights(spec: ModelSpec, seed: int) -> Weights:
    random = np.random.Generator(np.random.Philox(key=[seed, 0]))
    weights = {name: _drawn(value, random) for name, value in spec.parameters().items()}
    shared = random.standard_normal(spec.width, np.float32)
    shared /= np.linalg.norm(shared)
    weights["embedding.weight"] = _embeddings(weights["embedding.weight"], shared)
    for layer in range(min(spec.layers, _LOOKING_LAYERS)):
        _look_back(weights, layer, spec, shared, random)
    return weights


def _embeddings(drawn: NDArray[np.float32], shared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of one length, each with the same part along `shared`."""
    width = drawn.shape[1]
    rows: NDArray[np.float32] = (
        drawn * np.float32(math.sqrt(width)) / np.linalg.norm(drawn, axis=1, keepdims=True)
    )
    rows *= np.float32(math.sqrt(1 - SHARED_PART**2))
    rows += np.float32(SHARED_PART * math.sqrt(width)) * shared
    rows *= np.float32(EMBEDDING_RMS)
    return rows


def _look_back(
    weights: Weights,
    layer: int,
    spec: ModelSpec,
    shared: NDArray[np.float32],
    random: np.random.Generator,
) -> None:
    """Let head h of a block attend to the token h + 1 places back.

    Read off the shared direction, every query is one vector and every key the same turned by
    the angles of that distance; rotary positions then make their product largest there. With
    grouped heads the distance belongs to the key head.
    """
    width, half = spec.head_width, spec.head_width // 2
    frequency = spec.rope_base ** (-np.arange(half) * 2.0 / width)
    turns = frequency > _SLOWEST_TURN
    scale = math.sqrt(width / max(turns.sum(), 1)) / (SHARED_PART * math.sqrt(spec.width))
    qkv = weights[f"blocks.{layer}.attention.qkv.weight"].reshape(-1, width, spec.width)
    group = spec.heads // spec.kv_heads
    for key_head in range(spec.kv_heads):
        phase = random.uniform(0.0, 2.0 * math.pi, half)
        ahead = phase + (key_head + 1) * frequency
        query = np.concatenate([turns * np.cos(phase), turns * np.sin(phase)])
        key = np.concatenate([turns * np.cos(ahead), turns * np.sin(ahead)])
        for head in range(key_head * group, (key_head + 1) * group):
            qkv[head] += (scale * np.outer(query, shared)).astype(np.float32)
        qkv[spec.heads + key_head] += (scale * np.outer(key, shared)).astype(np.float32)
    for name in ("q_norm", "k_norm") if spec.has_head_norm else ():
        weights[f"blocks.{layer}.attention.{name}.weight"][:] = _HEAD_GAIN
