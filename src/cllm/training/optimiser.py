"""AdamW and Muon in torch, on float32 masters, for weights in float32 or bfloat16.

In bfloat16 the products run on a rounded copy, cast from the masters once a step; gradients
are summed and moments kept in float32. The compiled engine does the same arithmetic.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from cllm.config import TrainSettings
from cllm.model.mechanisms.mechanism import Parameter
from cllm.model.spec import ModelSpec
from cllm.training.learner import Rates
from cllm.training.mechanism_updates import decay_at, table_rate
from cllm.training.row_adagrad import RowAdagrad

# Iteration by iteration the coefficients of X ← aX + (bA + cA²)X with A = XXᵀ; each is used
# with a safety factor of 1.01. Source: Amsel 2025, arXiv:2505.16932 (Polar Express).
POLAR = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)


def orthogonalise(matrices: Float[Tensor, "N R C"]) -> Float[Tensor, "N R C"]:
    """Roughly the nearest orthogonal matrix of each: G = USVᵀ becomes about UVᵀ.

    Works on all matrices of a shape at once, in bfloat16 on devices that have it.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) * 1.01 + 1e-20)
    if x.device.type == "cuda":
        x = x.bfloat16()
    for a, b, c in POLAR:
        square = x @ x.mT
        mixed = (b / 1.01**3) * square + (c / 1.01**5) * (square @ square)
        x = (a / 1.01) * x + mixed @ x
    result: Tensor = (x.mT if is_tall else x).to(matrices.dtype)
    return result


def _kinds(named: Mapping[str, Tensor], spec: ModelSpec | None) -> dict[str, Parameter]:
    """How each parameter is updated; without a spec by its name and shape."""
    if spec is not None:
        return {name: kind for name, kind in spec.parameters().items() if name in named}
    return {
        name: Parameter(
            tuple(value.shape),
            update="muon" if name.startswith("blocks.") and value.dim() == 2 else "adamw",
            decays=value.dim() >= 2,
        )
        for name, value in named.items()
    }


