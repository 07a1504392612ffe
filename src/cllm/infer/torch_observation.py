"""What a `Transformer` computes from a text, laid open by hooks, with any mechanism."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int32
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cllm.infer.decoder import Observation
from cllm.model import Transformer


@torch.inference_mode()
def observe(model: Transformer, ids: Int32[np.ndarray, " T"]) -> Observation:
    """Hidden states, attention, matrix inputs and logits of one pass over at most a context.

    On the CPU, where attention is computed as product, softmax, product. Raises: ValueError.
    """
    if not 1 <= len(ids) <= model.spec.context:
        raise ValueError(f"{len(ids)} tokens are not between 1 and the context")
    seen = _Seen(model)
    with ExitStack() as stack:
        for handle in seen.hooks():
            stack.callback(handle.remove)
        logits = model(torch.from_numpy(ids.astype(np.int64))[None])[0]
    return Observation(
        hidden=np.stack([_array(rows) for rows in seen.hidden]),
        attention=np.stack([_array(weights) for weights in seen.attention]),
        logits=_array(logits),
        inputs={name: _array(rows) for name, rows in seen.inputs.items()},
    )


def _array(values: Tensor) -> np.ndarray:
    return values.float().numpy().copy()


class _Seen:
    """What the hooks have taken down so far."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self.hidden: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.inputs: dict[str, Tensor] = {}

    def hooks(self) -> list[torch.utils.hooks.RemovableHandle]:
        model = self._model
        handles: list[torch.utils.hooks.RemovableHandle] = []
        blocks: Sequence[Any] = list(model.blocks)
        for number, block in enumerate(blocks):
            name, mixing = f"blocks.{number}", block.feed_forward
            handles += [
                block.register_forward_pre_hook(lambda _, args: self.hidden.append(args[0][0])),
                *self._around(block.attention, f"{name}.attention.qkv.weight"),
                self._input_of(block.attention.out, f"{name}.attention.out.weight"),
                self._input_of(mixing.gate_up, f"{name}.feed_forward.gate_up.weight"),
                self._input_of(mixing.down, f"{name}.feed_forward.down.weight"),
            ]
        head = "embedding.weight" if model.head is None else "head.weight"
        handles += [
            model.norm.register_forward_pre_hook(lambda _, args: self.hidden.append(args[0][0])),
            model.norm.register_forward_hook(
                lambda _, __, made: self.inputs.__setitem__(head, made[0])
            ),
        ]
        return handles

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
            self.attention.append(mode.weights[0])
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
