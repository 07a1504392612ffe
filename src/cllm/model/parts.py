"""The mechanisms of one model, by the place where they act, each with its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    AddsLoss,
    AddsToInput,
    BiasesScores,
    ChangesProjection,
    ChangesTable,
    ChangesValues,
    FiltersInput,
    GatesOutput,
    MapsLogits,
    Mechanism,
    ReordersVocabulary,
    ReplacesHead,
)
from cllm.model.reading import Reading
from cllm.model.spec import ModelSpec

PREFIX = "mechanisms."


class Parts(nn.Module):
    """Holds the mechanisms' parameters and fixed tables, and calls whoever acts at a place.

    Without mechanisms every list is empty, and each place gives back what it got.
    """

    def __init__(self, spec: ModelSpec, lexicon: Lexicon | None) -> None:
        super().__init__()
        self.all = spec.mechanisms
        self._tables = [part for part in self.all if isinstance(part, ChangesTable)]
        self._adders = [part for part in self.all if isinstance(part, AddsToInput)]
        self._projections = [part for part in self.all if isinstance(part, ChangesProjection)]
        self._filters = [part for part in self.all if isinstance(part, FiltersInput)]
        self._biases = [part for part in self.all if isinstance(part, BiasesScores)]
        self._values = [part for part in self.all if isinstance(part, ChangesValues)]
        self._gates = [part for part in self.all if isinstance(part, GatesOutput)]
        self._orders = [part for part in self.all if isinstance(part, ReordersVocabulary)]
        self._heads = [part for part in self.all if isinstance(part, ReplacesHead)]
        self._maps = [part for part in self.all if isinstance(part, MapsLogits)]
        self._losses = [part for part in self.all if isinstance(part, AddsLoss)]
        self.replace_scores = any(part.replaces_scores for part in self.all)
        # By mechanism and short name: the module that holds a tensor, and its name there.
        self._places: dict[str, dict[str, tuple[nn.Module, str]]] = {}
        for name, parameter in spec.parameters().items():
            if name.startswith(PREFIX):
                self._hold(name, nn.Parameter(torch.zeros(parameter.shape)))
        for mechanism in self.all:
            for name, value in mechanism.fixed(spec, lexicon).items():
                self._hold(f"{PREFIX}{mechanism.name}.{name}", torch.from_numpy(value))

    def _hold(self, full_name: str, value: Tensor) -> None:
        """Keep a tensor in nested modules, so that it has this name in the model."""
        *path, leaf = full_name.removeprefix(PREFIX).split(".")
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        own = self._places.setdefault(path[0], {})
        own[".".join((*path[1:], leaf))] = (module, leaf)
        if isinstance(value, nn.Parameter):
            module.register_parameter(leaf, value)
        else:
            module.register_buffer(leaf, value, persistent=False)

    def tensors(self, mechanism: Mechanism) -> dict[str, Tensor]:
        """A mechanism's own tensors by short name."""
        places = self._places.get(mechanism.name, {})
        return {name: getattr(module, leaf) for name, (module, leaf) in places.items()}

    def table(self, table: Float[Tensor, "V C"] | None) -> Float[Tensor, "V C"]:
        """The table of embeddings."""
        for part in self._tables:
            table = part.table(table, self.tensors(part))
        assert table is not None, "whatever takes the table away makes another"
        return table

    def add(self, x: Float[Tensor, "B T C"], reading: Reading) -> Float[Tensor, "B T C"]:
        """Embeddings with what is added to them."""
        for part in self._adders:
            x = x + part.add(reading, self.tensors(part))
        return x

    def project(self, layer: int, qkv: Float[Tensor, "R C"]) -> Float[Tensor, "Q C"]:
        """The matrix of queries, keys and values."""
        for part in self._projections:
            qkv = part.project(layer, qkv, self.tensors(part))
        return qkv

    def filter(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading
    ) -> Float[Tensor, "B T C"]:
        """What attention reads."""
        for part in self._filters:
            h = part.filter(layer, h, reading, self.tensors(part))
        return h

    def bias(self, layer: int, h: Float[Tensor, "B T C"], reading: Reading) -> Tensor | None:
        """[#B, #H, #T, S], what is added to the scores; None for nothing."""
        total: Tensor | None = None
        for part in self._biases:
            bias = part.bias(layer, h, reading, self.tensors(part))
            total = bias if total is None else total + bias
        return total

    def values(
        self, layer: int, v: Float[Tensor, "B K S D"], reading: Reading
    ) -> Float[Tensor, "B K S D"]:
        """The values of all positions so far."""
        for part in self._values:
            v = part.values(layer, v, reading, self.tensors(part))
        return v

    def gate(
        self,
        layer: int,
        y: Float[Tensor, "B T H D"],
        h: Float[Tensor, "B T C"],
        reading: Reading,
    ) -> Float[Tensor, "B T H D"]:
        """What the heads give, scaled."""
        for part in self._gates:
            y = y * part.gate(layer, h, reading, self.tensors(part))[..., None]
        return y

    def order(self) -> Int[Tensor, " V"] | None:
        """The row of each id in the tables, where it is not the id."""
        for part in self._orders:
            return part.order(self.tensors(part))
        return None

    def logits(
        self, h: Float[Tensor, "B T C"], product: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "B T V"]:
        """Logits from the last norm's output; `product` is that with the head's table."""
        logits = None
        for head in self._heads:
            logits = head.head(h, self.tensors(head))
        if logits is None:
            logits = product(h)
        for part in self._maps:
            logits = part.map_logits(logits, self.tensors(part))
        return logits

    def losses(
        self,
        logits: Float[Tensor, "N V"],
        targets: Int[Tensor, " N"],
        table: Float[Tensor, "V C"],
        progress: float,
    ) -> Iterable[Float[Tensor, ""]]:
        """What is added to the loss, summed over targets ≥ 0."""
        for part in self._losses:
            yield part.loss(logits, targets, table, progress, self.tensors(part))
