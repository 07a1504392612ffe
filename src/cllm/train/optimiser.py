"""AdamW on float32 masters, for weights that compute in float32 or in bfloat16.

In bfloat16 the products run on a rounded copy, cast from the masters once a step; gradients
are summed and moments kept in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cllm.config import TrainSettings


class Optimiser:
    """Steps a model's weights. Decay is decoupled and touches matrices only.

    Source: Loshchilov 2019, arXiv:1711.05101 (torch's fused kernel); Micikevicius 2018,
    arXiv:1710.03740 (masters).
    """

    def __init__(self, model: nn.Module, settings: TrainSettings, dtype: torch.dtype) -> None:
        self._clip = settings.clip
        named = dict(model.named_parameters())
        self._names = list(named)
        self._masters = [named[name].detach().clone().float() for name in self._names]
        for master in self._masters:
            master.requires_grad_()
        model.to(dtype)
        self._weights: list[Tensor] = list(model.parameters())
        matrices = [master for master in self._masters if master.dim() >= 2]
        gains = [master for master in self._masters if master.dim() < 2]
        self._adamw = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": gains, "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
            fused=True,
        )

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of the last backward pass to the masters' and clear them."""
        for master, weight in zip(self._masters, self._weights, strict=True):
            if weight.grad is None:
                continue
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)
            weight.grad = None

    def step(self, learning_rate: float, *, divide_by: int) -> float:
        """Divide the collected gradients, clip them to the global norm, and step.

        Returns the norm before clipping. A norm that is not finite changes nothing.
        """
        gradients = [master.grad for master in self._masters if master.grad is not None]
        if divide_by > 1:
            torch._foreach_div_(gradients, divide_by)
        norm = torch.nn.utils.get_total_norm(gradients)
        value = float(norm)
        if value == value and value != float("inf"):
            torch.nn.utils.clip_grads_with_norm_(self._masters, self._clip, norm)
            for group in self._adamw.param_groups:
                group["lr"] = learning_rate
            self._adamw.step()
            self.cast()
        self._adamw.zero_grad(set_to_none=True)
        return value

    @torch.no_grad()
    def cast(self) -> None:
        """Copy the masters into the weights that compute."""
        torch._foreach_copy_(self._weights, self._masters)

    def weights(self) -> dict[str, Tensor]:
        """The float32 masters by parameter name."""
        return {
            name: master.detach() for name, master in zip(self._names, self._masters, strict=True)
        }

    def state(self) -> dict[str, Tensor]:
        """Masters and moments as plain tensors, for a checkpoint."""
        tensors = {f"weight.{name}": value for name, value in self.weights().items()}
        for name, master in zip(self._names, self._masters, strict=True):
            for key, value in self._adamw.state.get(master, {}).items():
                tensors[f"{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        for name, master in zip(self._names, self._masters, strict=True):
            master.copy_(tensors[f"weight.{name}"])
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"step.{name}" in tensors:
                self._adamw.state[master] = {k: tensors[f"{k}.{name}"].clone() for k in keys}
        self.cast()
