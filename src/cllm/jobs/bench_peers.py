"""The other programs that `cllm bench` can compare with, and which of them are installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class PeerProgram:
    """Another program: the packages it needs (the first is its own), and our child that runs it.

    `formats` are its names of what weights are kept in, each with the format of ours that it is
    compared with: the same bits, or for bfloat16, which ours lacks for writing, float32.
    """

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    child: str
    formats: Mapping[str, Literal["float32", "int8", "int4"]]
    trains: bool = False

    @property
    def install(self) -> str:
        """The command that brings it."""
        return f"pip install {' '.join(self.packages)}"

    @property
    def version(self) -> str | None:
        """The version that is installed, its packages named; None where one is missing."""
        if any(importlib.util.find_spec(module) is None for module in self.modules):
            return None
        try:
            found = [f"{name} {importlib.metadata.version(name)}" for name in self.packages]
        except importlib.metadata.PackageNotFoundError:
            return None
        return ", ".join(found)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "version": self.version, "install": self.install}


PEERS: tuple[PeerProgram, ...] = (
    PeerProgram(
        name="llama.cpp",
        packages=("llama-cpp-python",),
        modules=("llama_cpp",),
        child="cllm.jobs.bench_llama_cpp",
        formats={"F32": "float32", "BF16": "float32", "Q8_0": "int8", "Q4_0": "int4"},
    ),
    PeerProgram(
        name="transformers",
        packages=("transformers", "torch"),
        modules=("transformers", "torch"),
        child="cllm.jobs.bench_transformers",
        formats={"float32": "float32", "bfloat16": "float32"},
        trains=True,
    ),
    PeerProgram(
        name="ONNX Runtime",
        packages=("onnxruntime", "onnx"),
        modules=("onnxruntime", "onnx"),
        child="cllm.jobs.bench_onnxruntime",
        formats={"float32": "float32"},
    ),
)


def installed_peers() -> list[PeerProgram]:
    """Those that can take part here."""
    return [peer for peer in PEERS if peer.version is not None]


def describe_peers() -> list[dict[str, Any]]:
    """Each program as plain values: name, version or None, and how to install it."""
    return [peer.to_json() for peer in PEERS]
