"""AdamW on float32 masters, for weights that compute in float32 or in bfloat16.

In bfloat16 the products run on a rounded copy, cast from the masters once a step; gradients
are summed and moments kept in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cllm.config import TrainSettings


class Optimiser:
    """Steps a model's weights. Decay is decoupled and touches matrices only.

    Calls torch's fused AdamW kernel itself: making a `torch.optim` object imports torch's
    compiler, which takes two seconds. Source: Loshchilov 2019, arXiv:1711.05101;
    Micikevicius 2018, arXiv:1710.03740 (masters).
    """

    def __init__(self, model: nn.Module, settings: TrainSettings, dtype: torch.dtype) -> None:
        self._settings = settings
        named = dict(model.named_parameters())
        self._names = list(named)
        self._masters = [named[name].detach().clone().float() for name in self._names]
        model.to(dtype)
        self._weights: list[Tensor] = list(model.parameters())
        self._gradients: list[Tensor | None] = [None for _ in self._masters]
        self._moments = {
            "exp_avg": [torch.zeros_like(master) for master in self._masters],
            "exp_avg_sq": [torch.zeros_like(master) for master in self._masters],
            "step": [torch.zeros((), device=master.device) for master in self._masters],
        }

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of the last backward pass to the masters' and clear them."""
        for index, weight in enumerate(self._weights):
            gradient, weight.grad = weight.grad, None
            if gradient is None:
                continue
            sum_so_far = self._gradients[index]
            if sum_so_far is None:
                self._gradients[index] = gradient.float()
            else:
                sum_so_far.add_(gradient)

    @torch.no_grad()
    def step(self, learning_rate: float, *, divide_by: int) -> float:
        """Divide the collected gradients, clip them to the global norm, and step.

        Returns the norm before clipping. A norm that is not finite changes nothing.
        """
        present = [index for index, value in enumerate(self._gradients) if value is not None]
        gradients = [value for value in self._gradients if value is not None]
        self._gradients = [None for _ in self._masters]
        norm = float(torch.stack(torch._foreach_norm(gradients)).norm()) / divide_by
        if not math.isfinite(norm):
            return norm
        # The small number keeps a zero gradient from dividing by zero, as torch does.
        torch._foreach_mul_(gradients, min(1.0, self._settings.clip / (norm + 1e-6)) / divide_by)
        for is_matrix in (True, False):
            chosen = [
                place
                for place, index in enumerate(present)
                if (self._masters[index].dim() >= 2) == is_matrix
            ]
            self._step_group(
                [present[place] for place in chosen],
                [gradients[place] for place in chosen],
                learning_rate,
                self._settings.weight_decay if is_matrix else 0.0,
            )
        self.cast()
        return norm

    def _step_group(
        self, indices: list[int], gradients: list[Tensor], learning_rate: float, decay: float
    ) -> None:
        if not indices:
            return
        first, second, steps = (
            [self._moments[key][index] for index in indices]
            for key in ("exp_avg", "exp_avg_sq", "step")
        )
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            [self._masters[index] for index in indices],
            gradients,
            first,
            second,
            [],
            steps,
            lr=learning_rate,
            beta1=self._settings.beta1,
            beta2=self._settings.beta2,
            weight_decay=decay,
            eps=self._settings.epsilon,
            amsgrad=False,
            maximize=False,
        )

    @torch.no_grad()
    def cast(self) -> None:
        """Copy the masters into the weights that compute."""
        torch._foreach_copy_(self._weights, self._masters)

    def weights(self) -> dict[str, Tensor]:
        """The float32 masters by parameter name."""
        return dict(zip(self._names, self._masters, strict=True))

    def state(self) -> dict[str, Tensor]:
        """Masters and moments as plain tensors, for a checkpoint."""
        kinds = {"weight": self._masters, **self._moments}
        return {
            f"{kind}.{name}": value
            for kind, values in kinds.items()
            for name, value in zip(self._names, values, strict=True)
        }

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        for kind, values in {"weight": self._masters, **self._moments}.items():
            for name, value in zip(self._names, values, strict=True):
                value.copy_(tensors[f"{kind}.{name}"])
        self.cast()
