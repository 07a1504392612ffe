"""Every part's gradient in float64 against finite differences of the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cllm.model.initial import initial_weights
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.choose import with_mechanisms
from cllm.model.mechanisms.mechanism import Mechanism
from cllm.model.spec import ModelSpec
from cllm.model.transformer import Transformer
from cllm.numbers.primes import first_primes

# Small enough for seconds; two layers, grouped heads and two documents in a window.
_SPEC = ModelSpec(
    vocab_size=48,
    width=16,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=8,
    mlp_width=24,
    context=12,
    tied=False,
)
# The differences are off by a third derivative times step², and by the loss's own rounding over
# the step: at a third of this one up to 1.1e-5, at three times it half a millionth.
_STEP = 3e-5
TOLERANCE = 1e-5
_SMALLEST = 1e-4


@dataclass(frozen=True, slots=True)
class PartCheck:
    """One parameter: how many of its numbers were tried, and the largest relative error."""

    name: str
    shape: tuple[int, ...]
    num_checked: int
    largest_gradient: float
    largest_error: float

    @property
    def is_right(self) -> bool:
        """Whether the error is within what finite differences can tell."""
        return self.largest_error <= TOLERANCE


def check_gradients(
    mechanisms: Sequence[Mechanism] = (), *, seed: int = 0, most_numbers: int = 16
) -> list[PartCheck]:
    """Check up to `most_numbers` numbers of every parameter of a small model.

    All parameters, gates included, stand at random values. Those whose gradient is largest are
    tried, and some at random. The error is relative to the larger of both gradients.
    """
    lexicon = _lexicon(_SPEC.vocab_size)
    spec = with_mechanisms(_SPEC, mechanisms, lexicon)
    model = Transformer(spec, lexicon).double()
    model.load_weights(_shaken(spec, initial_weights(spec, seed, lexicon), seed))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(1, spec.vocab_size, (2, spec.context + 1), generator=generator)
    rows[0, 5] = spec.eos_id

    def loss() -> Tensor:
        return model.loss(rows[:, :-1], rows[:, 1:], progress=0.2)[1]

    torch.autograd.backward(loss())
    found = []
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        dense = torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
        places = _places(dense.flatten(), most_numbers, generator)
        errors = [_error(loss, parameter.data.view(-1), int(i), dense.flatten()) for i in places]
        largest = float(dense.abs().max())
        shape = tuple(parameter.shape)
        # Of numpy, as it lets a NaN through.
        found.append(PartCheck(name, shape, len(errors), largest, float(np.max(errors))))
    return found


def _error(loss: Callable[[], Tensor], values: Tensor, place: int, gradient: Tensor) -> float:
    before = float(values[place])
    with torch.no_grad():
        values[place] = before + _STEP
        above = float(loss())
        values[place] = before - _STEP
        below = float(loss())
        values[place] = before
    expected, ours = (above - below) / (2 * _STEP), float(gradient[place])
    return abs(expected - ours) / max(abs(expected), abs(ours), _SMALLEST)


def _places(gradient: Tensor, most: int, generator: torch.Generator) -> list[int]:
    """The numbers with the largest gradients, and some drawn at random."""
    count = min(most, len(gradient))
    largest = gradient.abs().topk(max(count // 2, 1)).indices
    drawn = torch.randperm(len(gradient), generator=generator)[: count - len(largest)]
    return sorted({int(place) for place in torch.cat((largest, drawn))})


def _shaken(spec: ModelSpec, weights: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Every weight moved at random: gates at 0 would hide what stands behind them."""
    random = np.random.default_rng(seed)
    kinds = spec.parameters()
    moved = {}
    for name, value in weights.items():
        shaken = value + random.normal(0, 0.15, value.shape).astype(np.float32)
        lowest = kinds[name].lowest
        moved[name] = shaken if lowest is None else np.abs(shaken - lowest) + np.float32(lowest)
    return moved


def _lexicon(vocab_size: int) -> Lexicon:
    """A made-up vocabulary: three tokens a root, and one or two of five affixes for most."""
    ids = np.arange(vocab_size, dtype=np.int32)
    affixes = np.stack([ids % 3 * (ids % 5 + 1), (ids % 2) * (ids % 4)], 1).astype(np.int32)
    affixes = np.minimum(affixes, 5)
    primes = first_primes(5 + vocab_size)
    return Lexicon(
        ranks=(ids[::-1] + 1).astype(np.int32),
        roots=ids // 3,
        affixes=affixes,
        root_primes=primes[5 : 5 + (vocab_size + 2) // 3],
        affix_primes=np.concatenate([[1], primes[:5]]).astype(np.int64),
    )
