"""Finding, building and loading the compiled part."""

from __future__ import annotations

import ctypes


class Library:
    """The compiled functions, with their types."""

    def __init__(self, path: str) -> None:
        self.functions = functions = ctypes.CDLL(path)
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
        signatures = {
            "version": (ctypes.c_int, ()),
            "has_bfloat16": (ctypes.c_int, ()),
            "num_parameters": (whole, (pointer,)),
            "create": (pointer, (pointer,) * 5 + (ctypes.c_int, whole, ctypes.c_int)),
            "destroy": (None, (pointer,)),
            "changed": (None, (pointer,)),
            "gradient": (
                real,
                (pointer, pointer, pointer, whole, whole, real, ctypes.c_int, real,
                 ctypes.c_uint64),
            ),
            "update": (real, (pointer, pointer, real)),
            "score": (real, (pointer, pointer, pointer, whole, whole)),
            "last_logits": (None, (pointer, pointer, whole, pointer)),
            "spent": (None, (pointer, pointer)),
            "orthogonalise": (None, (pointer, pointer, whole, whole, ctypes.c_int)),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(functions, f"cllm_{name}")
            function.restype, function.argtypes = result, arguments
