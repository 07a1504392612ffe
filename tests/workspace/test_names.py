"""Names never lead out of the folder they are kept in."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cllm.errors import CllmError, InvalidNameError
from cllm.workspace.models import ModelStore
from cllm.workspace.names import check_name, is_name, slug

# What has led out of folders elsewhere: separators, parents, drives, streams, devices.
_TRICKS = ["../x", "..", ".", "/etc", "a/b", "a\\b", "C:x", "a:b", "x\0y", "con", "NUL.txt", "a."]
_hostile = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="./\\:~ab-_\0\n ", max_size=12),
    st.sampled_from(_TRICKS),
)


@given(_hostile)
@example("a..b")
@example("a\n")
def test_an_accepted_name_stays_directly_below_the_root(name: str) -> None:
    root = Path("/somewhere/models")
    try:
        checked = check_name(name, "model")
    except InvalidNameError:
        return
    resolved = (root / checked).resolve()
    assert resolved.parent == root.resolve()
    assert resolved.name == name


@pytest.mark.parametrize("name", [*_TRICKS, "", " ", "a b", ".hidden", "-flag", "é", "a" * 65])
def test_dangerous_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        check_name(name, "model")


@pytest.mark.parametrize("name", ["a", "My-Stories_2.5", "0", "a" * 64, "console"])
def test_ordinary_names_are_accepted(name: str) -> None:
    assert check_name(name, "model") == name


@given(st.text(max_size=200))
@example("con")
@example("x" * 63 + "..")
def test_a_name_made_from_any_text_is_allowed(text: str) -> None:
    assert is_name(slug(text))


def test_refusal_offers_a_corrected_name() -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name("../My Stories", "model")
    assert caught.value.exit_code == 2
    assert "For example: My-Stories" in str(caught.value)


@given(name=_hostile)
def test_no_operation_of_a_store_touches_anything_outside(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    base = tmp_path_factory.getbasetemp() / "names"
    root = base / "models"
    (base / "x").mkdir(parents=True, exist_ok=True)
    (base / "x" / "config.json").write_text("{}")
    root.mkdir(exist_ok=True)
    store = ModelStore(root)
    for operation in (store.path, store.remove, store.check, store.describe):
        with pytest.raises(CllmError):
            operation(name)
    assert (base / "x" / "config.json").is_file()
    assert list(root.iterdir()) == []
