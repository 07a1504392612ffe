"""All mechanisms by name, in the order in which they act, and the named sets of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from cllm.model.mechanisms.mechanism import Mechanism

# Those that make the table come before those that add to it, and these before reordering.
NAMES = (
    "residues",
    "reduction",
    "kissing_codes",
    "roots",
    "lattice_formula",
    "coordinates",
    "locality",
    "ngram",
    "symmetry",
    "reversal",
    "dampening",
    "plimpton",
    "golden",
    "resonance",
    "cymatic",
    "schumann",
    "gamma",
    "additive_head",
    "mobius",
    "root_loss",
    "einstein",
    "lattice_transform",
)

# What measured best together (docs/mechanisms.md); `none` is the plain model.
SETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "crystal": ("ngram", "schumann", "gamma"),
}
# What `cllm train` uses unless told otherwise: only what every format can hold.
DEFAULT: tuple[str, ...] = ()

MEASURED_FILE = Path(__file__).with_name("measured.json")


@cache
def mechanism(name: str) -> type[Mechanism]:
    """The class of a mechanism in `NAMES`."""
    module = import_module(f"cllm.model.mechanisms.{name}")
    kind: type[Mechanism] = getattr(module, "".join(part.title() for part in name.split("_")))
    return kind


@cache
def measured() -> dict[str, Any]:
    """What the study found of each mechanism and set: see docs/mechanisms.md."""
    figures: dict[str, Any] = json.loads(MEASURED_FILE.read_text(encoding="utf-8"))
    return figures


def measured_gain(mechanisms: Iterable[Mechanism]) -> str | None:
    """In words, what a set gained over the plain model; None for one that was not measured."""
    from cllm.model.mechanisms.choose import choose

    chosen = tuple(mechanisms)
    names = {part.name for part in chosen}
    for name, members in SETS.items():
        # Names first: a plain model's plan does without the mechanisms' code.
        if members and names == set(members) and choose(members) == chosen:
            gain: str | None = measured().get("sets", {}).get(name, {}).get("gain")
            return gain
    return None
