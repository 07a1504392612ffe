"""Whether an exported model is the same model: what was compared, with what, and the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from cllm.export.opened import (
    PROGRAMS,
    Answers,
    Opened,
    OpeningError,
    ProgramError,
    Target,
    Trials,
    ask,
    ask_other,
    is_installed,
    tokenizing_package,
    version_of,
)

# Root mean square of the differences that number formats explain, in units of the logits' own
# spread: what was measured (see docs/guide/export.md), with room for models that round worse.
_TOLERANCES = {
    "float32": 1e-4, "f32": 1e-4, "float16": 1e-2, "f16": 1e-2, "bfloat16": 6e-2, "bf16": 6e-2,
    "q8_0": 0.1, "q5_0": 0.4, "q5_1": 0.4,
}  # fmt: skip
# Of 4 bits. Two models that have nothing to do with each other differ by about 1.4.
_COARSEST = 0.8
# The largest of many normal differences is about five times their root mean square.
_LARGEST = 10.0
_SECTION = "## Exports"

# What was compared, what was found, and whether that is as it must be.
Found = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison with a program; `result` says in words what was found."""

    what: str
    program: str
    result: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the other program made of an export; without checks, `missing` says why."""

    target: str
    dtype: str
    program: str
    version: str | None
    checks: tuple[Check, ...]
    missing: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing differed; true where nothing could be compared."""
        return all(check.passed for check in self.checks)

    @property
    def checked(self) -> bool:
        """Whether the other program was there to be asked."""
        return self.missing is None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "checked": self.checked, "passed": self.checked and self.passed}

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """What was compared, with which program, and the result."""
        if self.missing is not None:
            return [("not checked", self.program, self.missing)]
        return [(check.what, check.program, check.result) for check in self.checks]


def judge(own: Opened, target: Target, path: Path, dtype: str, trials: Trials) -> Verdict:
    """Put the same trials to our own model and to the other program, and compare.

    The other program runs in a process of its own. Cost: two times 64 tokens for each prompt.
    """
    program = PROGRAMS[target][1]
    if not is_installed(target):
        return Verdict(target, dtype, program, None, (), f"install it: pip install {program}")
    version = version_of(program)
    try:
        theirs = ask_other(target, path, trials)
    except ProgramError as error:
        return Verdict(target, dtype, program, version, (), f"it can't be loaded here: {error}")
    except OpeningError as error:
        opening = Check(
            "opening", f"{program} {version}", f"it did not open: {error}", passed=False
        )
        return Verdict(target, dtype, program, version, (opening,))
    cutting = tokenizing_package(target)
    programs = (f"{cutting} {version_of(cutting)}", f"{program} {version}")
    return Verdict(target, dtype, program, version, compare(own, theirs, trials, dtype, programs))


def compare(
    own: Opened, theirs: Answers, trials: Trials, dtype: str, programs: tuple[str, str]
) -> tuple[Check, ...]:
    """Tokens, logits and greedy continuations of both, with the tolerance of a number format.

    `programs` names what cut the texts, and what ran the model.
    """
    ours = ask(own, trials)
    spread, largest = _spread(ours.logits), _largest_difference(ours.logits, theirs.logits)
    tolerance = _TOLERANCES.get(dtype, _COARSEST)
    # Two logits that are each off by as much as was seen, or twice that elsewhere, change places.
    tie = max(4 * largest, 2 * _TOLERANCES["float32"] * spread)
    found = (
        (programs[0], _compare_tokens(trials.texts, ours.tokens, theirs.tokens)),
        (programs[1], _compare_logits(ours.logits, theirs.logits, spread, tolerance)),
        (programs[1], _compare_greedy(own, ours, theirs, trials, tie)),
    )
    return tuple(Check(what, program, result, passed) for program, (what, result, passed) in found)


def _compare_tokens(
    texts: Sequence[str], ours: Sequence[list[int]], theirs: Sequence[list[int]]
) -> Found:
    wrong = [place for place in range(len(texts)) if ours[place] != theirs[place]]
    what = f"tokens of {len(texts):,} texts"
    if not wrong:
        return what, "all equal", True
    first = min(wrong, key=lambda place: len(texts[place]))
    shown = f"{texts[first]!r} is {ours[first]}, and there {theirs[first]}"
    return what, f"{len(wrong):,} differ: {shown}", False


