"""One forward pass as mechanisms see it: the ids, where documents begin, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cllm.model.cache import KeyValueCache


class Reading:
    """The `T` tokens that are read now, the last of `S` with those in the cache.

    A document begins after each `eos_id`, and at the window's first token; the eos itself
    belongs to the document that it ends.
    """

    def __init__(
        self,
        ids: Int[Tensor, "B T"],
        cache: KeyValueCache | None,
        eos_id: int,
        *,
        isolates_documents: bool = False,
    ) -> None:
        self.ids, self.cache, self.eos_id = ids, cache, eos_id
        self.isolates_documents = isolates_documents
        self.start = 0 if cache is None else cache.length
        self._made: dict[str, Tensor] = {}

    def remember(self, name: str, new: Tensor) -> Tensor:
        """[B, T, …] values of the new positions; returns those of all positions, [B, S, …].

        Kept in the cache, if there is one, under a name of its own.
        """
        return new if self.cache is None else self.cache.remember(name, new)

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, computed when it is first asked for in this pass."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @cached_property
    def all_ids(self) -> Int[Tensor, "B S"]:
        """The ids of all positions; kept only where a mechanism asks for them."""
        return self.remember("ids", self.ids)

    @cached_property
    def places(self) -> Int[Tensor, "B S"]:
        """Each position within its document, from 0."""
        positions = torch.arange(self.all_ids.shape[1], device=self.ids.device)
        return positions - self.document_starts

    @cached_property
    def document_starts(self) -> Int[Tensor, "B S"]:
        """Where the document of each position begins."""
        S = self.all_ids.shape[1]
        positions = torch.arange(S, device=self.ids.device)
        follows = torch.zeros_like(self.all_ids, dtype=torch.bool)
        follows[:, 1:] = self.all_ids[:, :-1] == self.eos_id
        return torch.where(follows, positions, torch.zeros_like(positions)).cummax(1).values

    @cached_property
    def document_mask(self) -> Float[Tensor, "B 1 T S"]:
        """−∞ where a key is of an earlier document than a query, else 0."""
        T = self.ids.shape[1]
        positions = torch.arange(self.all_ids.shape[1], device=self.ids.device)
        is_foreign = (positions < self.document_starts[:, -T:, None])[:, None]
        return torch.zeros(is_foreign.shape, device=self.ids.device).masked_fill(
            is_foreign, float("-inf")
        )

    def ids_back(self, lag: int) -> Int[Tensor, "B T"]:
        """The token `lag` places before each new one; eos where that is another document's."""
        S, T = self.all_ids.shape[1], self.ids.shape[1]
        if lag == 0:
            return self.ids
        shifted = torch.full_like(self.all_ids, self.eos_id)
        shifted[:, lag:] = self.all_ids[:, : max(S - lag, 0)]
        return torch.where(self.reaches(lag), shifted[:, S - T :], self.eos_id)

    def reaches(self, lag: int) -> Bool[Tensor, "B T"]:
        """Whether the position `lag` before each new one is in the same document."""
        return self.places[:, self.places.shape[1] - self.ids.shape[1] :] >= lag

    def rows_back(self, rows: Tensor, lag: int) -> Tensor:
        """[B, S, C] rows of all positions; [B, T, C] of `lag` before the new ones, else zeros."""
        S, T = rows.shape[1], self.ids.shape[1]
        begin = S - T - lag
        shifted = rows[:, max(begin, 0) : max(S - lag, 0)]
        if begin < 0:
            missing = min(-begin, T)
            shifted = torch.cat((rows.new_zeros(rows.shape[0], missing, rows.shape[2]), shifted), 1)
        return shifted * self.reaches(lag)[..., None].to(rows.dtype)
