"""What this machine's processor can run: a library with an instruction it lacks is never loaded."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

from cllm.native.build import variants

# What the compiler may use at each level of x86-64, in the names of Linux's /proc/cpuinfo.
_AVX = frozenset({"cx16", "popcnt", "ssse3", "sse4_1", "sse4_2", "avx", "f16c"})
_AVX2 = _AVX | {"avx2", "bmi1", "bmi2", "fma", "movbe", "abm"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_NEEDS: dict[str, frozenset[str]] = {
    "avx512bf16": _AVX512 | {"avx512_bf16", "avx512_vnni", "avx512vbmi"},
    "avx512": _AVX512,
    "avx2": _AVX2,
    "generic": frozenset(),
}


def runnable_variants() -> list[str]:
    """The variants whose every instruction this processor has, best first."""
    return [name for name in variants() if _NEEDS[name] <= features()]


@functools.cache
def features() -> frozenset[str]:
    """The processor's optional instructions; none where they can't be asked for."""
    if sys.platform == "linux":
        return linux_features(Path("/proc/cpuinfo"))
    if sys.platform == "darwin":
        return mac_features(["sysctl", "hw.optional"])
    return frozenset()


def linux_features(path: Path) -> frozenset[str]:
    """What every core has; Linux leaves out what it does not support itself."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    cores = [line.partition(":")[2].split() for line in lines if line.startswith("flags")]
    return frozenset.intersection(*map(frozenset, cores)) if cores else frozenset()


def mac_features(command: list[str]) -> frozenset[str]:
    """What `command` lists as `hw.optional.NAME: 1`; with AVX2 come all that are older."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return frozenset()
    pairs = [line.partition(": ") for line in done.stdout.splitlines()]
    there = {name.removeprefix("hw.optional.") for name, _, value in pairs if value == "1"}
    return frozenset((_AVX2 if "avx2_0" in there else set()) | (there & _AVX512))
