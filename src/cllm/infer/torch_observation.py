"""What a `Transformer` computes from a text, laid open by hooks, with any mechanism."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int32
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cllm.infer.decoder import EVERYTHING, Kept, Observation
from cllm.model import Transformer


@torch.inference_mode()
def observe(
    model: Transformer, ids: Int32[np.ndarray, " T"], *, keep: Collection[Kept] = EVERYTHING
) -> Observation:
    """Hidden states, attention, matrix inputs and logits of one pass over at most a context.

    On the CPU, where attention is computed as product, softmax, product. Raises: ValueError.
    """
    if not 1 <= len(ids) <= model.spec.context:
        raise ValueError(f"{len(ids)} tokens are not between 1 and the context")
    seen, spec = _Seen(model, keep), model.spec
    with ExitStack() as stack:
        for handle in seen.hooks():
            stack.callback(handle.remove)
        logits = model(torch.from_numpy(ids.astype(np.int64))[None])[0]
    return Observation(
        hidden=_stack(seen.hidden, (spec.layers + 1, 0, spec.width)),
        attention=_stack(seen.attention, (spec.layers, spec.heads, 0, 0)),
        logits=_array(logits if "logits" in keep else logits[:0]),
        inputs={name: _array(rows) for name, rows in seen.inputs.items()},
    )


def _array(values: Tensor) -> np.ndarray:
    return values.float().numpy().copy()


def _stack(values: Sequence[Tensor], empty: tuple[int, ...]) -> np.ndarray:
    return np.stack([_array(each) for each in values]) if values else np.zeros(empty, np.float32)


class _Seen:
    """What the hooks have taken down so far."""

    def __init__(self, model: Transformer, keep: Collection[Kept]) -> None:
        self._model, self._keep = model, keep
        self.hidden: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.inputs: dict[str, Tensor] = {}

    def hooks(self) -> list[torch.utils.hooks.RemovableHandle]:
        handles: list[torch.utils.hooks.RemovableHandle] = []
        blocks: Sequence[Any] = list(self._model.blocks)
        if "hidden" in self._keep:
            handles += [self._hidden_before(module) for module in (*blocks, self._model.norm)]
        if "attention" in self._keep or "inputs" in self._keep:
            for number, block in enumerate(blocks):
                handles += self._around(block.attention, f"blocks.{number}.attention.qkv.weight")
        if "inputs" in self._keep:
            for number, block in enumerate(blocks):
                name, mixing = f"blocks.{number}", block.feed_forward
                handles += [
                    self._input_of(block.attention.out, f"{name}.attention.out.weight"),
                    self._input_of(mixing.gate_up, f"{name}.feed_forward.gate_up.weight"),
                    self._input_of(mixing.down, f"{name}.feed_forward.down.weight"),
                ]
            handles.append(self._input_of_head())
        return handles

    def _hidden_before(self, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_pre_hook(lambda _, args: self.hidden.append(args[0][0]))

    def _input_of_head(self) -> torch.utils.hooks.RemovableHandle:
        name = "embedding.weight" if self._model.head is None else "head.weight"
        return self._model.norm.register_forward_hook(
            lambda _, __, made: self.inputs.__setitem__(name, made[0])
        )

    def _input_of(self, module: nn.Module, name: str) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_pre_hook(
            lambda _, args: self.inputs.__setitem__(name, args[0][0])
        )

    def _around(self, attention: Any, name: str) -> list[torch.utils.hooks.RemovableHandle]:
        """Take down what happens inside attention, where no module stands."""
        modes: list[_Inside] = []

        def enter(_: nn.Module, __: Any) -> None:
            modes.append(_Inside(attention.heads, attention.qkv.in_features))
            modes[-1].__enter__()  # type: ignore[no-untyped-call]

        def leave(_: nn.Module, __: Any, ___: Any) -> None:
            mode = modes.pop()
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            assert mode.weights is not None and mode.read is not None
            if "attention" in self._keep:
                self.attention.append(mode.weights[0])
            if "inputs" in self._keep:
                self.inputs[name] = mode.read[0]

        return [
            attention.register_forward_pre_hook(enter),
            attention.register_forward_hook(leave),
        ]


class _Inside(TorchFunctionMode):
    """Watches one attention: its softmax, and the first product that reads the residual stream."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self._heads, self._width = heads, width
        self.weights: Tensor | None = None
        self.read: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function; note what it read or made."""
        del types
        made = func(*args, **(kwargs or {}))
        if func is F.linear and self.read is None and args[0].shape[-1] == self._width:
            self.read = args[0]
        if func is Tensor.softmax and made.dim() == 4 and made.shape[1] == self._heads:
            self.weights = made
        return made
