"""Settings: one schema, four sources, unknown keys refused with the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.config import (
    GenerateSettings,
    Settings,
    TrainSettings,
    choices,
    dotted_fields,
    environment_name,
    resolve,
)
from cllm.errors import SettingsError


def test_defaults_are_what_the_schema_says() -> None:
    assert resolve(Settings) == Settings()


def test_a_flag_wins_over_the_environment_over_toml_over_the_default(tmp_path: Path) -> None:
    toml = tmp_path / "settings.toml"
    toml.write_text("[train]\nseed = 1\nbatch-size = 1\nclip = 0.5\n[model]\nwidth = 96\n")
    environment = {"CLLM_TRAIN__SEED": "2", "CLLM_TRAIN__BATCH_SIZE": "2"}
    settings = resolve(Settings, {"train.seed": 3}, toml=toml, environment=environment)
    assert settings.train.seed == 3
    assert settings.train.batch_size == 2
    assert settings.train.clip == 0.5
    assert settings.model.width == 96
    assert settings.train.beta1 == TrainSettings().beta1


def test_toml_takes_dashes_and_underscores(tmp_path: Path) -> None:
    toml = tmp_path / "settings.toml"
    toml.write_text("[train]\nbatch_size = 4\nlearning-rate = 0.01\n")
    settings = resolve(Settings, toml=toml)
    assert (settings.train.batch_size, settings.train.learning_rate) == (4, 0.01)


@pytest.mark.parametrize("name", [name for name, _ in dotted_fields(Settings)])
def test_every_setting_has_an_environment_twin(name: str) -> None:
    values = {"bool": "false", "int": "7", "float": "0.5", "str": "x", "Path": "x.txt"}
    special = {
        "text.tokenizer": "words",
        "model.preset": "tiny",
        "train.precision": "float32",
        "train.optimizer": "adamw",
        "train.engine": "torch",
        "model.rope-base": "2.5",
    }
    field = dict(dotted_fields(Settings))[name]
    kind = next((key for key in values if key in str(field.annotation)), "str")
    given_value = special.get(name, values[kind])
    settings: Any = resolve(Settings, environment={environment_name(name): given_value})
    for part in name.replace("-", "_").split("."):
        settings = getattr(settings, part)
    [shown] = settings if isinstance(settings, tuple) else [settings]
    assert str(shown).lower() == given_value


def test_environment_names_are_as_documented() -> None:
    assert environment_name("train.batch-size") == "CLLM_TRAIN__BATCH_SIZE"
    assert environment_name("max-tokens") == "CLLM_MAX_TOKENS"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert resolve(Settings, environment={"CLLM_TRAIN__SEED": ""}).train.seed == 0


def test_a_list_in_the_environment_has_one_entry_a_line() -> None:
    settings = resolve(GenerateSettings, environment={"CLLM_STOP": "User:\nBot:"})
    assert settings.stop == ("User:", "Bot:")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.batchsize", "train.batch-size"),
        ("trian.steps", "train.steps"),
        ("model.layer", "model.layers"),
        ("learning-rate", "train.learning-rate"),
        ("text.vocabsize", "text.vocab-size"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(Settings, {key: 1})
    assert f"Did you mean '{nearest}'?" == caught.value.hint
    assert repr(key) in caught.value.message


def test_an_unknown_key_in_toml_names_the_file(tmp_path: Path) -> None:
    toml = tmp_path / "settings.toml"
    toml.write_text("[train]\nstep = 5\n")
    with pytest.raises(SettingsError, match=r"unknown setting 'train\.step'") as caught:
        resolve(Settings, toml=toml)
    assert caught.value.where == str(toml)
    assert caught.value.hint == "Did you mean 'train.steps'?"


@pytest.mark.parametrize("content", ["[train\n", "train = \xff", "x = 1 = 2"])
def test_a_broken_toml_file_is_named(tmp_path: Path, content: str) -> None:
    toml = tmp_path / "broken.toml"
    toml.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError, match="not valid TOML") as caught:
        resolve(Settings, toml=toml)
    assert caught.value.where == str(toml)


def test_a_missing_toml_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        resolve(Settings, toml=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("overrides", "environment", "where"),
    [
        ({"train.steps": -1}, {}, "--train.steps"),
        ({"model.width": 0}, {}, "--model.width"),
        ({"text.tokenizer": "nope"}, {}, "--text.tokenizer"),
        ({}, {"CLLM_TRAIN__MINUTES": "soon"}, "CLLM_TRAIN__MINUTES"),
        ({}, {"CLLM_TEXT__VAL_FRACTION": "1.5"}, "CLLM_TEXT__VAL_FRACTION"),
    ],
)
def test_a_bad_value_names_its_source(
    overrides: dict[str, Any], environment: dict[str, str], where: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(Settings, overrides, environment=environment)
    assert caught.value.where == where
    assert caught.value.exit_code == 2


def test_settings_can_not_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().train.seed = 5  # type: ignore[misc]


_values = {
    "train.seed": st.integers(0, 2**63 - 1),
    "train.batch-size": st.integers(1, 10**6),
    "train.minutes": st.floats(0.001, 1e6),
    "text.near-duplicates": st.booleans(),
    "text.tokenizer": st.sampled_from(["bpe", "words", "characters", "bytes"]),
    "train.device": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
}


@given(st.fixed_dictionaries({}, optional=_values))
def test_settings_survive_the_disk(overrides: dict[str, Any]) -> None:
    settings = resolve(Settings, overrides)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    for name, value in overrides.items():
        section, leaf = name.replace("-", "_").split(".")
        assert getattr(getattr(settings, section), leaf) == value


def test_choices_are_those_of_the_alias() -> None:
    assert "bpe" in choices(
        Settings.model_fields["text"].annotation.model_fields["tokenizer"].annotation
    )  # type: ignore[union-attr]
