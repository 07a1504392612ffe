"""Compiles the engine: one shared library for each kind of processor, named after what it is from.

The build hook runs this file before the package is installed, so it imports the standard library
alone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "source"
BUILT = HERE / "built"
# No errno and no traps: without them roots and comparisons become vector instructions.
# GCC 12 takes what its own vector intrinsics leave open for a mistake (its bug 105593).
FLAGS = (
    *("-std=c++20", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"),
    *("-ffp-contract=fast", "-fvisibility=hidden", "-fPIC", "-pthread"),
    *("-Wall", "-Wextra", "-Wno-maybe-uninitialized"),
)
# What is compiled by itself; the decoder's many kernels take three times as long at -O3, and are
# no faster then.
UNITS = {"api.cpp": "-O3", "decode/decoding.cpp": "-O2"}
# Best first. The levels of x86-64 are those of its System V interface document.
_X86 = {
    "avx512bf16": ("-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni", "-mavx512vbmi"),
    "avx512": ("-march=x86-64-v4",),
    "avx2": ("-march=x86-64-v3",),
    "generic": (),
}
# Every arm64 processor has NEON, which its compilers use unasked.
_ELSEWHERE: dict[str, tuple[str, ...]] = {"generic": ()}
_COMPILERS = ("c++", "g++", "clang++")


class BuildError(Exception):
    """The compiler is missing or refused; the text says so in one line."""


def variants() -> dict[str, tuple[str, ...]]:
    """What can be built for this kind of machine, best first, with the flags of each."""
    return _X86 if platform.machine().lower() in ("x86_64", "amd64") else _ELSEWHERE


def compiler() -> list[str] | None:
    """The command that compiles C++: CXX from the environment, or the first one found."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in ([chosen] if chosen else []) + [[name] for name in _COMPILERS]:
        if shutil.which(command[0]):
            return command
    return None


@functools.cache
def stamp(variant: str) -> str:
    """What a library is made from, as 12 hexadecimal digits: sources, flags, kind of machine."""
    flags = [*FLAGS, *UNITS.values(), *variants()[variant]]
    parts = [platform.system(), platform.machine(), *flags]
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in sorted(filter(Path.is_file, SOURCE.rglob("*"))):
        name = path.relative_to(SOURCE).as_posix()
        digest.update(b"\0" + name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def built(variant: str, folder: Path) -> list[Path]:
    """Libraries of `variant` in `folder`, made from the sources as they are now."""
    return sorted(folder.glob(f"{variant}-{stamp(variant)}-*.so"))


def is_intact(path: Path) -> bool:
    """Whether a library is what the compiler wrote."""
    return path.stem.rpartition("-")[2] == content_digest(path)


def content_digest(path: Path) -> str:
    """SHA-256 of a file, its first 16 hexadecimal digits; empty where it can't be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def build(variant: str, folder: Path) -> Path:
    """Compile `variant` into `folder`, and return the library; about 15 s on one core.

    The name ends with a digest of the content: loading a truncated library would kill the
    process, so it must be seen before. Raises: BuildError, OSError.
    """
    command = compiler()
    if command is None:
        raise BuildError("no C++ compiler was found")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as temporary:
        made = Path(temporary) / "made.so"
        flags = [*FLAGS, *variants()[variant], f'-DCLLM_STAMP="{stamp(variant)}"']
        objects = [str(Path(temporary) / f"{number}.o") for number in range(len(UNITS))]
        for (unit, level), to in zip(UNITS.items(), objects, strict=True):
            _run([*command, *flags, level, "-c", str(SOURCE / unit), "-o", to])
        _run([*command, *flags, "-shared", *objects, "-o", str(made)])
        target = folder / f"{variant}-{stamp(variant)}-{content_digest(made)}.so"
        made.replace(target)
    return target


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise BuildError(f"the compiler {command[0]} failed: {_first_error(done)}")


def _first_error(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr + done.stdout).splitlines()
    telling = [line for line in lines if "error" in line] or lines
    return telling[0].strip() if telling else f"exit code {done.returncode}"


def build_all(folder: Path = BUILT) -> dict[str, Path | BuildError | OSError]:
    """Bring `folder` up to date: compile what is missing, at the same time; remove what is stale.

    For each variant the library, or why there is none.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(pool.map(functools.partial(_build_if_needed, folder=folder), variants()))
    current = {result for result in results if isinstance(result, Path)}
    for path in folder.glob("*.so"):
        if path not in current:
            path.unlink(missing_ok=True)
    return dict(zip(variants(), results, strict=True))


def _build_if_needed(variant: str, folder: Path) -> Path | BuildError | OSError:
    try:
        intact = [path for path in built(variant, folder) if is_intact(path)]
        return intact[0] if intact else build(variant, folder)
    except (BuildError, OSError) as error:
        return error
