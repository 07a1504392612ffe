"""Keys and values of tokens already seen, so that each new token costs one position."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from cllm.model.spec import ModelSpec

# (keys [..., S, D], how many positions each is turned back [S]) → the turned keys
TurnBack = Callable[[Tensor, Tensor], Tensor]


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
        # Where a position was given up, how far each later one has moved since it was stored.
        self._moved: Int[Tensor, " S"] = torch.zeros(
            self.capacity, dtype=torch.int64, device=device
        )
        self._turn_back: TurnBack | None = None
        self.length = 0

    def extend(
        self, layer: int, keys: Float[Tensor, "B K T D"], values: Float[Tensor, "B K T D"]
    ) -> tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"]]:
        """Store the new positions of one layer; return all of its keys and values so far."""
        end = self.length + keys.shape[2]
        assert end <= self.capacity, "the caller keeps within the capacity"
        self._keys[layer, :, :, self.length : end] = keys
        self._values[layer, :, :, self.length : end] = values
        known = self._keys[layer, :, :, :end]
        if self._turn_back is not None:
            known = self._turn_back(known, self._moved[:end])
        return known, self._values[layer, :, :, :end]

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
        if length == 0:
            self._turn_back = None
            self._moved.zero_()

    def drop(self, position: int, turn_back: TurnBack) -> None:
        """Give up one position: those after it move up by one, and their keys turn with them."""
        assert 0 <= position < self.length
        old, new = slice(position + 1, self.length), slice(position, self.length - 1)
        self._keys[..., new, :] = self._keys[..., old, :].clone()
        self._values[..., new, :] = self._values[..., old, :].clone()
        for rows in self._rows.values():
            rows[:, new] = rows[:, old].clone()
        self._moved[new] = self._moved[old] + 1
        self._moved[self.length - 1 :] = 0
        self._turn_back = turn_back
        self.length -= 1

    def copy_from(self, other: KeyValueCache, length: int) -> None:
        """Remember what `other`, of the same shape, remembers of its first positions."""
        assert length <= other.length
        self._keys[..., :length, :] = other._keys[..., :length, :]
        self._values[..., :length, :] = other._values[..., :length, :]
        for name, rows in other._rows.items():
            own = self._rows.setdefault(name, torch.zeros_like(rows))
            own[:, :length] = rows[:, :length]
        self._moved.copy_(other._moved)
        self._turn_back = other._turn_back
        self.length = length
