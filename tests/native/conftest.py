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
from cllm.native import Library, load_library, parameter_places


@pytest.fixture(scope="session")
def native_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="session")
def library(native_cache: Path) -> Library:
    try:
        return load_library(native_cache)
    except NativeError as error:
        pytest.skip(error.message)


def draw_parameters(spec: ModelSpec, seed: int = 0) -> np.ndarray:
    """Weights of the size that initialising gives, and gains around 1."""
    rng = np.random.default_rng(seed)
    parts = []
    for place in parameter_places(spec):
        values = rng.normal(0, 1, place.shape)
        is_gain = len(place.shape) == 1
        parts.append((1 + 0.3 * values if is_gain else values * spec.width**-0.5).ravel())
    return np.concatenate(parts).astype(np.float32)


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
) -> SimpleNamespace:
    """`nats` summed, their `gradient` divided by the number of targets, and `logits`."""
    model = Transformer(spec).to(dtype)
    named = dict(model.named_parameters())
    for place in parameter_places(spec):
        values = torch.from_numpy(parameters[place.start : place.stop].reshape(place.shape))
        named[place.name].data.copy_(values)
    logits = model(torch.from_numpy(ids).long()).double()
    wanted = torch.from_numpy(targets).long().flatten()
    nats = F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=-1, reduction="sum")
    (nats / int((targets >= 0).sum())).backward()
    gradient = torch.cat([parameter.grad.double().flatten() for parameter in named.values()])
    return SimpleNamespace(
        nats=nats.item(), gradient=gradient.numpy(), logits=logits.detach().numpy()
    )


@pytest.fixture(scope="session")
def draw() -> SimpleNamespace:
    return SimpleNamespace(parameters=draw_parameters, batch=draw_batch)


@pytest.fixture(scope="session")
def by_torch() -> Callable[..., SimpleNamespace]:
    return torch_answer
