"""What `cllm bench` measures: models of four sizes with random weights, or one of a person's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cllm.config import ModelSettings
from cllm.errors import NotFoundError, did_you_mean
from cllm.model.files import is_quantised, load_lexicon, load_weights, read_spec
from cllm.model.lexicon import Lexicon
from cllm.model.packed import GROUP, MixedWeights, Packed, pack_nibbles, padded
from cllm.model.spec import ModelSpec, spec_from_settings

Format: TypeAlias = Literal["float32", "int8", "int4", "as stored"]
FORMATS: tuple[Format, ...] = ("float32", "int8", "int4")
# Tokens that a text of the measurement has at most; a longer context is not filled.
LONGEST = 256
# A group of smaller numbers counts as zeros: no half-precision scale could tell them from it.
_TINIEST = 1e-30


# Presets of `cllm train`, each with the vocabulary that it is measured with.
SIZES: dict[str, int] = {"tiny": 512, "small": 2048, "mid": 8192, "large": 16384}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure: the one in `folder`, or one of `SIZES`."""

    name: str
    spec: ModelSpec
    formats: tuple[Format, ...]
    folder: Path | None = None

    def weights(self, format_: Format) -> MixedWeights:
        """Its weights in a format. Raises: IntegrityError."""
        floats: MixedWeights = {}
        if self.folder is None:
            floats |= random_weights(self.spec)
        else:
            floats |= load_weights(self.folder)[1]
        if format_ == "int8" or format_ == "int4":
            return rounded(floats, format_)
        return floats

    def lexicon(self) -> Lexicon | None:
        """What its mechanisms know of the vocabulary. Raises: IntegrityError."""
        return None if self.folder is None else load_lexicon(self.folder, self.spec)


def size_subject(name: str) -> Subject:
    """A size with random weights. Raises: NotFoundError."""
    if name not in SIZES:
        hint = did_you_mean(name, SIZES, otherwise=f"There are: {', '.join(SIZES)}.")
        raise NotFoundError(f"there is no preset {name!r}", where="--preset", hint=hint)
    spec = spec_from_settings(ModelSettings(context=LONGEST), SIZES[name], name)
    return Subject(name, spec, FORMATS)


def folder_subject(name: str, folder: Path) -> Subject:
    """A model on disk, its context cut to `LONGEST`. Raises: IntegrityError."""
    spec = read_spec(folder)
    formats: Sequence[Format] = FORMATS
    if is_quantised(folder):
        formats = ("as stored",)
    elif spec.mechanisms:
        # Their matrices are quantised by rules of their own.
        formats = ("float32",)
    if not spec.mechanisms:
        spec = dataclasses.replace(spec, context=min(spec.context, LONGEST))
    return Subject(name, spec, tuple(formats), folder)


def random_weights(spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """Weights about as large as trained ones; how fast a model is doesn't hang on them."""
    random = np.random.default_rng(0)
    return {
        name: np.ones(shape, np.float32)
        if len(shape) == 1
        else (random.random(shape, np.float32) - np.float32(0.5)) * np.float32(2 * shape[1] ** -0.5)
        for name, shape in spec.parameter_shapes().items()
    }


def rounded(weights: MixedWeights, kind: Literal["int8", "int4"]) -> MixedWeights:
    """The matrices in groups of 32 with the simplest scales: for speed, not for quality."""
    return {
        name: _rounded(value, kind)
        if isinstance(value, np.ndarray) and value.ndim == 2 and min(value.shape) >= GROUP
        else value
        for name, value in weights.items()
    }


def _rounded(matrix: NDArray[np.float32], kind: Literal["int8", "int4"]) -> Packed:
    rows, columns = matrix.shape
    wide = np.pad(matrix, ((0, 0), (0, padded(columns) - columns)))
    groups = wide.reshape(rows, -1, GROUP)
    scales = np.abs(groups).max(axis=2) / np.float32(127 if kind == "int8" else 7)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales > _TINIEST)
    codes = np.rint(groups * inverse[:, :, None]).astype(np.int8).reshape(wide.shape)
    packed = codes if kind == "int8" else pack_nibbles(codes)
    return Packed(kind, columns, (packed,), scales.astype(np.float16))


def num_bytes(weights: MixedWeights) -> int:
    """Of all weights, as they are stored."""
    total = 0
    for value in weights.values():
        if isinstance(value, Packed):
            signs = () if value.signs is None else (value.signs,)
            total += sum(array.nbytes for array in (*value.codes, value.scales, *signs))
        else:
            total += value.nbytes
    return total
