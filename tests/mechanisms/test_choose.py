"""What a person writes after --with, in TOML or in Python."""

import pytest

from cllm.config import Settings, resolve
from cllm.errors import SettingsError
from cllm.model.mechanisms.catalogue import NAMES, SETS, mechanism
from cllm.model.mechanisms.choose import choose, from_records, items_of, to_records


def names(items):
    return [part.name for part in choose(items)]


def test_a_name_switches_on_and_a_setting_does_too():
    [gamma] = choose(["gamma"])
    assert (gamma.name, gamma.kind) == ("gamma", "gate")
    [schumann] = choose(["schumann.kind=static"])
    assert (schumann.name, schumann.kind) == ("schumann", "static")


def test_order_is_that_of_acting_whatever_was_written_first():
    assert names(["gamma", "ngram", "dampening"]) == ["ngram", "dampening", "gamma"]


def test_lists_numbers_and_truth_values_are_read():
    [ngram] = choose(["ngram.orders=2,3,4", "ngram.rate=0.1", "ngram.placebo=true"])
    assert (ngram.orders, ngram.rate, ngram.placebo) == ((2, 3, 4), 0.1, True)
    [one] = choose(["ngram.orders=2"])
    assert one.orders == (2,)


def test_a_set_is_its_members_and_a_setting_of_it_goes_to_each():
    members = {item.partition(".")[0] for item in SETS["crystal"]}
    assert set(names(["crystal"])) == members
    assert all(part.placebo for part in choose(["crystal.placebo=true"]))
    assert names(["none"]) == []


def test_a_later_item_wins():
    [part] = choose(["schumann.kind=static", "schumann.kind=forget"])
    assert part.kind == "forget"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["ngrma"], ["'ngrma'", "Did you mean 'ngram'"]),
        (["ngram.rows=-3"], ["ngram.rows", "-3"]),
        (["gamma.knd=gate"], ["'knd'", "'kind'"]),
        (["gamma.kind"], ["gamma.kind", "NAME.SETTING=VALUE"]),
        (["dampening.lags=99"], ["dampening.lags", "1 to 16"]),
        (["ngram.orders=1"], ["ngram.orders", "from 2 on"]),
        (["resonance.terms=root,root"], ["resonance.terms", "different"]),
        (["gamma=1"], ["NAME.SETTING=VALUE"]),
        (["golden", "plimpton"], ["golden", "plimpton", "rotary"]),
        (["dampening", "lattice_transform"], ["dampening", "lattice_transform", "channel"]),
    ],
)
def test_what_can_not_be_says_what_and_what_to_do(items, words):
    with pytest.raises(SettingsError) as raised:
        choose(items)
    for word in words:
        assert word in str(raised.value)


def test_settings_survive_being_written_down():
    chosen = choose(["ngram.orders=2,3", "ngram.rate=0.02", "schumann.kind=static", "gamma"])
    assert choose(items_of(chosen)) == chosen
    assert from_records(to_records(chosen)) == chosen
    assert choose(items_of(())) == ()


def test_toml_flags_and_python_say_the_same(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(
        '[model.mechanisms.ngram]\norders = [2, 3]\n[model.mechanisms.schumann]\nkind = "static"\n'
    )
    wanted = choose(["ngram.orders=2,3", "schumann.kind=static"])
    assert choose(resolve(Settings, toml=path).model.mechanisms) == wanted
    path.write_text('[model]\nmechanisms = ["ngram.orders=2,3", "schumann.kind=static"]\n')
    assert choose(resolve(Settings, toml=path).model.mechanisms) == wanted
    given = {"model.mechanisms": ["ngram.orders=2,3", "schumann.kind=static"]}
    assert choose(resolve(Settings, given).model.mechanisms) == wanted


def test_toml_switches_on_and_off_by_truth_values(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("[model.mechanisms]\nngram = true\ngamma = false\n")
    assert names(resolve(Settings, toml=path).model.mechanisms) == ["ngram"]
    path.write_text("[model.mechanisms]\ngamma = false\n")
    assert names(resolve(Settings, toml=path).model.mechanisms) == []
    path.write_text('[model.mechanisms]\ngamma = "clock"\n')
    with pytest.raises(SettingsError, match=r"model\.mechanisms\.gamma.*clock"):
        resolve(Settings, toml=path)


def test_the_environment_lists_them_by_lines():
    environment = {"CLLM_MODEL__MECHANISMS": "ngram.orders=2,3\ngamma"}
    found = resolve(Settings, environment=environment).model.mechanisms
    assert names(found) == ["ngram", "gamma"]


def test_a_model_on_disk_with_mechanisms_that_can_not_be_is_refused():
    with pytest.raises(SettingsError, match="no mechanism 'nothing'"):
        from_records([{"name": "nothing"}])
    with pytest.raises(SettingsError, match="golden and plimpton"):
        from_records([{"name": "golden"}, {"name": "plimpton"}])


def test_every_mechanism_says_what_it_is():
    for name in NAMES:
        kind = mechanism(name)
        assert kind.name == name
        text = kind.__doc__ or ""
        assert "Source:" in text and "Status:" in text and "Placebo:" in text, name
        assert kind.title and kind.cost and kind.control
        assert kind().export in ("folds", "refuses", "training")
        for other in kind().excludes:
            assert other in NAMES
