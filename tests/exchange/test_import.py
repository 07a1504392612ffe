"""`cllm import`: what comes of it is a model like any other."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
from model_folders import make_model

from cllm.errors import ExistsError, InputError, InvalidNameError, NotFoundError
from cllm.export.gguf_writer import write_gguf
from cllm.export.huggingface import write_huggingface
from cllm.files import check_manifest, read_json
from cllm.jobs.evaluate import evaluate
from cllm.jobs.import_model import import_model
from cllm.jobs.models import show_model
from cllm.jobs.workspace import open_workspace
from cllm.model import load_model, load_weights
from cllm.text.tokenizers import Tokenizer


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """One model as a folder (`hf`) and as a file (`m.gguf`), beside its own (`model`)."""
    make_model(tmp_path / "model", shape="llama")
    write_huggingface(tmp_path / "model", tmp_path / "hf")
    write_gguf(tmp_path / "model", tmp_path / "m.gguf")
    return tmp_path


@pytest.mark.parametrize("source", ["hf", "m.gguf"])
def test_an_imported_model_is_a_model_of_the_workspace(source, exported, home):
    workspace = open_workspace()
    result = import_model(workspace, exported / source, name="taken")
    folder = workspace.models.path("taken")
    check_manifest(folder)
    assert show_model(workspace, "taken")["problem"] is None
    spec, weights = load_weights(folder)
    assert spec == load_model(exported / "model").spec
    _, wanted = load_weights(exported / "model")
    assert all(np.array_equal(weights[name], wanted[name]) for name in wanted)
    assert Tokenizer.load(folder).kind == "bpe"
    assert (result.architecture, result.num_parameters) == ("Llama", spec.num_parameters)
    (record,) = [one for one in workspace.models.list() if one.name == "taken"]
    assert record.tokenizer == "bpe"
    assert record.num_parameters == spec.num_parameters


def test_an_imported_model_is_measured_as_the_one_it_comes_from(exported, home):
    workspace = open_workspace()
    import_model(workspace, exported / "m.gguf", name="a")
    import_model(workspace, exported / "model", name="b")
    (exported / "text.txt").write_text("The quick fox sleeps. " * 20)
    scores = [
        evaluate(name, [exported / "text.txt"], workspace=workspace).total.bits_per_byte
        for name in ("a", "b")
    ]
    assert scores[0] == scores[1] > 0


def test_an_imported_model_is_exported_again_as_it_came(exported, home):
    workspace = open_workspace()
    import_model(workspace, exported / "m.gguf", name="a")
    write_gguf(workspace.models.path("a"), exported / "again.gguf")
    # The file ends in numbers, and begins with what is the same but for the name.
    first, second = (exported / "m.gguf").read_bytes(), (exported / "again.gguf").read_bytes()
    assert second[-100_000:] == first[-100_000:]
    names = [(5).to_bytes(8, "little") + b"model", (1).to_bytes(8, "little") + b"a"]
    kept = [text[:200].partition(b"general.name")[2][4:] for text in (first, second)]
    assert [text.startswith(name) for text, name in zip(kept, names, strict=True)] == [True, True]


def test_names_are_made_or_checked_before_any_work(exported, home):
    workspace = open_workspace()
    assert import_model(workspace, exported / "m.gguf").model == "m"
    assert import_model(workspace, exported / "m.gguf").model == "m-2"
    with pytest.raises(ExistsError):
        import_model(workspace, exported / "missing", name="m")
    with pytest.raises(InvalidNameError):
        import_model(workspace, exported / "m.gguf", name="../m")
    assert import_model(workspace, exported / "hf", name="m", overwrite=True).model == "m"


def test_a_failed_import_leaves_what_was_there(exported, home):
    workspace = open_workspace()
    import_model(workspace, exported / "hf", name="m")
    before = read_json(workspace.models.path("m") / "manifest.json")
    data = bytearray((exported / "m.gguf").read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    (exported / "m.gguf").write_bytes(data)
    with pytest.raises(Exception, match="not finite"):
        import_model(workspace, exported / "m.gguf", name="m", overwrite=True)
    check_manifest(workspace.models.path("m"))
    assert read_json(workspace.models.path("m") / "manifest.json") == before
    assert [one.name for one in workspace.models.root.iterdir()] == ["m"]


def test_a_smaller_context_is_kept(exported, home):
    workspace = open_workspace()
    import_model(workspace, exported / "hf", name="m", context=64)
    assert load_model(workspace.models.path("m")).spec.context == 64
    for wrong in (0, 129):
        with pytest.raises(InputError, match="context"):
            import_model(workspace, exported / "hf", name="n", context=wrong)


def test_sources_that_are_none(exported, home):
    workspace = open_workspace()
    with pytest.raises(NotFoundError):
        import_model(workspace, exported / "nothing")
    (exported / "empty").mkdir()
    with pytest.raises(InputError, match=r"config\.json"):
        import_model(workspace, exported / "empty")
    with pytest.raises(InputError, match="neither"):
        import_model(workspace, exported / "hf" / "model.safetensors")


def test_a_model_beyond_this_machines_memory_is_refused_at_once(exported, home, monkeypatch):
    """A sparse file may truly have the size that its header claims."""

    class Memory:
        total = 1000

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    with pytest.raises(InputError, match="this machine has"):
        import_model(open_workspace(), exported / "hf")


def test_the_command_says_what_it_took_in(exported, cllm_command):
    done = cllm_command("import", exported / "hf", "--name", "m")
    assert done.returncode == 0, done.stderr
    assert "Llama" in done.stdout
    assert "cllm generate m" in done.stdout
    done = cllm_command("import", exported / "m.gguf", "--json")
    result = json.loads(done.stdout)
    assert result["model"] == "m-2"
    assert result["format"] == "GGUF"
    assert result["is_chat"] is False
    done = cllm_command("import", exported / "nothing.gguf")
    assert done.returncode == 2
    assert "no such file" in done.stderr


def test_all_tokens_that_end_texts_are_kept(exported, home):
    path = exported / "hf" / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [0, 5]}))
    workspace = open_workspace()
    import_model(workspace, exported / "hf", name="m")
    folder = workspace.models.path("m")
    kept = read_json(folder / "generation_config.json")
    assert kept["eos_token_id"] == [0, 5]
    assert kept["stop_strings"] == [Tokenizer.load(folder).decode([5])]
    assert load_model(folder).spec.eos_id == 0
