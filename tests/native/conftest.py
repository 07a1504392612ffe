"""The compiled engine, and torch's float64 answer to the same question."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cllm.errors import NativeError
from cllm.model.spec import ModelSpec
from cllm.model.transformer import Transformer
from cllm.native import TABLE, Engine, Library, Parts, load_library, named_views, parameter_places


@pytest.fixture(scope="session")
def native_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="session")
def library(native_cache: Path) -> Library:
    try:
        return load_library(native_cache)
    except NativeError as error:
        pytest.skip(error.message)


def draw_parameters(spec: ModelSpec, seed: int = 0, parts: Parts | None = None) -> np.ndarray:
    """Weights of the size that initialising gives, gains around 1, and mechanisms at work."""
    rng = np.random.default_rng(seed)
    drawn = []
    for place in parameter_places(spec, parts):
        values = rng.normal(0, 1, place.shape)
        if place.name.startswith("mechanisms."):
            values *= 0.3
        elif len(place.shape) == 1:
            values = 1 + 0.3 * values
        else:
            values *= spec.width**-0.5
        drawn.append(values.ravel())
    return np.concatenate(drawn).astype(np.float32)


def draw_engine(
    library: Library,
    spec: ModelSpec,
    parts: Parts,
    threads: int = 1,
    *,
    is_bfloat16: bool = False,
) -> Engine:
    """An engine whose mechanisms are at work."""
    engine = Engine(library, spec, parts, threads=threads, is_bfloat16=is_bfloat16)
    engine.parameters[:] = draw_parameters(spec, parts=parts)
    engine.table[:] = np.random.default_rng(1).normal(0, 0.5, engine.table.shape)
    return engine


def draw_batch(spec: ModelSpec, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and targets [rows, length], some of them −1; the first is not."""
    rng = np.random.default_rng(rows * 1000 + length)
    ids = rng.integers(0, spec.vocab_size, (rows, length)).astype(np.int32)
    targets = rng.integers(-1, spec.vocab_size, (rows, length)).astype(np.int32)
    targets[0, 0] = 0
    return ids, targets


def torch_answer(
    spec: ModelSpec,
    parameters: np.ndarray,
    ids: np.ndarray,
    targets: np.ndarray,
    dtype: torch.dtype = torch.float64,
    parts: Parts | None = None,
) -> SimpleNamespace:
    """`nats` summed, their `gradient` divided by the number of targets, and `logits`."""
    model = Transformer(spec).to(dtype)
    named = dict(model.named_parameters())
    views = named_views(spec, parameters, parts)
    assert views.keys() == named.keys()
    for name, values in views.items():
        named[name].data.copy_(torch.from_numpy(values))
    logits = model(torch.from_numpy(ids).long()).double()
    nats = differentiated(logits, torch.from_numpy(targets).long())
    gradient = torch.cat([named[name].grad.double().flatten() for name in views])
    return SimpleNamespace(nats=nats, gradient=gradient.numpy(), logits=logits.detach().numpy())


