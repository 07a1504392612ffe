"""Flags made from the settings: every setting is a flag by its dotted name.

A command declares `overrides: dict[str, Any]` and is wrapped by `with_settings(Schema)`; it
then takes `--train.batch-size 32` for each leaf of the schema, and the short name, such as
`--steps`, where the schema gives one. `read_settings` turns the overrides into settings.
"""

from __future__ import annotations

import functools
import inspect
import os
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cllm.config import dotted_fields, resolve
from cllm.errors import SettingsError

T = TypeVar("T")
S = TypeVar("S", bound=BaseModel)


def _reject_flag(_type: Any, value: Any) -> None:
    for place in value if isinstance(value, tuple | list) else (value,):
        if isinstance(place, str) and place.startswith("-") and place != "-":
            raise ValueError(f"Unknown option: {place}")


_MOST_USED = Group("Most used settings", sort_key=9)
# A file, folder or pattern; `-` is standard input, which a plain `str` would refuse.
Place = Annotated[
    str,
    Parameter(
        name="PATH",
        help="Files, folders or patterns; - is standard input.",
        allow_leading_hyphen=True,
        validator=_reject_flag,
    ),
]
ConfigFlag = Annotated[
    Path | None, Parameter(name="--config", help="A TOML file with settings (flags win).")
]


def with_settings(
    schema: type[BaseModel], *, sections: Sequence[str] = ()
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command one flag for each setting, and the flags used as `overrides`.

    `sections` keeps only the settings below these names, such as `("text",)`.
    """
    fields = {
        name: field
        for name, field in dotted_fields(schema)
        if not sections or name.split(".")[0] in sections
    }

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        signature = inspect.signature(command, eval_str=True)
        own = [value for key, value in signature.parameters.items() if key != "overrides"]
        flags = {_parameter_name(name): name for name in fields}
        made = [_parameter(name, fields[name]) for name in flags.values()]

        @functools.wraps(command)
        def call(*args: Any, **kwargs: Any) -> T:
            given = [key for key in kwargs if key in flags]
            overrides = {flags[key]: kwargs.pop(key) for key in given}
            overrides = {key: value for key, value in overrides.items() if value is not None}
            return command(*args, overrides=overrides, **kwargs)

        wrapped: Any = call
        wrapped.__signature__ = signature.replace(parameters=[*own, *made])
        wrapped.__annotations__ = {item.name: item.annotation for item in [*own, *made]}
        del wrapped.__wrapped__
        return cast("Callable[..., T]", wrapped)

    return decorate


def read_settings(schema: type[S], overrides: dict[str, Any], *, config: Path | None = None) -> S:
    """Settings from the flags, the environment and a TOML file, in this order of precedence.

    Raises: SettingsError naming the flag, variable or file.
    """
    try:
        return resolve(schema, overrides, toml=config, environment=os.environ)
    except SettingsError as error:
        short = {
            f"--{name}": f"--{_short(field)}"
            for name, field in dotted_fields(schema)
            if _short(field)
        }
        where = short.get(error.where or "", error.where)
        raise SettingsError(error.message, where=where, hint=error.hint) from None


def _short(field: FieldInfo) -> str | None:
    extra = field.json_schema_extra
    return str(extra["short"]) if isinstance(extra, dict) and "short" in extra else None


def _parameter_name(dotted: str) -> str:
    return "setting_" + dotted.replace(".", "__").replace("-", "_")


def _parameter(dotted: str, field: FieldInfo) -> inspect.Parameter:
    kind = _flag_type(field.annotation)
    short = _short(field)
    names = dict.fromkeys(f"--{name}" for name in (short, dotted) if name)
    is_text = "str" in str(kind) or "Path" in str(kind)
    flag = Parameter(
        name=list(names),
        help=_help(field),
        group=_MOST_USED if short else _group(dotted),
        allow_leading_hyphen=is_text and get_origin(kind) is not Literal,
        negative_iterable="",
        show_default=False,
    )
    return inspect.Parameter(
        _parameter_name(dotted),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, flag],
    )


def _group(dotted: str) -> Group | None:
    section, _, leaf = dotted.partition(".")
    return Group(f"Settings: {section}", sort_key=10) if leaf else None


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    if field.default is None or field.default == () or isinstance(field.default, Path):
        return text
    default = field.default
    if isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, float):
        default = f"{default:g}"
    return f"{text} [default: {default}]"


def _flag_type(annotation: Any) -> Any:
    """The plain type behind a setting: bounds and `None` left out, tuples as repeated flags."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        members = [item for item in get_args(annotation) if item is not type(None)]
        return _flag_type(members[0])
    if origin is Annotated:
        return _flag_type(get_args(annotation)[0])
    if origin is tuple:
        return list[str]
    return annotation
