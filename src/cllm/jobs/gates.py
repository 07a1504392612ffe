"""What the gates and strengths of a model's mechanisms have become in training."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cllm.workspace.workspace import Workspace

# Arrays of a layer with at most so many numbers are shown one by one; of larger ones the size.
_MOST_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Gate:
    """A learned array of a mechanism, layer by layer.

    `begin` is what all of it was before training, None where it began at random. `values` holds
    each layer's numbers, or of larger arrays the root mean square of each row's change.
    """

    name: str
    shape: tuple[int, ...]
    begin: float | None
    is_rows: bool
    values: list[list[float]]

    @property
    def change(self) -> float:
        """Root mean square of the distance from where it began."""
        numbers = np.concatenate([np.asarray(row) for row in self.values])
        begin = 0.0 if self.is_rows else self.begin or 0.0
        return float(np.sqrt(np.mean(np.square(numbers - begin))))


@dataclass(frozen=True, slots=True)
class LearnedMechanism:
    """A mechanism of a model, what it is, and its gates."""

    name: str
    title: str
    status: str
    settings: dict[str, object]
    gates: list[Gate]


def has_mechanisms(workspace: Workspace, model: str) -> bool:
    """Whether a model has any. Raises: NotFoundError, InvalidNameError, IntegrityError."""
    from cllm.model.files import read_spec

    return bool(read_spec(workspace.models.path(model)).mechanisms)


def learned_gates(workspace: Workspace, model: str) -> list[LearnedMechanism]:
    """What each mechanism of a model learned, in the order in which they act.

    Only their arrays are read of the model's weights. Raises: NotFoundError, IntegrityError.
    """
    from cllm.jobs.mechanisms import mechanism_record
    from cllm.model.files import load_float_weights, read_spec

    folder = workspace.models.path(model)
    names = [name for name in read_spec(folder).parameter_shapes() if _is_of_mechanism(name)]
    spec, weights = load_float_weights(folder, names)
    found = []
    for part in spec.mechanisms:
        begins = {
            name: parameter.constant if not parameter.deviation else None
            for name, parameter in part.parameters(spec).items()
            if parameter is not None and _is_of_mechanism(name)
        }
        record = mechanism_record(part.name)
        gates = _gates({name: weights[name] for name in begins if name in weights}, begins)
        changed = part.model_dump(exclude={"placebo"})
        found.append(LearnedMechanism(part.name, record["title"], record["status"], changed, gates))
    return found


def _is_of_mechanism(name: str) -> bool:
    return name.startswith("mechanisms.")


def _gates(arrays: dict[str, NDArray[np.float32]], begins: dict[str, float | None]) -> list[Gate]:
    """Arrays of the same name in all layers are one gate."""
    layers: dict[str, list[str]] = {}
    for name in arrays:
        short = re.sub(r"\.\d+\.", ".", name).rpartition(".")[2]
        layers.setdefault(short, []).append(name)
    gates = []
    for short, names in layers.items():
        first = arrays[names[0]]
        begin = begins[names[0]]
        is_rows = first.size > _MOST_SHOWN
        values = [_numbers(arrays[name], begin, is_rows=is_rows) for name in names]
        gates.append(Gate(short, first.shape, begin, is_rows, values))
    return gates


def _numbers(array: NDArray[np.float32], begin: float | None, *, is_rows: bool) -> list[float]:
    if not is_rows:
        return [float(value) for value in array.ravel()]
    rows = array.reshape(len(array), -1).astype(np.float64) - (begin or 0.0)
    sizes = np.sqrt(np.mean(np.square(rows), axis=1))
    if len(sizes) > _MOST_SHOWN:
        # A table of tokens: how its rows are spread, from the least to the greatest.
        sizes = np.quantile(sizes, np.linspace(0, 1, _MOST_SHOWN))
    return [float(value) for value in sizes]