def differentiated(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Summed nats over targets ≥ 0; the backward pass of their mean has run."""
    nats = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
    )
    (nats / int((targets >= 0).sum())).backward()
    return nats.item()


def distances_back(ids: torch.Tensor, lag: int, eos_id: int | None) -> torch.Tensor:
    """Whether each position may read `lag` back [B, T]: inside its window and its document."""
    allowed = torch.zeros(ids.shape, dtype=torch.bool)
    for row in range(ids.shape[0]):
        for t in range(lag, ids.shape[1]):
            allowed[row, t] = eos_id not in ids[row, t - lag : t].tolist()
    return allowed


def noise_at(ids: torch.Tensor, noise: np.ndarray, eos_id: int | None) -> torch.Tensor:
    """The row of each position's place in its window and document [B, T, C]."""
    rows = []
    for sequence in ids.tolist():
        begun = [0] + [t + 1 for t, token in enumerate(sequence) if token == eos_id]
        for t in range(len(sequence)):
            place = t - max(start for start in begun if start <= t)
            rows.append(noise[place % len(noise)])
    return torch.tensor(np.array(rows), dtype=torch.float64).reshape(*ids.shape, -1)


def recalled(ids: torch.Tensor, spec: ModelSpec, parts: Parts, table: torch.Tensor) -> torch.Tensor:
    """The sum of the chosen rows [B, T, W], in whole numbers of any length."""
    ngram = parts.ngram
    rows = []
    for sequence in ids.tolist():
        for t in range(len(sequence)):
            first, chosen = 0, []
            for i, modulus in enumerate(ngram.moduli):
                tokens, ended = [], False
                for k in range(ngram.orders[i // ngram.heads]):
                    ended = ended or t < k or (k > 0 and sequence[t - k] == parts.eos_id)
                    tokens.append(parts.eos_id if ended else sequence[t - k])
                z = sum(token * spec.vocab_size**k for k, token in enumerate(tokens))
                z = z * (ngram.multipliers[i] if ngram.multipliers else 1) % 2**64
                chosen.append(first + z % modulus)
                first += modulus
            rows.append(chosen)
    return table[torch.tensor(rows)].sum(1).reshape(*ids.shape, -1)


def unit(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()


def turned(x: torch.Tensor, base: float) -> torch.Tensor:
    """Rotary positions of heads [B, T, N, D]."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * base ** (
        -torch.arange(half, dtype=x.dtype) / half
    )
    pairs = torch.complex(x[..., :half], x[..., half:]) * torch.polar(
        torch.ones_like(angles), angles
    ).unsqueeze(1)
    return torch.cat([pairs.real, pairs.imag], -1)


def attended(
    h: torch.Tensor,
    layer: int,
    spec: ModelSpec,
    parts: Parts,
    p: dict[str, torch.Tensor],
    ids: torch.Tensor,
) -> torch.Tensor:
    """Heads' outputs [B, T, H D] of what attention reads."""
    B, T, _ = h.shape
    H, K, D = spec.heads, spec.kv_heads, spec.head_width
    block, schumann = f"blocks.{layer}.attention", f"mechanisms.schumann.{layer}"
    q, k, v = (h @ p[f"{block}.qkv.weight"].T).split([H * D, K * D, K * D], -1)
    q = unit(q.view(B, T, H, D), spec.norm_epsilon) * p[f"{block}.q_norm.weight"]
    k = unit(k.view(B, T, K, D), spec.norm_epsilon) * p[f"{block}.k_norm.weight"]
    q, k = turned(q, spec.rope_base), turned(k, spec.rope_base)
    k, v = (x.repeat_interleave(H // K, 2) for x in (k, v.view(B, T, K, D)))
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / D**0.5
    place = torch.arange(T, dtype=h.dtype)
    distance = place[:, None] - place[None, :]
    if parts.schumann == "static":
        slope = p[f"{schumann}.strength"] * torch.tensor(parts.decays, dtype=h.dtype)
        scores = scores - slope[:, None, None] * distance
    if parts.schumann == "forget":
        read = h
        if parts.forget_noise is not None:
            read = noise_at(ids, parts.forget_noise, parts.eos_id).to(h.dtype)
        gate = torch.sigmoid(read @ p[f"{schumann}.gate"].T + p[f"{schumann}.offset"])
        # What is lost from j to i: the product of the gates between.
        kept = gate.log().cumsum(1).repeat_interleave(H // K, 2).permute(0, 2, 1)
        lost = kept[..., :, None] - kept[..., None, :]
        scores = scores + p[f"{schumann}.strength"][:, None, None] * lost
    weights = scores.masked_fill(distance < 0, -torch.inf).softmax(-1)
    y = torch.einsum("bhij,bjhd->bihd", weights, v)
    if parts.has_gamma:
        read = h
        if parts.gamma_noise is not None:
            read = noise_at(ids, parts.gamma_noise, parts.eos_id).to(h.dtype)
        gate = torch.sigmoid(read @ p[f"mechanisms.gamma.{layer}.weight"].T)
        y = y * 2 * gate[..., None]
    return y.flatten(2)


def whole_logits(
    spec: ModelSpec, parts: Parts, p: dict[str, torch.Tensor], ids: torch.Tensor
) -> torch.Tensor:
    """Logits [B, T, V] of a model with mechanisms, written out."""
    x = p["embedding.weight"][ids]
    if parts.ngram:
        x = x + recalled(ids, spec, parts, p[TABLE]) @ p["mechanisms.ngram.up"].T
    for layer in range(spec.layers):
        block = f"blocks.{layer}"
        h = unit(x, spec.norm_epsilon) * p[f"{block}.attention_norm.weight"]
        read = h
        for tap, lag in enumerate(parts.lags):
            earlier = torch.roll(h, lag, 1) * distances_back(ids, lag, parts.eos_id)[..., None]
            read = read + p[f"mechanisms.dampening.{layer}.taps"][tap] * earlier
        heads = attended(read, layer, spec, parts, p, ids)
        x = x + heads @ p[f"{block}.attention.out.weight"].T
        h = unit(x, spec.norm_epsilon) * p[f"{block}.feed_forward_norm.weight"]
        gate, up = (h @ p[f"{block}.feed_forward.gate_up.weight"].T).chunk(2, -1)
        x = x + (F.silu(gate) * up) @ p[f"{block}.feed_forward.down.weight"].T
    head = p["embedding.weight" if spec.tied else "head.weight"]
    return (unit(x, spec.norm_epsilon) * p["norm.weight"]) @ head.T


def mechanisms_answer(
    spec: ModelSpec,
    parts: Parts,
    parameters: np.ndarray,
    table: np.ndarray,
    batch: tuple[np.ndarray, np.ndarray],
    dtype: torch.dtype = torch.float64,
) -> SimpleNamespace:
    """As `torch_answer`, with each parameter's gradient by name."""
    values = {**named_views(spec, parameters, parts), TABLE: table}
    p = {name: torch.tensor(value, dtype=dtype, requires_grad=True)
         for name, value in values.items()}  # fmt: skip
    ids, targets = (torch.from_numpy(array).long() for array in batch)
    logits = whole_logits(spec, parts, p, ids)
    nats = differentiated(logits, targets)
    gradients = {name: value.grad.numpy() for name, value in p.items() if value.grad is not None}
    return SimpleNamespace(nats=nats, gradients=gradients, logits=logits.detach().numpy())


@pytest.fixture(scope="session")
def by_formula() -> Callable[..., SimpleNamespace]:
    return mechanisms_answer


@pytest.fixture(scope="session")
def draw() -> SimpleNamespace:
    return SimpleNamespace(parameters=draw_parameters, batch=draw_batch, engine=draw_engine)


@pytest.fixture(scope="session")
def by_torch() -> Callable[..., SimpleNamespace]:
    return torch_answer
