"""Models as pages and programs handle them: nothing is lost without a way back."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from tests.random_models import small_spec

from cllm.errors import (
    ExistsError,
    InputError,
    InvalidNameError,
    NotFoundError,
    SettingsError,
)
from cllm.files import write_folder, write_json
from cllm.jobs import model_exchange as exchange
from cllm.jobs import model_service as service
from cllm.jobs.request import Request
from cllm.model import initial_weights, save_model
from cllm.text.tokenizers.training import train_tokenizer
from cllm.workspace.workspace import Workspace


@pytest.fixture
def workspace(home):
    return Workspace(home)


def make_model(workspace, name, *, seed=1, **training):
    """A model with random weights, as training leaves one."""
    text = "the fox sleeps near the river and the moon sings over the mountain " * 40
    tokenizer = train_tokenizer(
        "characters", lambda: iter([text]), vocab_size=None, num_characters=len(text)
    )
    spec = small_spec(tokenizer.vocab_size, layers=1, kv_heads=4, context=64)
    told = {"model": name, "figures": {"val_bits_per_byte": 2.5, "run": "r1"}, **training}
    with write_folder(workspace.models.root / name) as folder:
        save_model(folder, spec, initial_weights(spec, seed=seed))
        tokenizer.save(folder, context=spec.context)
        write_json(folder / "generation_config.json", {"eos_token_id": 0, "do_sample": True})
        (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n\n# A model\n")
        write_json(folder / "training.json", told)
    return workspace.models.path(name)


def weights(workspace, name):
    return (workspace.models.path(name) / "model.safetensors").read_bytes()


def test_a_card_says_what_a_model_is(workspace):
    make_model(workspace, "m", sources=["notes.txt"], train_bytes=1234)
    run = workspace.home / "runs" / "r1"
    write_json(run / "result.json", {"prompt": "The", "last_sample": " fox"})
    [card] = service.list_cards(workspace)
    assert card == service.model_card(workspace, "m")
    assert (card.name, card.bits_per_byte, card.context) == ("m", 2.5, 64)
    assert (card.sources, card.train_bytes) == (("notes.txt",), 1234)
    assert (card.prompt, card.sample, card.is_last_used) == ("The", " fox", True)
    assert not card.is_chat and not card.is_quantised and card.problem is None
    assert card.num_bytes > 4 * (card.num_parameters or 0) > 0
    assert json.loads(json.dumps(card.to_json()))["modified"].startswith("20")


def test_an_older_model_names_its_sources_by_its_run(workspace):
    from cllm.config import Settings

    make_model(workspace, "m")
    (workspace.home / "runs" / "r1").mkdir(parents=True)
    Request(("/somewhere/tales.txt",), "m", Settings()).save(workspace.home / "runs" / "r1")
    assert service.model_card(workspace, "m").sources == ("tales.txt",)


def test_a_damaged_model_is_still_shown(workspace):
    folder = make_model(workspace, "m")
    (folder / "training.json").write_text("{")
    [card] = service.list_cards(workspace)
    assert card.problem is not None and card.bits_per_byte is None


def test_the_last_used_model_is_remembered_and_never_one_that_is_gone(workspace):
    assert service.last_used_model(workspace) is None
    make_model(workspace, "a")
    make_model(workspace, "b")
    service.note_used(workspace, "a")
    assert service.last_used_model(Workspace(workspace.home)) == "a"
    service.rename_model(workspace, "a", "c")
    assert service.last_used_model(workspace) == "c"
    service.delete_model(workspace, "c")
    assert service.last_used_model(workspace) == "b"
    with pytest.raises(NotFoundError):
        service.note_used(workspace, "c")


def test_a_renamed_model_keeps_its_conversations_and_defaults(workspace):
    folder = make_model(workspace, "a")
    before = weights(workspace, "a")
    service.write_defaults(workspace, "a", {"temperature": 0.5})
    talk = workspace.conversations.create(model="a").id
    assert service.rename_model(workspace, "a", "b").name == "b"
    assert not folder.exists() and weights(workspace, "b") == before
    assert service.read_defaults(workspace, "b") == {"temperature": 0.5}
    assert workspace.conversations.get(talk).model == "b"
    make_model(workspace, "a")
    assert service.read_defaults(workspace, "a") == {}
    with pytest.raises(ExistsError):
        service.rename_model(workspace, "a", "b")
    with pytest.raises(InvalidNameError):
        service.rename_model(workspace, "a", "../b")


def test_a_deleted_model_comes_back_under_a_free_name(workspace):
    make_model(workspace, "m", seed=1)
    first = weights(workspace, "m")
    entry = service.delete_model(workspace, "m")
    assert service.list_cards(workspace) == []
    assert service.list_trash(workspace) == [entry]
    make_model(workspace, "m", seed=2)
    assert service.restore(workspace, entry.id) == "m-2"
    assert weights(workspace, "m-2") == first != weights(workspace, "m")
    workspace.models.check("m-2")
    with pytest.raises(NotFoundError):
        service.restore(workspace, entry.id)


def test_saving_over_a_model_leaves_the_old_one_in_the_trash(workspace):
    make_model(workspace, "a", seed=1)
    make_model(workspace, "b", seed=2)
    old = weights(workspace, "b")
    with pytest.raises(ExistsError):
        service.save_as(workspace, "a", "b")
    workspace.conversations.create(model="b")
    lost = service.what_is_lost(workspace, "b")
    assert (lost["name"], lost["bits_per_byte"], lost["conversations"]) == ("b", 2.5, 1)
    service.save_as(workspace, "a", "b", overwrite=True)
    assert weights(workspace, "b") == weights(workspace, "a") != old
    [entry] = service.list_trash(workspace)
    assert weights(workspace, service.restore(workspace, entry.id)) == old
    assert service.duplicate_model(workspace, "a").name == "a-2"
    assert service.what_is_lost(workspace, "free") is None
    with pytest.raises(ExistsError):
        service.save_as(workspace, "a", "a", overwrite=True)


def test_a_copy_that_fails_gives_the_old_model_back(workspace):
    folder = make_model(workspace, "a")
    make_model(workspace, "b", seed=2)
    old = weights(workspace, "b")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(Exception, match="truncated or altered"):
        service.save_as(workspace, "a", "b", overwrite=True)
    assert weights(workspace, "b") == old
    assert service.list_trash(workspace) == []


def test_emptying_the_trash_leaves_a_model_that_is_being_replaced(workspace):
    make_model(workspace, "story")
    old = weights(workspace, "story")
    gone = service.delete_model(workspace, service.duplicate_model(workspace, "story").name)
    with (
        pytest.raises(ZeroDivisionError),
        service.replacing(workspace, "story", overwrite=True) as lent,
    ):
        assert service.list_trash(workspace) == [gone]
        assert service.remove_deleted(workspace, [lent.id]) == 0
        assert workspace.trash.purge(days=0.0) == 1
        raise ZeroDivisionError
    assert weights(workspace, "story") == old
    assert service.list_trash(workspace) == []


def test_what_went_wrong_is_told_also_when_nothing_can_be_given_back(workspace):
    make_model(workspace, "m")
    with (
        pytest.raises(ZeroDivisionError),
        service.replacing(workspace, "m", overwrite=True),
    ):
        shutil.rmtree(workspace.trash.root)
        raise ZeroDivisionError


def test_where_the_name_is_taken_the_old_model_is_found_in_the_trash(workspace):
    make_model(workspace, "m")
    old = weights(workspace, "m")
    with (
        pytest.raises(ZeroDivisionError),
        service.replacing(workspace, "m", overwrite=True),
    ):
        make_model(workspace, "m", seed=2)
        raise ZeroDivisionError
    [entry] = service.list_trash(workspace)
    assert weights(workspace, service.restore(workspace, entry.id)) == old


def test_a_linked_model_is_deleted_and_restored(workspace):
    folder = make_model(workspace, "m")
    folder.rename(workspace.home / "far")
    (workspace.models.root / "linked").symlink_to("../far")
    before = weights(workspace, "linked")
    service.delete_model(workspace, "linked")
    [entry] = service.list_trash(workspace)
    assert service.restore(workspace, entry.id) == "linked"
    assert weights(workspace, "linked") == before


@pytest.mark.parametrize("told", ['{"sources": 5}', '{"sources": {}}', "[]"])
def test_a_card_of_odd_files_is_shown(workspace, told):
    folder = make_model(workspace, "m")
    (folder / "training.json").write_text(told)
    [card] = service.list_cards(workspace)
    assert card.sources == ()


def test_a_model_that_a_training_goes_on_with_stays(workspace):
    from cllm.config import Settings

    make_model(workspace, "m")
    run = workspace.runs.create("n", {})
    Request((), "n", Settings(), from_model="m").save(run.folder)
    for call in (
        lambda: service.delete_model(workspace, "m"),
        lambda: service.rename_model(workspace, "m", "other"),
    ):
        with pytest.raises(ExistsError, match="goes on with"):
            call()
    workspace.runs.update(run.id, state="finished")
    service.delete_model(workspace, "m")


def test_defaults_are_settings(workspace):
    make_model(workspace, "m")
    assert service.write_defaults(workspace, "m", {"top-k": 5, "temperature": 1}) == {
        "temperature": 1.0,
        "top_k": 5,
    }
    with pytest.raises(SettingsError, match="temperatur"):
        service.write_defaults(workspace, "m", {"temperatur": 1})
    assert service.read_defaults(workspace, "m") == {"temperature": 1.0, "top_k": 5}
    service.write_defaults(workspace, "m", {})
    assert service.read_defaults(workspace, "m") == {}


def test_an_export_is_imported_again_as_the_same_model(workspace):
    make_model(workspace, "m")
    made = exchange.export_model(workspace, "m", "numpy")
    path = exchange.export_path(workspace, made["file"])
    assert path.parent == workspace.home / "exports"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"m-numpy"}
    assert any(name.endswith("model.py") for name in names)
    folder = workspace.models.path("m")
    found = exchange.import_model(workspace, folder, name="again")
    assert found["model"] == "again"
    from safetensors.numpy import load_file

    one, two = (
        load_file(workspace.models.path(name) / "model.safetensors") for name in ("m", "again")
    )
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("odd", ["../m", "", "m", ".hidden", "/etc/passwd", "exports/../x"])
def test_an_export_is_only_found_by_its_name(workspace, odd):
    (workspace.home / "exports").mkdir(parents=True)
    (workspace.home / "exports" / ".hidden").write_text("x")
    with pytest.raises(NotFoundError):
        exchange.export_path(workspace, odd)


def test_what_can_not_be_imported_or_exported_says_why(workspace, tmp_path):
    make_model(workspace, "m")
    kept = weights(workspace, "m")
    (tmp_path / "no-model").mkdir()
    with pytest.raises(InputError, match=r"config\.json"):
        exchange.import_model(workspace, tmp_path / "no-model", name="m", overwrite=True)
    assert weights(workspace, "m") == kept
    with pytest.raises(NotFoundError):
        exchange.import_model(workspace, tmp_path / "nothing")
    with pytest.raises(SettingsError):
        exchange.export_model(workspace, "m", "gguf", dtype="../../x")
    with pytest.raises(InputError, match="float7"):
        exchange.export_model(workspace, "m", "hf", dtype="float7")
    with pytest.raises(NotFoundError):
        exchange.export_model(workspace, "none", "hf")


def test_a_smaller_model_is_made(workspace, cllm_command, tmp_path):
    (tmp_path / "text.txt").write_text("the fox sleeps near the river and the moon sings\n" * 200)
    done = cllm_command(
        "train", tmp_path / "text.txt", "--name", "m", "--steps", 3, "--preset", "tiny",
        "--context", 32, "--train.sample-tokens", 0, "--text.exact-duplicates=false",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    make_model(workspace, "m-8bit")
    with pytest.raises(ExistsError):
        exchange.quantise_model(workspace, "m", bits=8)
    made = exchange.quantise_model(workspace, "m", bits=8, overwrite=True)
    assert made["model"] == "m-8bit" and made["num_bytes"] < made["num_bytes_before"]
    assert service.model_card(workspace, "m-8bit").is_quantised
    [replaced] = service.list_trash(workspace)
    assert replaced.name == "m-8bit"


def test_what_can_not_be_quantised_says_why(workspace):
    make_model(workspace, "m")
    with pytest.raises(SettingsError):
        exchange.quantise_model(workspace, "m", bits=2, method="gptq")
    with pytest.raises(SettingsError):
        exchange.quantise_model(workspace, "m", new_name="m", overwrite=True)
    with pytest.raises(NotFoundError):
        exchange.quantise_model(workspace, "none")
