"""Finds the compiled engine that suits this processor, compiles it if need be, and loads it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import final

from cllm.errors import NativeError, SettingsError
from cllm.native import build
from cllm.native.processor import runnable_variants

SWITCH = "CLLM_NATIVE"
_POINTER, _INT, _WHOLE, _REAL = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_double
# Result and arguments of each function of source/api.cpp and source/decode/decoding.cpp.
_SIGNATURES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "stamp": (ctypes.c_char_p, ()),
    "has_bfloat16": (_INT, ()),
    "num_parameters": (_WHOLE, (_POINTER, _POINTER)),
    "create": (_POINTER, (*(_POINTER,) * 6, _INT, _WHOLE, _INT)),
    "destroy": (None, (_POINTER,)),
    "changed": (None, (_POINTER,)),
    "gradient": (
        _REAL,
        (*(_POINTER,) * 3, _WHOLE, _WHOLE, _REAL, _INT, _REAL, ctypes.c_uint64),
    ),
    "update": (_REAL, (_POINTER, _POINTER, _REAL)),
    "score": (_REAL, (*(_POINTER,) * 3, _WHOLE, _WHOLE)),
    "table_gradient": (None, (_POINTER, _POINTER)),
    "spent": (None, (_POINTER, _POINTER)),
    "product_peak": (_REAL, (_INT, _INT, _INT)),
    "orthogonalise": (_INT, (_POINTER, _POINTER, _WHOLE, _WHOLE, _INT)),
    "decoder_create": (_POINTER, (*(_POINTER,) * 3, _INT, _WHOLE, _WHOLE, _INT)),
    "decoder_destroy": (None, (_POINTER,)),
    "decoder_weight_bytes": (_WHOLE, (_POINTER,)),
    "decoder_feed": (None, (_POINTER, _POINTER, _WHOLE, _POINTER)),
    "decoder_length": (_WHOLE, (_POINTER, _WHOLE)),
    "decoder_truncate": (_INT, (_POINTER, _WHOLE, _WHOLE)),
    "decoder_copy": (_INT, (_POINTER, _WHOLE, _WHOLE, _WHOLE)),
    "decoder_observe": (None, (_POINTER, _POINTER)),
    "decoder_use_one_thread": (None, (_POINTER, _INT)),
    "decoder_write": (_WHOLE, (_POINTER, _POINTER, _WHOLE, _REAL, _POINTER)),
    "choose": (_INT, (_POINTER, _WHOLE, *(_POINTER,) * 5, _WHOLE, _POINTER)),
}


@final
class Library:
    """The compiled functions with their types, as `functions.cllm_…`.

    `identity` changes whenever its results might. Raises: OSError when it can't be loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.functions = ctypes.CDLL(str(path))
        try:
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(self.functions, f"cllm_{name}")
                function.restype, function.argtypes = result, arguments
        except AttributeError as error:
            raise OSError(f"{path} is not the compiled engine: {error}") from error
        self.variant, self.identity = path.name.split("-")[0], path.stem
        if self.functions.cllm_stamp().decode() != build.stamp(self.variant):
            raise OSError(f"{path} was made from other sources")
        self.has_bfloat16 = bool(self.functions.cllm_has_bfloat16())


def load_library(cache: Path) -> Library:
    """The best library for this processor: installed, in `cache`, or compiled into `cache`.

    Compiling takes some seconds, once; `find_library` says whether it is needed.
    Raises: NativeError, its message one line that says why there is none; SettingsError.
    """
    problems = []
    for variant in _choices():
        for path in _built(variant, cache):
            if not build.is_intact(path):
                problems.append(f"{path} is damaged")
                continue
            try:
                return Library(path)
            except OSError as error:
                problems.append(str(error))
        try:
            return Library(build.build(variant, cache))
        except (build.BuildError, OSError) as error:
            problems.append(str(error))
    if not problems:
        message = f"the compiled engine is switched off ({SWITCH}=off)"
        raise NativeError(message, hint=f"Unset {SWITCH} to use it again.")
    message = f"the compiled engine is missing: {', '.join(dict.fromkeys(problems))}"
    raise NativeError(
        message, hint="Install g++ or clang++: what is missing is compiled at the next start."
    )


def find_library(cache: Path) -> Path | None:
    """What `load_library` would load; None where it would have to compile first, or has nothing.

    Takes a millisecond or two. Raises: SettingsError.
    """
    for variant in _choices():
        for path in _built(variant, cache):
            if build.is_intact(path):
                return path
        if build.compiler():
            return None
    return None


def _built(variant: str, cache: Path) -> Iterator[Path]:
    for folder in (build.BUILT, cache):
        yield from build.built(variant, folder)


def _choices() -> list[str]:
    """The variants to try, best first: all that run here, or the one that the person names."""
    wanted, possible = os.environ.get(SWITCH, ""), runnable_variants()
    if not wanted:
        return possible
    if wanted == "off":
        return []
    if wanted in possible:
        return [wanted]
    known = wanted in build.variants()
    message = f"this processor can't run {wanted!r}" if known else f"{wanted!r} is not known"
    raise SettingsError(
        message, where=SWITCH, hint=f"Choose one of: {', '.join(['off', *possible])}."
    )
