"""`cllm export`: what it writes, what it compares, what it never replaces."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
from small_models import make_small

from cllm.cli.main import run
from cllm.export import onnx_graph, opened
from cllm.files import check_manifest, read_json
from cllm.model import initial_weights, load_weights, save_model
from cllm.model.files import save_quantised
from cllm.model.mechanisms.choose import from_records
from cllm.model.packed import Packed, pack_nibbles
from cllm.workspace.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with one model; copied for each test."""
    home = tmp_path_factory.mktemp("home")
    make_small(home / "models" / "small", kind="bytes", context=72, layers=1)
    return home


@pytest.fixture
def folder(made, home, tmp_path, monkeypatch):
    """The folder of the model `small`; the working folder is another, empty one."""
    shutil.copytree(made, home)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return home / "models" / "small"


@pytest.fixture
def export(folder, capfd):
    """Run the command: (exit code, what --json printed or None, standard error)."""

    def call(*arguments):
        code = run(["export", "small", *map(str, arguments), "--json"])
        captured = capfd.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return call


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("target", "program"), [("onnx", "onnxruntime"), ("numpy", "numpy"), ("hf", "transformers")]
)
def test_an_export_is_compared_and_the_verdict_kept(export, folder, tmp_path, target, program):
    before = content(folder)
    link = (folder / "model.safetensors").stat().st_ino
    code, result, shown = export("--to", target)
    assert code == 0, shown
    output = tmp_path / "work" / f"small-{target}"
    assert result["output"] == str(output)
    verdict = result["verdict"]
    assert (verdict["program"], verdict["checked"], verdict["passed"]) == (program, True, True)
    assert [check["passed"] for check in verdict["checks"]] == [True] * 3
    assert verdict["checks"][0]["result"] == "all equal"
    assert verdict["checks"][2]["result"].startswith("256 of 256 equal")
    # In the export: the verdict for people and for programs, and every file's checksum.
    check_manifest(output)
    assert "256 of 256 equal" in (output / "README.md").read_text()
    assert read_json(output / "cllm_export.json") == {"model": "small", "verdict": verdict}
    # In the model's folder: the same, and nothing else has changed.
    check_manifest(folder)
    assert "256 of 256 equal" in (folder / "README.md").read_text()
    assert read_json(folder / "training.json") == {"model": "small", "exports": [verdict]}
    changed = {"README.md", "training.json", "manifest.json"}
    after = content(folder)
    assert {name: after[name] for name in after.keys() - changed} == {
        name: before[name] for name in before.keys() - changed
    }
    assert (folder / "model.safetensors").stat().st_ino == link
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_a_person_sees_the_table(folder, capfd):
    assert run(["export", "small", "--to", "numpy", "-o", "a/b/mine"]) == 0
    shown = capfd.readouterr().out
    for part in ("small for numpy, float32", "tokens of 1,000 texts", "all equal", "a/b/mine"):
        assert part in shown


def test_each_kind_and_number_format_has_one_verdict_in_the_card(export, folder):
    for arguments in (["onnx"], ["numpy"], ["onnx", "--dtype", "float16", "-o", "half"]):
        assert export("--to", *arguments)[0] == 0
    assert export("--to", "onnx", "--overwrite")[0] == 0
    kept = [
        (entry["target"], entry["dtype"])
        for entry in read_json(folder / "training.json")["exports"]
    ]
    assert kept == [("numpy", "float32"), ("onnx", "float16"), ("onnx", "float32")]
    card = (folder / "README.md").read_text()
    assert card.count("## Exports") == 1
    assert card.count("| onnx, float32 | logits") == 1


def test_nothing_is_replaced_but_an_earlier_export_that_is_as_it_was(export, tmp_path):
    output = tmp_path / "work" / "mine"
    output.mkdir()
    (output / "letter.txt").write_text("to be kept")
    for more in ([], ["--overwrite"]):
        code, _, shown = export("--to", "onnx", "-o", output, *more)
        assert code == 2
        assert "mine: " in shown
    assert content(output) == {"letter.txt": b"to be kept"}
    (output / "letter.txt").unlink()
    output.rmdir()

    assert export("--to", "onnx", "-o", output)[0] == 0
    code, _, shown = export("--to", "onnx", "-o", output)
    assert (code, "--overwrite" in shown) == (2, True)
    first = (output / "model.onnx").stat().st_ino
    assert export("--to", "onnx", "-o", output, "--overwrite")[0] == 0
    assert (output / "model.onnx").stat().st_ino != first

    (output / "letter.txt").write_text("put in later")
    code, _, shown = export("--to", "onnx", "-o", output, "--overwrite")
    assert code == 2
    assert "letter.txt in it is not of the export" in shown
    assert (output / "letter.txt").read_text() == "put in later"


def test_a_file_is_not_taken_for_a_folder(export, tmp_path):
    place = tmp_path / "work" / "notes"
    place.write_text("to be kept")
    for output in (place, place / "below"):
        code, _, shown = export("--to", "numpy", "-o", output, "--overwrite")
        assert (code, "notes: " in shown) == (2, True)
    assert place.read_text() == "to be kept"


