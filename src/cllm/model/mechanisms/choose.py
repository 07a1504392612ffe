"""From what a person wrote after --with to mechanisms: `ngram`, `gamma.kind=clock`, `crystal`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from cllm.errors import SettingsError, did_you_mean
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.catalogue import DEFAULT, NAMES, SETS, mechanism
from cllm.model.mechanisms.mechanism import Mechanism
from cllm.model.spec import ModelSpec

_WHERE = "--with"


def choose(items: Sequence[str] | None) -> tuple[Mechanism, ...]:
    """The mechanisms in the order in which they act; None is the default.

    An item is a name, a set's name (`crystal`, `none`) or NAME.SETTING=VALUE, which switches the
    mechanism on too; later items win. Raises: SettingsError with the nearest name, and where two
    exclude each other.
    """
    given: dict[str, dict[str, Any]] = {}
    for item in DEFAULT if items is None else items:
        head, has_value, value = item.partition("=")
        name, _, setting = head.strip().partition(".")
        name = name.replace("-", "_")
        if bool(setting) != bool(has_value):
            hint = "Write NAME, or NAME.SETTING=VALUE."
            raise SettingsError(f"{item!r} is not understood", where=_WHERE, hint=hint)
        if name not in SETS and name not in NAMES:
            raise SettingsError(
                f"there is no mechanism {name!r}", where=_WHERE, hint=_nearest(name)
            )
        for member in SETS.get(name, (name,)):
            values = given.setdefault(member, {})
            if setting:
                values[setting.replace("-", "_")] = _parsed(value)
    chosen = tuple(_build(name, given[name]) for name in NAMES if name in given)
    check_together(chosen)
    return chosen


def _parsed(text: str) -> Any:
    """Numbers, truth values and lists as JSON would read them; anything else is text."""
    text = text.strip()
    try:
        value = json.loads(f"[{text}]")
    except json.JSONDecodeError:
        return text
    return value[0] if len(value) == 1 else value


def _build(name: str, values: dict[str, Any]) -> Mechanism:
    kind = mechanism(name)
    for key in values:
        if key not in kind.model_fields:
            has = f"It has: {', '.join(kind.model_fields)}."
            hint = did_you_mean(key, kind.model_fields, otherwise=has)
            raise SettingsError(f"{name} has no setting {key!r}", where=_WHERE, hint=hint)
        wants_list = "tuple" in str(kind.model_fields[key].annotation)
        if wants_list and isinstance(values[key], str):
            values[key] = [word.strip() for word in values[key].split(",")]
        elif wants_list and not isinstance(values[key], list):
            values[key] = [values[key]]
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        message = f"{name}.{key} = {values.get(key)!r}: {first['msg'].removeprefix('Input ')}"
        raise SettingsError(message, where=_WHERE) from None


def _nearest(name: str) -> str:
    close = did_you_mean(name, [*NAMES, *SETS], otherwise="", cutoff=0.5)
    return f"{close} `cllm mechanisms` lists them all.".strip()


def check_together(chosen: Iterable[Mechanism]) -> None:
    """Raises: SettingsError naming two that exclude each other, and why."""
    members = {part.name: part for part in chosen}
    for name, part in members.items():
        for other, why in part.excludes.items():
            if other in members:
                first, second = (one for one in members if one in (name, other))
                raise SettingsError(
                    f"{first} and {second} can't be on together: {why}",
                    where=_WHERE,
                    hint="Leave one of them out.",
                )


def items_of(mechanisms: Iterable[Mechanism]) -> tuple[str, ...]:
    """What `choose` makes the same mechanisms from."""
    found = []
    for part in mechanisms:
        found.append(part.name)
        for key, value in part.model_dump(mode="json", exclude_defaults=True).items():
            text = json.dumps(value)[1:-1] if isinstance(value, list | str) else json.dumps(value)
            found.append(f"{part.name}.{key}={text}")
    return tuple(found) or ("none",)


def with_mechanisms(
    spec: ModelSpec, chosen: Sequence[Mechanism], lexicon: Lexicon | None
) -> ModelSpec:
    """A plain model's numbers with mechanisms on. Raises: SettingsError."""
    for part in chosen:
        missing = [need for need in sorted(part.needs) if not _has(lexicon, need)]
        assert not missing, f"the caller gives {part.name} its {missing}"
        spec = part.adapted(spec)
    return replace(spec, mechanisms=tuple(part.fitted(spec, lexicon) for part in chosen))


def _has(lexicon: Lexicon | None, need: str) -> bool:
    return lexicon is not None and (need == "ranks" or lexicon.roots is not None)


def from_records(records: Sequence[dict[str, Any]]) -> tuple[Mechanism, ...]:
    """The mechanisms of a model on disk. Raises: SettingsError."""
    found = []
    for record in records:
        values = dict(record)
        name = values.pop("name", None)
        if name not in NAMES:
            raise SettingsError(f"there is no mechanism {name!r}", where="config.json")
        found.append(_build(name, values))
    check_together(found)
    return tuple(found)


def to_records(mechanisms: Iterable[Mechanism]) -> list[dict[str, Any]]:
    """The mechanisms as a model's configuration keeps them."""
    return [{"name": part.name, **part.model_dump(mode="json")} for part in mechanisms]
