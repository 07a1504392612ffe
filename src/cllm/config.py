"""The settings: one schema for the command line, Python and the disk.

A setting's value comes from the first of these that names it: the flag or keyword, the
environment (`CLLM_TRAIN__BATCH_SIZE=32`), a TOML file (`[train]` / `batch-size = 32`), the
default here. `None` means "chosen from the corpus, the machine or the preset"; the chosen
value is written into the run. Unknown keys raise with the nearest name.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from cllm.errors import SettingsError

TokenizerKind = Literal["bpe", "wordpiece", "unigram", "words", "characters", "bytes"]
Preset = Literal["tiny", "small", "base", "mid", "large"]
Precision = Literal["auto", "float32", "bfloat16"]
EngineKind = Literal["auto", "compiled", "torch"]
Optimizer = Literal["muon", "adamw"]

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def _setting(default: Any, description: str, *, short: str | None = None, **bounds: Any) -> Any:
    """Declare a setting; `short` is its undotted flag, such as `--steps`."""
    extra: dict[str, Any] | None = {"short": short} if short else None
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TextSettings(_Section):
    """How text is read, cleaned, split and turned into tokens."""

    tokenizer: TokenizerKind = _setting("bpe", "How text becomes tokens.", short="tokenizer")
    vocab_size: Count | None = _setting(
        None, "Entries in the vocabulary; chosen from the corpus unless given.", short="vocab-size"
    )
    field: str = _setting("text", "The field of JSON Lines or column of CSV that holds the text.")
    encoding: str | None = _setting(None, "The encoding of the files; detected unless given.")
    exact_duplicates: bool = _setting(True, "Drop documents that are exact copies.")
    near_duplicates: bool = _setting(True, "Drop documents that nearly equal an earlier one.")
    near_threshold: float = _setting(
        0.8, "Similarity (Jaccard) from which documents are near duplicates.", gt=0.0, le=1.0
    )
    hidden: bool = _setting(False, "Read hidden files too.")
    gitignore: bool = _setting(True, "Leave out what a .gitignore names.")
    max_file_bytes: Count = _setting(
        8 << 30, "The largest file, unpacked, that is read; larger ones are skipped."
    )
    val_fraction: Fraction = _setting(0.05, "Share of the text held out to measure the model.")
    val_file: Path | None = _setting(
        None, "A file to measure the model on, instead of a held-out part.", short="val-file"
    )
    workers: Count | None = _setting(None, "Processes that prepare text; one a core unless given.")


class ModelSettings(_Section):
    """The shape of the model: the Qwen3 architecture."""

    preset: Preset | None = _setting(None, "A named size.", short="preset")
    width: Count | None = _setting(None, "Width of the residual stream.")
    layers: Count | None = _setting(None, "Number of blocks.")
    heads: Count | None = _setting(None, "Number of query heads.")
    kv_heads: Count | None = _setting(None, "Number of key and value heads.")
    head_width: Count | None = _setting(None, "Width of one head; even.")
    mlp_width: Count | None = _setting(None, "Width inside the feed-forward part.")
    context: Count | None = _setting(None, "Tokens the model sees at once.", short="context")
    rope_base: float = _setting(10_000.0, "Base of the rotary frequencies.", gt=1.0)
    norm_epsilon: float = _setting(1e-6, "Added to the mean square in RMSNorm.", gt=0.0)
    tied: bool = _setting(True, "Input and output embeddings are one table.")
    mechanisms: tuple[str, ...] | None = _setting(
        None,
        "A mechanism or set to switch on: NAME or NAME.SETTING=VALUE; none is the plain model.",
        short="with",
    )


class TrainSettings(_Section):
    """How the model is trained."""

    minutes: float | None = _setting(
        None, "Wall time from Enter to the end.", short="minutes", gt=0.0
    )
    steps: Annotated[int, Field(ge=0)] | None = _setting(
        None, "Optimiser steps, instead of a time.", short="steps"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = _setting(
        0, "Seed of weights, batches and samples.", short="seed"
    )
    batch_size: Count | None = _setting(None, "Windows in one forward and backward pass.")
    accumulate: Count = _setting(1, "Passes whose gradients are added up for one step.")
    optimizer: Optimizer = _setting(
        "muon", "Muon for the matrices inside the blocks and AdamW for the rest, or AdamW for all."
    )
    context_ramp: bool = _setting(
        True, "Train on an eighth of the context first, then half, and all of it at the end."
    )
    learning_rate: float | None = _setting(None, "Peak learning rate of AdamW.", gt=0.0)
    matrix_rate: float | None = _setting(None, "Peak learning rate of Muon.", gt=0.0)
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] | None = _setting(None, "Muon's momentum.")
    final_fraction: Fraction = _setting(0.0, "Last learning rate, as a share of the peak.")
    warmup_fraction: Fraction = _setting(0.02, "Share of the run in which the rate rises.")
    decay_fraction: float = _setting(
        1.0, "Share of the run, at its end, in which the rate falls.", ge=0.0, le=1.0
    )
    weight_decay: float = _setting(0.1, "Decoupled decay of matrices (not of gains).", ge=0.0)
    beta1: Fraction = _setting(0.9, "Decay of AdamW's first moment.")
    beta2: Fraction = _setting(0.95, "Decay of AdamW's second moment.")
    epsilon: float = _setting(1e-8, "AdamW's epsilon.", gt=0.0)
    clip: float = _setting(1.0, "Largest global norm of the gradient.", gt=0.0)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = _setting(
        None, "Share of each branch's output that is dropped; chosen from the corpus unless given."
    )
    engine: EngineKind = _setting(
        "auto", "What computes: our compiled engine (on a CPU), or torch."
    )
    precision: Precision = _setting("auto", "Number format of the products; measured if auto.")
    device: str = _setting("cpu", "Where to compute: cpu, cuda, mps.")
    threads: Count | None = _setting(None, "Threads inside operations; one a core unless given.")
    eval_interval: Count | None = _setting(None, "Steps between validations.")
    eval_tokens: Count = _setting(16_384, "Most held-out tokens scored at one such validation.")
    patience: Count | None = _setting(None, "Stop after this many validations without improvement.")
    checkpoint_seconds: float = _setting(30.0, "Seconds between checkpoints.", gt=0.0)
    sample_prompt: str | None = _setting(None, "Prompt of the samples shown along the way.")
    sample_tokens: Annotated[int, Field(ge=0)] = _setting(120, "Tokens in each such sample.")
    profile: bool = _setting(
        False, "Show where the time goes and write a trace of it.", short="profile"
    )
    tensorboard: bool = _setting(False, "Also write metrics in TensorBoard's format.")


class GenerateSettings(_Section):
    """How the next token is chosen."""

    max_tokens: Count = _setting(256, "Most tokens to write.", short="max-tokens")
    temperature: float = _setting(
        0.8, "0 takes the likeliest token; 1 samples as learned.", short="temperature", ge=0.0
    )
    top_k: Count | None = _setting(None, "Keep only the k likeliest tokens.", short="top-k")
    top_p: float | None = _setting(
        None,
        "Keep the likeliest tokens that together have this probability.",
        short="top-p",
        gt=0.0,
        le=1.0,
    )
    min_p: float | None = _setting(
        None,
        "Keep tokens at least this share as likely as the likeliest.",
        short="min-p",
        ge=0.0,
        le=1.0,
    )
    typical_p: float | None = _setting(
        None,
        "Keep the tokens nearest to the expected surprise that together have this probability.",
        short="typical-p",
        gt=0.0,
        le=1.0,
    )
    repetition_penalty: float = _setting(
        1.0, "Above 1, tokens that occurred become less likely.", short="repetition-penalty", gt=0.0
    )
    frequency_penalty: float = _setting(
        0.0, "Subtracted from a token's score each time it occurred.", short="frequency-penalty"
    )
    presence_penalty: float = _setting(
        0.0, "Subtracted once from the score of a token that occurred.", short="presence-penalty"
    )
    logit_bias: tuple[str, ...] = _setting(
        (),
        "TOKEN=NUMBER is added to a token's score; TOKEN is its text, or # and its id.",
        short="logit-bias",
    )
    stop: tuple[str, ...] = _setting((), "Strings that end the text.", short="stop")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = _setting(0, "Seed of the choice.", short="seed")

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _items(cls, value: Any) -> Any:
        """In Python also {" the": -2.0, 17: -inf}: a token's text or its id."""
        if not isinstance(value, Mapping):
            return value
        named = ((f"#{key}" if isinstance(key, int) else key, add) for key, add in value.items())
        return tuple(f"{key}={add}" for key, add in named)


