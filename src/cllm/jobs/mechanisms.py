"""The mechanisms that a model can have: what each is, and what it was measured to gain."""

from __future__ import annotations

import inspect
import re
from typing import Any

from cllm.errors import NotFoundError, did_you_mean
from cllm.model.mechanisms.catalogue import NAMES, SETS, measured, mechanism


def catalogue_records() -> list[dict[str, Any]]:
    """A record of every mechanism, in the order in which they act."""
    return [mechanism_record(name) for name in NAMES]


def mechanism_record(name: str) -> dict[str, Any]:
    """What one mechanism is. Raises: NotFoundError with the nearest name."""
    if name not in NAMES:
        lists = "`cllm mechanisms` lists them all."
        hint = did_you_mean(name.replace("-", "_"), NAMES, otherwise=lists)
        raise NotFoundError(f"there is no mechanism {name!r}", hint=hint)
    kind = mechanism(name).model_validate({})
    return {
        "name": name,
        "title": kind.title,
        "cost": kind.cost,
        "control": kind.control,
        "status": _status(type(kind).__doc__ or ""),
        "export": kind.export,
        "needs": sorted(kind.needs),
        "excludes": _excluded(name),
        "compiled": kind.is_compiled,
        "sets": [key for key, members in SETS.items() if name in members],
        "settings": [
            {"name": key, "default": field.default, "help": field.description}
            for key, field in type(kind).model_fields.items()
        ],
        "explanation": inspect.cleandoc(type(kind).__doc__ or ""),
        "measured": measured().get("mechanisms", {}).get(name),
    }


def _excluded(name: str) -> dict[str, str]:
    """What can't be on with it, and why, whichever of the two says so."""
    said_by_others = {
        other: why for other in NAMES if (why := mechanism(other).excludes.get(name)) is not None
    }
    return {**mechanism(name).excludes, **said_by_others}


def _status(explanation: str) -> str:
    """What its docstring says: theorem, hypothesis or measured."""
    found = re.search(r"Status:\s+(\w+)", explanation)
    assert found is not None, "a test holds that every mechanism has a status"
    return found[1]


def set_records() -> list[dict[str, Any]]:
    """The named sets of mechanisms, with what each gained."""
    figures = measured().get("sets", {})
    return [
        {"name": name, "members": list(items), "gain": figures.get(name, {}).get("gain")}
        for name, items in SETS.items()
    ]
