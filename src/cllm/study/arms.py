"""The arms of a study: each mechanism, its named variants, and the placebo of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cllm.errors import NotFoundError, did_you_mean

Words = Literal["bpe", "words"]
Role = Literal["plain", "arm", "placebo"]


@dataclass(frozen=True, slots=True)
class Arm:
    """What stands after --with for one model of a comparison, and for its placebo."""

    name: str
    items: tuple[str, ...]
    placebo: tuple[str, ...]
    tokenizer: Words = "bpe"


PLAIN = ("none",)

# Settings other than a mechanism's own that a study looks at: what stands after --with, and
# the tokeniser, where the variant needs another one than its mechanism.
VARIANTS: dict[str, tuple[tuple[str, ...], Words | None]] = {
    "residues.sum": (("residues.combine=sum",), None),
    "reduction.svd": (("reduction.kind=svd",), None),
    "kissing_codes.leech": (("kissing_codes.lattice=leech",), None),
    "kissing_codes.whole": (("kissing_codes.whole=true",), None),
    "roots.frequent": (("roots.own=frequent",), None),
    "roots.rotation": (("roots.rotation=true",), None),
    "roots.binding": (("roots.binding=true",), None),
    "roots.mobius_start": (("roots.mobius_start=true",), None),
    "symmetry.reflections": (("symmetry.reflections=true",), None),
    "resonance.root": (("resonance.terms=root",), "words"),
    "resonance.only": (("resonance.only=true",), None),
    "schumann.static": (("schumann.kind=static",), None),
    "gamma.clock": (("gamma.kind=clock",), None),
    "root_loss.frequency": (("root_loss.kind=frequency",), "bpe"),
    "root_loss.gcd": (("root_loss.kind=gcd",), "bpe"),
}


def arms(
    records: Sequence[dict[str, Any]],
    sets: Sequence[dict[str, Any]],
    only: Sequence[str] = (),
) -> list[Arm]:
    """The arms of those names, or each mechanism and each variant; sets by name alone.

    `records` and `sets` are the catalogue's. Raises: NotFoundError with the nearest name.
    """
    needs = {record["name"]: record["needs"] for record in records}
    found = {}
    for name in needs:
        found[name] = _arm(name, (name,), needs)
        for variant, (items, tokenizer) in VARIANTS.items():
            if variant.partition(".")[0] == name:
                found[variant] = _arm(variant, items, needs, tokenizer)
    everything = list(found.values())
    for entry in sets:
        if entry["members"]:
            found[entry["name"]] = _arm(entry["name"], tuple(entry["members"]), needs)
    for name in only:
        if name not in found:
            hint = did_you_mean(name, found, otherwise=f"There are: {', '.join(found)}.")
            raise NotFoundError(f"there is no mechanism, variant or set {name!r}", hint=hint)
    return [found[name] for name in dict.fromkeys(only)] if only else everything


def _arm(
    name: str, items: tuple[str, ...], needs: dict[str, list[str]], tokenizer: Words | None = None
) -> Arm:
    members = list(dict.fromkeys(_mechanism(item) for item in items))
    placebo = (*items, *(f"{member}.placebo=true" for member in members))
    has_roots = any("roots" in needs.get(member, ()) for member in members)
    return Arm(name, items, placebo, tokenizer or ("words" if has_roots else "bpe"))


def _mechanism(item: str) -> str:
    return item.partition("=")[0].partition(".")[0]