class Settings(_Section):
    """Everything that decides a training run."""

    text: TextSettings = TextSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()


S = TypeVar("S", bound=BaseModel)
_MECHANISMS = "model.mechanisms"


def dotted_fields(schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every leaf of a settings class with its dotted name in dashes: `train.batch-size`."""
    for name, field in schema.model_fields.items():
        dotted = prefix + name.replace("_", "-")
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from dotted_fields(kind, dotted + ".")
        else:
            yield dotted, field


def environment_name(dotted: str) -> str:
    """The environment twin of a dotted name: `train.batch-size` → `CLLM_TRAIN__BATCH_SIZE`."""
    return "CLLM_" + dotted.replace(".", "__").replace("-", "_").upper()


def resolve(
    schema: type[S],
    overrides: Mapping[str, Any] | None = None,
    *,
    toml: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> S:
    """Build the settings from flags (dotted names), the environment and a TOML file.

    `overrides` maps dotted names (`train.batch-size` or `train.batch_size`) to values.
    Raises: SettingsError naming the key, the value, what is allowed and the nearest name.
    """
    known = dict(dotted_fields(schema))
    values: dict[str, Any] = {}
    if toml is not None:
        values |= {key: (value, toml) for key, value in _flatten(_read_toml(toml)).items()}
    for name in known:
        twin = environment_name(name)
        if environment and environment.get(twin, "") != "":
            values[name] = (_from_environment(environment[twin], known[name]), twin)
    for key, value in (overrides or {}).items():
        if value is not None:
            values[key.replace("_", "-")] = (value, "--" + key.replace("_", "-"))
    for key, (_, where) in values.items():
        if key not in known:
            raise SettingsError(
                "unknown setting " + repr(key), where=where, hint=_nearest(key, known)
            )
    try:
        return schema.model_validate(_nest({key: value for key, (value, _) in values.items()}))
    except ValidationError as error:
        raise _settings_error(error, values) from None


def _from_environment(value: str, field: FieldInfo) -> Any:
    is_list = "tuple" in str(field.annotation)
    return tuple(part for part in value.split("\n") if part) if is_list else value


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"can't be read ({error.strerror})", where=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"not valid TOML: {error}", where=path) from error


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        dotted = prefix + key.replace("_", "-")
        if dotted == _MECHANISMS and isinstance(value, Mapping):
            flat[dotted] = _mechanism_items(value)
        elif isinstance(value, Mapping):
            flat |= _flatten(value, dotted + ".")
        else:
            flat[dotted] = value
    return flat


def _mechanism_items(table: Mapping[str, Any]) -> tuple[str, ...]:
    """`[model.mechanisms.schumann]` / `kind = "forget"` as it is written after --with."""
    items = []
    for name, settings in table.items():
        if settings is False:
            continue
        if settings is not True and not isinstance(settings, Mapping):
            where = f"{_MECHANISMS}.{name}"
            hint = f"Write a table of its settings, or {name} = true."
            raise SettingsError(f"{settings!r} is not understood", where=where, hint=hint)
        items.append(name)
        for key, value in settings.items() if isinstance(settings, Mapping) else ():
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            items.append(f"{name}.{key}={text.lower() if isinstance(value, bool) else text}")
    return tuple(items) or ("none",)


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.replace("-", "_").split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    return tree


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    """Name the known key most like `key`, comparing with and without the section."""
    leaf = key.rsplit(".", 1)[-1]
    leaves = {name.rsplit(".", 1)[-1]: name for name in known}
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    close = close or [leaves[name] for name in difflib.get_close_matches(leaf, leaves, n=1)]
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}."


def _settings_error(error: ValidationError, values: Mapping[str, Any]) -> SettingsError:
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    dotted = ".".join(part.replace("_", "-") for part in parts)
    key = next((name for name in values if dotted.startswith(name)), dotted)
    value, where = values.get(key, (first.get("input"), key))
    message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return SettingsError(f"{key} = {value!r}: {message}", where=where)


def choices(annotation: Any) -> tuple[str, ...]:
    """The values a `Literal` alias allows."""
    return tuple(get_args(annotation))
