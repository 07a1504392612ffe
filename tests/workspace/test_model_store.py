"""Models on disk: listed when copied in by hand, whole or not at all, checked by checksum."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from cllm.errors import ExistsError, IntegrityError, NotFoundError
from cllm.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def _fill(folder: Path, text: str = "weights") -> None:
    (folder / "config.json").write_text(json.dumps({"hidden_size": 64, "vocab_size": 300}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [300, 64], "data_offsets": [0, 4]}})
    data = struct.pack("<Q", len(header)) + header.encode() + text.encode()
    (folder / "model.safetensors").write_bytes(data)


def _make(workspace: Workspace, name: str, text: str = "weights") -> Path:
    with workspace.models.write(name) as folder:
        _fill(folder, text)
    return workspace.models.path(name)


def test_a_new_workspace_is_empty_and_nothing_is_made(workspace: Workspace) -> None:
    assert list(workspace.models.list()) == []
    assert not workspace.home.exists()


def test_a_written_model_is_listed_with_what_its_files_say(workspace: Workspace) -> None:
    _make(workspace, "stories")
    (record,) = workspace.models.list()
    assert (record.name, record.width, record.vocab_size) == ("stories", 64, 300)
    assert record.num_parameters == 300 * 64
    assert record.problem is None


def test_a_model_copied_in_by_hand_is_listed(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _fill(elsewhere)
    shutil.copytree(elsewhere, workspace.models.root / "foreign")
    (record,) = workspace.models.list()
    assert record.name == "foreign"
    assert "no manifest" in str(record.problem)
    assert workspace.models.path("foreign").is_dir()


def test_a_failing_write_leaves_nothing_behind(workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), workspace.models.write("half") as folder:
        _fill(folder)
        raise ZeroDivisionError
    assert list(workspace.models.root.iterdir()) == []


def test_an_existing_model_survives_a_failing_overwrite(workspace: Workspace) -> None:
    _make(workspace, "stories", "first")
    with (
        pytest.raises(ZeroDivisionError),
        workspace.models.write("stories", overwrite=True) as folder,
    ):
        _fill(folder, "second")
        raise ZeroDivisionError
    assert (workspace.models.path("stories") / "model.safetensors").read_bytes().endswith(b"first")
    workspace.models.check("stories")


def test_an_existing_name_is_refused_before_any_work(workspace: Workspace) -> None:
    _make(workspace, "stories")
    with pytest.raises(ExistsError) as caught, workspace.models.write("stories"):
        pytest.fail("the block must not run")
    assert "--overwrite" in str(caught.value)


def test_overwriting_replaces_the_whole_folder(workspace: Workspace) -> None:
    path = _make(workspace, "stories")
    (path / "left-over.txt").write_text("old")
    with workspace.models.write("stories", overwrite=True) as folder:
        _fill(folder, "new")
    assert not (path / "left-over.txt").exists()
    workspace.models.check("stories")


def test_an_altered_file_is_named_with_its_checksum(workspace: Workspace) -> None:
    path = _make(workspace, "stories") / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="SHA-256") as caught:
        workspace.models.check("stories")
    assert "model.safetensors" in str(caught.value.where)


def test_a_truncated_file_shows_in_the_list(workspace: Workspace) -> None:
    path = _make(workspace, "stories") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2])
    (record,) = workspace.models.list()
    assert record.problem == "model.safetensors is truncated or altered"


@pytest.mark.parametrize(
    "header",
    ["[1]", "3", '{"w": []}', '{"w": {"shape": [Infinity]}}', "[" * 200_000, "\xff"],
    ids=["list", "number", "no shape", "endless", "deep", "no text"],
)
@pytest.mark.parametrize("name", ["model.safetensors", "training.json", "manifest.json"])
def test_one_odd_file_does_not_hide_the_other_models(
    workspace: Workspace, name: str, header: str
) -> None:
    _make(workspace, "good")
    data = header.encode("latin-1")
    if name == "model.safetensors":
        data = struct.pack("<Q", len(data)) + data
    (_make(workspace, "odd") / name).write_bytes(data)
    good, odd = workspace.models.list()
    assert (good.name, good.num_parameters, good.problem) == ("good", 300 * 64, None)
    assert odd.name == "odd" and (odd.problem or name == "training.json")
    assert odd.num_parameters == (None if name == "model.safetensors" else 300 * 64)


def test_figures_that_are_no_numbers_are_not_shown(workspace: Workspace) -> None:
    for number, text in enumerate(["NaN", "-Infinity", "1" + "0" * 400, "true", '"2.5"']):
        path = _make(workspace, f"m{number}") / "training.json"
        path.write_text(f'{{"figures": {{"val_bits_per_byte": {text}}}}}')
    assert [record.val_bits_per_byte for record in workspace.models.list()] == [None] * 5


def test_a_missing_model_names_the_nearest(workspace: Workspace) -> None:
    _make(workspace, "stories")
    with pytest.raises(NotFoundError, match="Did you mean stories"):
        workspace.models.path("storys")


def test_copy_and_remove(workspace: Workspace) -> None:
    _make(workspace, "a")
    workspace.models.copy("a", "b")
    workspace.models.check("b")
    with pytest.raises(ExistsError):
        workspace.models.copy("a", "b")
    workspace.models.remove("a")
    assert [record.name for record in workspace.models.list()] == ["b"]
    assert [path.name for path in workspace.models.root.iterdir()] == ["b"]


def test_a_damaged_model_is_not_copied(workspace: Workspace) -> None:
    path = _make(workspace, "a") / "config.json"
    path.write_text(path.read_text().replace("64", "65"))
    with pytest.raises(IntegrityError):
        workspace.models.copy("a", "b")
    assert not workspace.models.exists("b")


def test_removing_a_linked_model_leaves_what_it_links_to(
    workspace: Workspace, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _fill(elsewhere)
    workspace.models.root.mkdir(parents=True)
    (workspace.models.root / "linked").symlink_to(elsewhere)
    workspace.models.remove("linked")
    assert not workspace.models.exists("linked")
    assert (elsewhere / "config.json").is_file()


def test_free_names_count_up(workspace: Workspace) -> None:
    assert workspace.models.free_name("My Stories") == "My-Stories"
    _make(workspace, "My-Stories")
    _make(workspace, "My-Stories-2")
    assert workspace.models.free_name("My Stories") == "My-Stories-3"