def _spread(logits: Sequence[Float32[np.ndarray, "_ _"]]) -> float:
    """Root mean square of the logits about the mean of their row."""
    squares = [np.square(rows - rows.mean(1, keepdims=True), dtype=np.float64) for rows in logits]
    return float(np.sqrt(np.concatenate([rows.ravel() for rows in squares]).mean()))


def _largest_difference(
    ours: Sequence[Float32[np.ndarray, "_ _"]], theirs: Sequence[Float32[np.ndarray, "_ _"]]
) -> float:
    """Of two logits for the same token; 0 where they can't be compared."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.shape == b.shape]
    return max((float(abs(a - b).max()) for a, b in pairs), default=0.0)


def _compare_logits(
    ours: Sequence[Float32[np.ndarray, "_ _"]],
    theirs: Sequence[Float32[np.ndarray, "_ _"]],
    spread: float,
    tolerance: float,
) -> Found:
    what = f"logits of {sum(map(len, ours)):,} tokens"
    shapes = [rows.shape for rows in ours], [rows.shape for rows in theirs]
    if shapes[0] != shapes[1]:
        return what, f"their shapes are {shapes[0]}, and there {shapes[1]}", False
    pairs = zip(ours, theirs, strict=True)
    squares = [np.square(np.subtract(a, b, dtype=np.float64)).ravel() for a, b in pairs]
    usual = float(np.sqrt(np.concatenate(squares).mean()))
    largest = _largest_difference(ours, theirs)
    # Not `>`: a logit that is no number is a failure too.
    passed = usual <= tolerance * spread and largest <= _LARGEST * tolerance * spread
    relative = usual / spread if spread else usual
    shown = f"largest difference {largest:.1e}, relative {relative:.1e} (allowed {tolerance:.0e})"
    return what, shown, passed


def _compare_greedy(
    own: Opened, ours: Answers, theirs: Answers, trials: Trials, tie: float
) -> Found:
    """Equal token by token, up to a place where the two candidates differ by at most `tie`."""
    wanted = equal = ties = 0
    wrong = None
    for (prompt, count), a, b in zip(trials.prompts, ours.greedy, theirs.greedy, strict=True):
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
        wanted, equal = wanted + count, equal + same
        if same == count:
            continue
        logits = own.logits([*prompt, *a[:same]])[-1]
        other = b[same] if same < len(b) and 0 <= b[same] < len(logits) else None
        if other is not None and logits[a[same]] - logits[other] <= tie:
            ties += 1
        elif wrong is None:
            wrong = f"; after {[*prompt, *a[:same]][-8:]} comes {a[same]}, and there {other}"
    what = f"greedy tokens of {len(trials.prompts)} prompts"
    shown = f"{equal} of {wanted} equal"
    if wrong:
        return what, shown + wrong, False
    if ties:
        part = "text parts" if ties == 1 else "texts part"
        shown += f"; {ties} {part} where two logits are within {tie:.2g}"
    return what, shown, True


def stored_records(value: object) -> list[dict[str, Any]]:
    """Those of a file's verdicts that are whole; one of another version is left out."""
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and _is_whole(entry)]


def _is_whole(record: dict[str, Any]) -> bool:
    checks = record.get("checks")
    names = [record.get(name) for name in ("target", "dtype", "program")]
    parts = [
        check.get(name) if isinstance(check, dict) else None
        for check in (checks if isinstance(checks, list) else [None])
        for name in ("what", "program", "result")
    ]
    missing = record.get("missing", 0)
    return all(isinstance(part, str) for part in [*names, *parts, missing or ""])


def section(records: Iterable[Mapping[str, Any]]) -> str:
    """The part of a model card that tells of exports, from what `to_json` made."""
    lines = [_SECTION, "", "| export | compared | with | result |", "|---|---|---|---|"]
    for record in records:
        name = f"{record['target']}, {record['dtype']}"
        if record["missing"]:
            lines.append(_row(name, "not checked", record["program"], record["missing"]))
        for check in record["checks"]:
            cells = (check[part] for part in ("what", "program", "result"))
            lines.append(_row(name, *cells))
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(' '.join(cell.replace('|', ' ').split()) for cell in cells)} |"


def with_section(card: str, text: str) -> str:
    """A model card with this section in place of the one it has, or at its end."""
    before, found, after = card.partition(f"{_SECTION}\n")
    if not found:
        return f"{card.rstrip()}\n\n{text}" if card.strip() else text
    _, next_heading, rest = after.partition("\n## ")
    return f"{before}{text}{next_heading}{rest}"
