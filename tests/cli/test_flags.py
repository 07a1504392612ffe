"""Flags: every setting by its dotted name, short names where the schema gives one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cyclopts import App, CycloptsError

from cllm.cli.flags import ConfigFlag, Place, read_settings, with_settings
from cllm.config import GenerateSettings, Settings, dotted_fields
from cllm.errors import SettingsError


def _parse(*tokens: str, schema: type = Settings, sections: tuple[str, ...] = ()) -> dict[str, Any]:
    app = App(name="try")
    seen: dict[str, Any] = {}

    @app.default
    @with_settings(schema, sections=sections)
    def command(
        *places: Place, config: ConfigFlag = None, flag: bool = False, overrides: dict[str, Any]
    ) -> None:
        seen.update(places=places, config=config, flag=flag, overrides=overrides)

    app(list(tokens), exit_on_error=False, print_error=False, result_action="return_value")
    return seen


def test_only_the_given_flags_are_overrides() -> None:
    seen = _parse("a.txt", "folder", "--steps", "7", "--model.width", "96", "--flag")
    assert seen["places"] == ("a.txt", "folder")
    assert seen["flag"] is True
    assert seen["overrides"] == {"train.steps": 7, "model.width": 96}


@pytest.mark.parametrize("name", [name for name, _ in dotted_fields(Settings)])
def test_every_setting_is_a_flag(name: str) -> None:
    annotation = str(dict(dotted_fields(Settings))[name].annotation)
    value = {
        "text.tokenizer": "bytes",
        "model.preset": "tiny",
        "train.precision": "float32",
        "train.optimizer": "adamw",
        "train.engine": "torch",
    }
    if "bool" in annotation:
        section, _, leaf = name.partition(".")
        assert _parse(f"--{name}")["overrides"] == {name: True}
        assert _parse(f"--{section}.no-{leaf}")["overrides"] == {name: False}
        return
    text = value.get(name, "3")
    overrides = _parse(f"--{name}", text)["overrides"]
    # A flag that may be given several times makes a list.
    [found] = [item[0] if isinstance(item, list) else item for item in overrides.values()]
    assert str(found).removesuffix(".0") == text
    assert list(overrides) == [name]


@pytest.mark.parametrize(
    ("short", "dotted"),
    [
        ("--steps=4", "train.steps"),
        ("--minutes=4", "train.minutes"),
        ("--seed=4", "train.seed"),
        ("--context=4", "model.context"),
        ("--vocab-size=4", "text.vocab-size"),
    ],
)
def test_short_names(short: str, dotted: str) -> None:
    assert _parse(short)["overrides"] == {dotted: 4}


def test_strings_may_begin_with_a_dash_and_repeat() -> None:
    seen = _parse("--stop", "-a", "--stop", "b", "--temperature", "0", schema=GenerateSettings)
    assert seen["overrides"] == {"stop": ["-a", "b"], "temperature": 0.0}
    assert read_settings(GenerateSettings, seen["overrides"]).stop == ("-a", "b")


def test_a_dash_is_standard_input_but_an_unknown_flag_is_an_error() -> None:
    assert _parse("-", "--steps", "3")["places"] == ("-",)
    with pytest.raises(CycloptsError, match="Unknown option: --stpes"):
        _parse("-", "--stpes", "3")


@pytest.mark.parametrize("tokens", [("--steps", "x"), ("--tokenizer", "nope"), ("--context",)])
def test_a_malformed_value_names_its_flag(tokens: tuple[str, ...]) -> None:
    with pytest.raises(CycloptsError, match=tokens[0]):
        _parse(*tokens)


def test_sections_leave_the_others_out() -> None:
    assert _parse("--tokenizer", "bytes", sections=("text",))["overrides"]
    with pytest.raises(CycloptsError):
        _parse("--steps", "3", sections=("text",))


def test_flag_wins_over_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = tmp_path / "settings.toml"
    toml.write_text("[train]\nsteps = 1\nseed = 1\n[model]\nwidth = 64\n")
    monkeypatch.setenv("CLLM_TRAIN__STEPS", "2")
    monkeypatch.setenv("CLLM_TRAIN__SEED", "2")
    seen = _parse("--config", str(toml), "--steps", "3")
    settings = read_settings(Settings, seen["overrides"], config=seen["config"])
    assert (settings.train.steps, settings.train.seed, settings.model.width) == (3, 2, 64)


def test_an_error_names_the_flag_as_people_type_it() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(Settings, _parse("--minutes", "-3")["overrides"])
    assert caught.value.where == "--minutes"
    with pytest.raises(SettingsError) as caught:
        read_settings(Settings, _parse("--train.clip", "-3")["overrides"])
    assert caught.value.where == "--train.clip"
