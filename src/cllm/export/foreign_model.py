"""A model from elsewhere as it is found: its shape, where its numbers lie, its tokeniser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cllm.errors import InputError, IntegrityError
from cllm.export.stored_tensor import StoredTensor
from cllm.model import ModelSpec, Weights
from cllm.model.files import foreign_names
from cllm.text.tokenizers import Tokenizer

# Between those that a file has and those that a model computes with: (name, rows) to rows.
Rearrange = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class ForeignModel:
    """All that an import needs; `tensors` by Hugging Face's names, nothing of them read yet."""

    kind: str
    spec: ModelSpec
    tensors: Mapping[str, StoredTensor]
    tokenizer: Tokenizer
    # All that may end a text; the first is the model's own.
    eos_ids: tuple[int, ...]
    chat_template: str | None = None
    rearrange: Rearrange | None = field(default=None, repr=False)

    def with_context(self, context: int | None) -> ForeignModel:
        """The same model seeing fewer tokens at once. Raises: InputError for more."""
        if context is None:
            return self
        if not 1 <= context <= self.spec.context:
            hint = f"The model was made for {self.spec.context:,} tokens; give at most that."
            raise InputError(f"a context of {context:,}", where="--context", hint=hint)
        return replace(self, spec=replace(self.spec, context=context))

    def read_weights(self, on_progress: Callable[[int, int], None] | None = None) -> Weights:
        """Read all weights as float32; `on_progress` gets how many parameters of how many.

        Raises: IntegrityError naming a tensor whose numbers are missing or not finite.
        """
        weights: Weights = {}
        shapes, done = self.spec.parameter_shapes(), 0
        for name, shape in shapes.items():
            joined = np.empty(shape, np.float32)
            at = 0
            for foreign in foreign_names(name):
                values = self.tensors[foreign].read()
                if self.rearrange is not None:
                    values = self.rearrange(foreign, values)
                joined[at : at + len(values)] = values
                at += len(values)
            weights[name] = joined
            done += joined.size
            if on_progress is not None:
                on_progress(done, self.spec.num_parameters)
        return weights


def check_tensors(spec: ModelSpec, tensors: Mapping[str, StoredTensor], where: Path) -> None:
    """Compare the tensors found with those that the shape needs.

    Raises: IntegrityError for missing ones and other shapes, InputError for tensors of parts
    that we lack, and for a model that does not fit into this machine's memory.
    """
    # Counted first: a shape that claims more layers is not spelled out.
    if spec.layers > len(tensors):
        raise IntegrityError(f"{spec.layers:,} layers, but {len(tensors):,} tensors", where=where)
    known = set()
    for name, parameter in spec.parameters().items():
        names = foreign_names(name)
        rows = parameter.rows or (parameter.shape[0],)
        for foreign, num_rows in zip(names, rows, strict=True):
            wanted = (num_rows, *parameter.shape[1:])
            found = tensors.get(foreign)
            if found is None:
                raise IntegrityError(f"the weights lack {foreign}", where=where)
            if found.shape != wanted:
                message = f"{foreign} has the shape {list(found.shape)}, not {list(wanted)}"
                hint = "The weights do not fit the configuration."
                raise IntegrityError(message, where=found.path, hint=hint)
            known.add(foreign)
    # A tied head may be stored a second time; rotary tables are made anew.
    others = [name for name in tensors if name not in known and not _is_spare(name, spec)]
    if others:
        listed = ", ".join(others[:4]) + (", ..." if len(others) > 4 else "")
        raise InputError(f"the model has parts that can't be imported: {listed}", where=where)
    check_memory(spec.num_parameters, where)


def check_memory(num_parameters: int, where: Path) -> None:
    """Refuse a model that this machine can't hold. Raises: InputError."""
    import psutil

    # Once as read, once as written.
    needed, there = 2 * 4 * num_parameters, int(psutil.virtual_memory().total)
    if needed > there:
        sizes = f"{needed / 1e9:,.1f} GB, this machine has {there / 1e9:,.1f} GB"
        raise InputError(f"the import would take {sizes}", where=where)


def _is_spare(name: str, spec: ModelSpec) -> bool:
    return name.endswith("rotary_emb.inv_freq") or (spec.tied and name == "lm_head.weight")
