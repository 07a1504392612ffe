"""Compile a loop over numbers to machine code, once a machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` as machine code (numba), kept on disk for the next process.

    It runs without Python's interpreter lock, and integers are 64 bits wide and wrap around.
    """
    # Numba reads the plain function's bytecode: a type checker's wrapper must come off first.
    plain = inspect.unwrap(function)
    result: Function = numba.njit(plain, cache=True, nogil=True)
    return result