class Optimiser:
    """Steps a model's weights. Decay is decoupled and touches matrices and tables only.

    The spec says of each parameter how it is updated: see `Parameter`.

    Calls torch's fused AdamW kernel itself: making a `torch.optim` object imports torch's
    compiler, which takes two seconds. Source: Loshchilov 2019, arXiv:1711.05101;
    Jordan 2024 (Muon), scaled as Liu 2025, arXiv:2502.16982, with the rows evened as in
    Li 2025, arXiv:2510.05491 (NorMuon);
    Micikevicius 2018, arXiv:1710.03740 (masters).
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        dtype: torch.dtype,
        spec: ModelSpec | None = None,
    ) -> None:
        self._settings = settings
        named = dict(model.named_parameters())
        kinds = _kinds(named, spec)
        # Before the weights are rounded.
        masters = {name: value.detach().clone().float() for name, value in named.items()}
        model.to(dtype)
        self._tables = RowAdagrad(
            {
                name: (named.pop(name), masters.pop(name))
                for name, kind in kinds.items()
                if kind.update == "rows"
            }
        )
        self._names = list(named)
        self._weights: list[Tensor] = [named[name] for name in self._names]
        self._masters = list(masters.values())
        self._gradients = [torch.zeros_like(master) for master in self._masters]
        self._moments = {
            "exp_avg": [torch.zeros_like(master) for master in self._masters],
            "exp_avg_sq": [torch.zeros_like(master) for master in self._masters],
        }
        self.num_steps = 0
        self._kinds = [kinds[name] for name in self._names]
        self._mechanisms = spec.mechanisms if spec else ()
        is_muon = settings.optimizer == "muon"
        self._orthogonal = [
            index for index, kind in enumerate(self._kinds) if kind.update == "muon" and is_muon
        ]

    def begin_rows(self, squares: Mapping[str, NDArray[np.float32]]) -> None:
        """Set what the sums of squares of row tables begin with."""
        self._tables.begin(squares)

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of the last backward pass to the masters' and clear them."""
        for weight, total in zip(self._weights, self._gradients, strict=True):
            if weight.grad is not None:
                total.add_(weight.grad)
                weight.grad = None
        self._tables.collect()

    def forget(self) -> None:
        """Drop the collected gradients."""
        torch._foreach_zero_(self._gradients)
        self._tables.forget()

    @torch.no_grad()
    def step(self, rates: Rates) -> float:
        """Clip the collected gradients to the global norm, and step.

        Returns the norm before clipping. A norm that is not finite changes nothing.
        """
        norm = float(torch.stack(torch._foreach_norm(self._gradients)).norm())
        if not math.isfinite(norm):
            self.forget()
            return norm
        if norm > self._settings.clip:
            torch._foreach_mul_(self._gradients, self._settings.clip / norm)
        self.num_steps += 1
        orthogonal = set(self._orthogonal)
        for decays in (True, False):
            indices = [
                index
                for index, kind in enumerate(self._kinds)
                if (kind.decays and not self._orthogonal) == decays and index not in orthogonal
            ]
            factor = self._kept(rates.learning_rate) if decays else 1.0
            self._adamw(indices, rates.learning_rate, factor)
        self._muon(rates)
        self._tables.step(table_rate(self._mechanisms) * rates.share)
        for master, kind in zip(self._masters, self._kinds, strict=True):
            if kind.lowest is not None:
                master.clamp_min_(kind.lowest)
        self.forget()
        self.cast()
        return norm

    def _kept(self, rate: float) -> float:
        """What a step multiplies decaying weights with."""
        return 1.0 - rate * decay_at(rate, self._mechanisms, self._settings.weight_decay)

    def _adamw(self, indices: list[int], learning_rate: float, kept: float) -> None:
        if not indices:
            return
        if kept != 1.0:
            torch._foreach_mul_([self._masters[index] for index in indices], kept)
        torch._fused_adamw_(
            [self._masters[index] for index in indices],
            [self._gradients[index] for index in indices],
            [self._moments["exp_avg"][index] for index in indices],
            [self._moments["exp_avg_sq"][index] for index in indices],
            [],
            [torch.full((), float(self.num_steps), device=self._masters[0].device)] * len(indices),
            lr=learning_rate,
            beta1=self._settings.beta1,
            beta2=self._settings.beta2,
            weight_decay=0.0,
            eps=self._settings.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def _muon(self, rates: Rates) -> None:
        """Nesterov momentum, made orthogonal, each row at its usual size, the whole at AdamW's."""
        by_shape: defaultdict[tuple[int, ...], list[tuple[Tensor, Tensor, Tensor]]]
        by_shape = defaultdict(list)
        mu = rates.momentum
        for index in self._orthogonal:
            gradient, mean = self._gradients[index], self._moments["exp_avg"][index]
            mean.lerp_(gradient, 1 - mu)
            ahead = gradient.lerp(mean, mu)
            rows = list(self._kinds[index].rows or [len(ahead)])
            squares = self._moments["exp_avg_sq"][index].flatten()
            start = 0
            for master, piece in zip(
                torch.split(self._masters[index], rows), torch.split(ahead, rows), strict=True
            ):
                # One number a row, at the beginning of the matrix's place.
                by_shape[tuple(piece.shape)].append(
                    (master, piece, squares[start : start + len(piece)])
                )
                start += piece.numel()
        decay = self._kept(rates.matrix_rate)
        for shape, triples in by_shape.items():
            steps = orthogonalise(torch.stack([piece for _, piece, _ in triples]))
            size = 0.2 * math.sqrt(max(shape)) * rates.matrix_rate
            for (master, _, square), step in zip(triples, steps, strict=True):
                master.mul_(decay).sub_(self._even_rows(step, square), alpha=size)

    def _even_rows(self, step: Tensor, square: Tensor) -> Tensor:
        """Each row over the root of its running mean square; the norm of the whole stays."""
        beta = self._settings.beta2
        square.lerp_(step.square().mean(1), 1 - beta)
        even: Tensor = step / ((square / (1 - beta**self.num_steps)).sqrt() + 1e-10)[:, None]
        # A matrix behind one that is still 0 has no gradient: its step stays 0.
        even.mul_(step.norm() / even.norm().clamp_min(1e-20))
        return even

    @torch.no_grad()
    def cast(self) -> None:
        """Copy the masters into the weights that compute."""
        torch._foreach_copy_(self._weights, self._masters)

    def masters(self) -> Iterator[tuple[str, Tensor]]:
        """The float32 masters by parameter name."""
        yield from zip(self._names, self._masters, strict=True)
        yield from self._tables.weights().items()

    def state(self) -> dict[str, Tensor]:
        """Masters, moments and the number of steps, for a checkpoint."""
        kinds = {"weight": self._masters, **self._moments}
        named = {
            f"{kind}.{name}": value
            for kind, values in kinds.items()
            for name, value in zip(self._names, values, strict=True)
        }
        return {**named, **self._tables.state(), "num_steps": torch.tensor([self.num_steps])}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        for kind, values in {"weight": self._masters, **self._moments}.items():
            for name, value in zip(self._names, values, strict=True):
                value.copy_(tensors[f"{kind}.{name}"])
        self._tables.load_state(tensors)
        self.num_steps = int(tensors["num_steps"][0])
        self.cast()
