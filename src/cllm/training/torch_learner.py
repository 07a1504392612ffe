"""A model that learns through torch's autograd: other devices, and machines without our engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int32
from numpy.typing import NDArray
from torch import nn

from cllm.config import Precision, TrainSettings
from cllm.errors import SettingsError
from cllm.model.lexicon import Lexicon
from cllm.model.spec import ModelSpec
from cllm.model.transformer import Transformer
from cllm.model.weights import Weights
from cllm.training.checkpoint import Tensors
from cllm.training.learner import Batch, Rates, StepFigures
from cllm.training.optimiser import Optimiser


class TorchLearner:
    """A `Learner` over a `Transformer`; `settings` are decided."""

    def __init__(
        self,
        spec: ModelSpec,
        weights: Weights,
        settings: TrainSettings,
        lexicon: Lexicon | None = None,
    ) -> None:
        self.spec = spec
        torch.set_num_threads(settings.threads or 1)
        self.model = Transformer(spec, lexicon)
        self.model.load_weights(weights)
        self.model.to(settings.device)
        self._settings = settings
        for part in self.model.modules():
            if isinstance(part, nn.Dropout):
                part.p = settings.dropout or 0.0
        dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        self._optimiser = Optimiser(self.model, settings, dtype, spec)
        self._device = torch.device(settings.device)
        # There the compiler's fused kernels gain much, and the first step can wait for them.
        is_cuda = self._device.type == "cuda"
        self._loss = torch.compile(self.model.loss) if is_cuda else self.model.loss

    @property
    def context(self) -> int:
        """Most tokens it sees at once."""
        return self.spec.context

    def step(self, batches: Sequence[Batch], rates: Rates) -> StepFigures:
        """One optimiser step on the mean loss of all batches."""
        num_targets = sum(int((targets >= 0).sum()) for _, targets in batches)
        nats = 0.0
        if self._settings.dropout:
            torch.manual_seed(self._settings.seed * 1_000_003 + self._optimiser.num_steps)
        self.model.train()
        for ids, targets in batches:
            loss, total = self._loss(self._to_device(ids), self._to_device(targets), rates.progress)
            torch.autograd.backward(total / num_targets)
            self._optimiser.collect()
            nats += loss.item() / num_targets
        if not math.isfinite(nats):
            self._optimiser.forget()
            return StepFigures(nats, math.nan)
        return StepFigures(nats, self._optimiser.step(rates))

    def _to_device(self, array: Int32[np.ndarray, "B T"]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device, torch.int64)

    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0, in the precision of training."""
        self.model.eval()
        return self.model.score(ids, targets)

    def begin_rows(self, squares: Mapping[str, NDArray[np.float32]]) -> None:
        """Set what the sums of squares of row tables begin with."""
        self._optimiser.begin_rows(squares)

    def weights(self) -> Weights:
        """A copy of the float32 weights."""
        return {name: value.cpu().numpy().copy() for name, value in self._optimiser.masters()}

    def state(self) -> Tensors:
        """Weights, moments and the number of steps."""
        return {name: value.cpu().numpy() for name, value in self._optimiser.state().items()}

    def load_state(self, tensors: Tensors) -> None:
        """Go on from what `state` gave."""
        self._optimiser.load_state(
            {name: torch.from_numpy(value) for name, value in tensors.items()}
        )


def torch_precision(device: str) -> Precision:
    """bfloat16 on a graphics processor that has it; on the CPU float32.

    Torch's own products in bfloat16 gain little on a CPU once everything around them is
    counted, and lose where it has no such instructions.
    Raises: SettingsError when this machine has no such device.
    """
    if device == "cpu":
        return "float32"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            f"{device!r} can't be used: {str(error).splitlines()[0]}",
            where="train.device",
            hint="Choose a device this machine has; cpu always works.",
        ) from None
    supported = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return "bfloat16" if supported else "float32"