@pytest.mark.parametrize(
    ("target", "dtype", "listed"),
    [
        ("onnx", "float61", "Did you mean 'float16'? "),
        ("onnx", "q4_0", "float32, float16"),
        ("numpy", "bfloat16", "float32, float16"),
        ("hf", "int8", "float32, bfloat16, float16"),
        ("gguf", "q9_0", "q8_0"),
    ],
)
def test_unknown_number_formats_name_those_there_are(export, tmp_path, target, dtype, listed):
    code, _, shown = export("--to", target, "--dtype", dtype)
    assert code == 2
    assert repr(dtype) in shown
    assert listed in shown
    assert list((tmp_path / "work").iterdir()) == []


def test_another_model_than_ours_is_not_left_in_place(export, folder, tmp_path, monkeypatch):
    def wrong(path):
        spec, weights = load_weights(path)
        weights["embedding.weight"][65:67] = weights["embedding.weight"][[66, 65]]
        return spec, weights

    monkeypatch.setattr(onnx_graph, "load_plain", wrong)
    before = content(folder)
    code, result, shown = export("--to", "onnx")
    assert (code, result) == (2, None)
    assert f"not the same model in onnxruntime {onnxruntime.__version__}" in shown
    assert "logits of 90 tokens: largest difference" in shown
    assert list((tmp_path / "work").iterdir()) == []
    assert content(folder) == before


def test_a_failed_export_leaves_the_earlier_one(export, tmp_path, monkeypatch):
    assert export("--to", "onnx")[0] == 0
    output = tmp_path / "work" / "small-onnx"
    before = content(output)
    monkeypatch.setattr(onnx_graph, "_rotate", lambda graph, x, cos, sin: x)
    assert export("--to", "onnx", "--overwrite")[0] == 2
    assert content(output) == before
    assert [path.name for path in output.parent.iterdir()] == ["small-onnx"]


def test_without_the_other_program_the_export_says_that_it_is_not_checked(
    export, folder, monkeypatch
):
    monkeypatch.setitem(opened.PROGRAMS, "onnx", ("not_a_module_of_anybody", "onnxruntime"))
    code, result, _ = export("--to", "onnx")
    assert code == 0
    assert (result["verdict"]["checked"], result["verdict"]["passed"]) == (False, False)
    text = "| onnx, float32 | not checked | onnxruntime | install it: pip install onnxruntime |"
    assert text in (folder / "README.md").read_text()
    check_manifest(folder)


def test_a_damaged_model_is_not_exported(export, folder, tmp_path):
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    code, _, shown = export("--to", "numpy")
    assert (code, "model.safetensors: altered" in shown) == (2, True)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_mechanism_that_can_not_be_folded_is_refused_by_name(export, folder, home, tmp_path):
    spec, _ = load_weights(folder)
    with Workspace(home).models.write("small", overwrite=True) as place:
        shutil.copytree(folder, place, dirs_exist_ok=True)
        [mechanism] = from_records([{"name": "dampening"}])
        spec = type(spec)(*[getattr(spec, name) for name in spec.__slots__[:-1]], (mechanism,))
        save_model(place, spec, initial_weights(spec, 0))
    for target in ("hf", "gguf", "onnx", "numpy"):
        code, _, shown = export("--to", target)
        assert (code, "dampening opens in CLLM alone" in shown) == (2, True)
    assert list((tmp_path / "work").iterdir()) == []


def quantised(matrix):
    """In 4 bits as decode formats define them, written out here: one scale for 32 columns."""
    groups = matrix.reshape(len(matrix), -1, 32)
    scales = (np.abs(groups).max(-1) / 7).astype(np.float16)
    codes = np.clip(np.rint(groups / scales[..., None].astype(np.float32)), -7, 7)
    return Packed(
        "int4",
        matrix.shape[1],
        (pack_nibbles(codes.reshape(matrix.shape).astype(np.int8)),),
        scales,
    )


def test_a_quantised_model_is_written_as_its_weights_read(export, folder, home):
    spec, weights = load_weights(folder)
    name = "blocks.0.feed_forward.down.weight"
    packed = quantised(weights[name])
    with Workspace(home).models.write("small", overwrite=True) as place:
        shutil.copytree(folder, place, dirs_exist_ok=True)
        save_quantised(place, spec, {**weights, name: packed})
    code, result, shown = export("--to", "numpy")
    assert code == 0, shown
    assert "small is quantised: its weights are written out in float32" in shown
    assert result["verdict"]["passed"]
    with np.load("small-numpy/weights.npz") as file:
        written = file["0.down"]
    np.testing.assert_array_equal(written, packed.dequantise())
    assert 0 < np.abs(written - weights[name]).max() < 0.2


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_a_gguf_file_is_the_same_model_in_llama_cpp(export, folder, tmp_path, dtype):
    code, result, shown = export("--to", "gguf", "--dtype", dtype)
    assert code == 0, shown
    assert result["output"] == str(tmp_path / "work" / f"small-{dtype}.gguf")
    assert result["verdict"]["program"] == "llama-cpp-python"
    assert result["verdict"]["passed"]
    assert result["verdict"]["checks"][0]["result"] == "all equal"
    if dtype == "f32":
        assert result["verdict"]["checks"][2]["result"].startswith("256 of 256 equal")
    assert f"| gguf, {dtype} | tokens" in (folder / "README.md").read_text()
    # A file that is not GGUF is never replaced.
    assert export("--to", "gguf", "--dtype", dtype, "--overwrite")[0] == 0
    other = tmp_path / "work" / "notes.gguf"
    other.write_text("to be kept")
    assert export("--to", "gguf", "-o", other, "--overwrite")[0] == 2
    assert other.read_text() == "to be kept"
