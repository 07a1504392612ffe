"""Keys and values of tokens already seen, so that each new token costs one position."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cllm.model.spec import ModelSpec


class KeyValueCache:
    """Room for `capacity` positions (the context unless given) in every layer.

    Memory: 2 · L · B · K · capacity · D numbers.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        batch: int = 1,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.capacity = capacity or spec.context
        shape = (spec.layers, batch, spec.kv_heads, self.capacity, spec.head_width)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self._rows: dict[str, Tensor] = {}
        self.length = 0

    def extend(
        self, layer: int, keys: Float[Tensor, "B K T D"], values: Float[Tensor, "B K T D"]
    ) -> tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"]]:
        """Store the new positions of one layer; return all of its keys and values so far."""
        end = self.length + keys.shape[2]
        assert end <= self.capacity, "the caller keeps within the capacity"
        self._keys[layer, :, :, self.length : end] = keys
        self._values[layer, :, :, self.length : end] = values
        return self._keys[layer, :, :, :end], self._values[layer, :, :, :end]

    def remember(self, name: str, rows: Shaped[Tensor, "B T *rest"]) -> Shaped[Tensor, "B S *rest"]:
        """Store what else the new positions have; return it of all positions so far."""
        end = self.length + rows.shape[1]
        assert end <= self.capacity, "the caller keeps within the capacity"
        if name not in self._rows:
            self._rows[name] = rows.new_zeros((rows.shape[0], self.capacity, *rows.shape[2:]))
        self._rows[name][:, self.length : end] = rows
        return self._rows[name][:, :end]

    def advance(self, num_tokens: int) -> None:
        """Count the positions that every layer has stored."""
        self.length += num_tokens

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        assert 0 <= length <= self.length
        self.length = length
