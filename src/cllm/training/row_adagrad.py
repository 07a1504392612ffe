"""Row-wise Adagrad in torch: a step costs what it touches, however large the table is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class RowAdagrad:
    """Steps tables of which each batch reads few rows. No clipping, no decay, no moments.

    `tables` are by name the parameter that computes, and its float32 master.

    For each row with gradient g: s ← s + mean(g²), row ← row − rate · g / √s; s, one number a row,
    is all that is kept. The larger it begins, the less a row moves that was touched a few times.
    Source: Duchi 2011, JMLR 12 (Adagrad); one sum a row as in Gupta 2014, arXiv:1412.0193.
    """

    def __init__(self, tables: Mapping[str, tuple[nn.Parameter, Tensor]]) -> None:
        self._tables = {name: table for name, (table, _) in tables.items()}
        self._masters = {name: master for name, (_, master) in tables.items()}
        self._squares = {
            name: torch.zeros(len(table), device=table.device)
            for name, table in self._tables.items()
        }
        self._gradients: dict[str, Tensor] = {}

    def begin(self, squares: Mapping[str, NDArray[np.float32]]) -> None:
        """Set what the sums of squares begin with."""
        for name, values in squares.items():
            self._squares[name].copy_(torch.from_numpy(values))

    def collect(self) -> None:
        """Add the sparse gradients of the last backward pass and clear them."""
        for name, table in self._tables.items():
            if table.grad is not None:
                new = table.grad if table.grad.is_sparse else table.grad.to_sparse(1)
                old = self._gradients.get(name)
                self._gradients[name] = new if old is None else old + new
                table.grad = None

    def forget(self) -> None:
        """Drop the collected gradients."""
        self._gradients = {}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Step the rows that were touched since the last step."""
        for name, gradient in self._gradients.items():
            summed = gradient.coalesce()
            rows, values = summed.indices()[0], summed.values().float()
            squares = self._squares[name]
            squares[rows] += values.square().mean(1)
            steps = values / (squares[rows].sqrt() + 1e-10)[:, None]
            table, master = self._tables[name], self._masters[name]
            master.index_add_(0, rows, steps, alpha=-rate)
            table[rows] = master[rows].to(table.dtype)
        self.forget()

    def state(self) -> dict[str, Tensor]:
        """Tables and sums, for a checkpoint."""
        return {
            **{f"weight.{name}": master for name, master in self._masters.items()},
            **{f"row_squares.{name}": value for name, value in self._squares.items()},
        }

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        for name, table in self._tables.items():
            self._masters[name].copy_(tensors[f"weight.{name}"])
            table.copy_(self._masters[name])
            self._squares[name].copy_(tensors[f"row_squares.{name}"])

    def weights(self) -> dict[str, Tensor]:
        """The tables by name."""
        return dict(self._masters)
