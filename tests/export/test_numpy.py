"""The exported program, run by itself as a learner would, against torch."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_models import make_small

from cllm.errors import SettingsError
from cllm.export.numpy_model import write_numpy
from cllm.model import load_model
from cllm.text.tokenizers import Tokenizer

# Stands in for a machine that has numpy and nothing else of what this one has.
BARE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "tokenizers", "safetensors", "cllm", "numba"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    return make_small(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def exported(small_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("numpy") / "model"
    files = write_numpy(small_model, output)
    assert sorted(path.name for path in files) == sorted(path.name for path in output.iterdir())
    return output


def run_program(folder, *arguments, bare=False):
    start = ["-c", BARE] if bare else []
    command = [sys.executable, *start, folder / "model.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def open_program(folder):
    spec = importlib.util.spec_from_file_location("exported_model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(folder)


def by_torch(folder, ids):
    with torch.inference_mode():
        return load_model(folder)(torch.tensor([ids]))[0].numpy()


def greedy_by_torch(folder, ids, count):
    model, made = load_model(folder), list(ids)
    with torch.inference_mode():
        for _ in range(count):
            made.append(int(model(torch.tensor([made]))[0, -1].argmax()))
    return made[len(ids) :]


def test_with_numpy_alone_it_writes_the_tokens_that_torch_finds_likeliest(small_model, exported):
    shown = run_program(
        exported, "7 8 9", "--ids", "--tokens", "40", "--temperature", "0", bare=True
    )
    assert [int(word) for word in shown.split()] == greedy_by_torch(small_model, [7, 8, 9], 40)


def test_with_tokenizers_it_continues_a_text(small_model, exported):
    tokenizer = Tokenizer.load(small_model)
    # The spelling of a special token is text, here as everywhere.
    prompt = "The class <|endoftext|> is"
    ids = [int(token) for token in tokenizer.encode(prompt)]
    expected = greedy_by_torch(small_model, ids, 12)
    if 0 in expected:
        expected = expected[: expected.index(0)]
    shown = run_program(exported, prompt, "--tokens", "12", "--temperature", "0")
    assert shown.removesuffix("\n") == tokenizer.decode(expected)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"tied": False, "kv_heads": 4},
        {"kv_heads": 1, "head_width": 6, "layers": 1},
        {"has_head_norm": False, "rope_base": 500.0, "norm_epsilon": 1e-3},
    ],
    ids=str,
)
def test_any_shape_of_model_is_torch_at_once_and_in_pieces(tmp_path, shape):
    folder = make_small(tmp_path / "model", kind="bytes", **shape)
    write_numpy(folder, tmp_path / "numpy")
    model = open_program(tmp_path / "numpy")
    ids = np.random.default_rng(3).integers(0, 257, 80).tolist()
    expected = by_torch(folder, ids)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(model.read(ids), expected, rtol=0, atol=1e-4)
    model.forget()
    pieces = [model.read(ids[start:end]) for start, end in ((0, 30), (30, 31), (31, 80))]
    np.testing.assert_allclose(np.concatenate(pieces), expected, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="sees 80 tokens at once, not 81"):
        model.read([1])


def test_a_text_longer_than_the_context_goes_on_from_its_last_half(tmp_path):
    folder = make_small(tmp_path / "model", kind="bytes", context=8)
    write_numpy(folder, tmp_path / "numpy")
    made = open_program(tmp_path / "numpy").write([5, 6, 7], 10)
    whole = [5, 6, 7]
    window = list(whole)
    for _ in range(10):
        if len(window) > 8:
            window = whole[-4:]
        whole.append(int(by_torch(folder, window)[-1].argmax()))
        window.append(whole[-1])
    assert made == whole[3:]


def test_the_same_seed_gives_the_same_text_and_another_one_another(exported):
    texts = [run_program(exported, "3", "--ids", "--seed", seed) for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


def test_float16_halves_the_weights_and_keeps_the_model(small_model, exported, tmp_path):
    write_numpy(small_model, tmp_path, dtype="float16")
    ids = list(range(1, 40))
    expected = by_torch(small_model, ids)
    difference = np.abs(open_program(tmp_path).read(ids) - expected)
    assert 0 < difference.max() < 0.02 * expected.std()
    sizes = [(folder / "weights.npz").stat().st_size for folder in (tmp_path, exported)]
    assert sizes[0] < 0.6 * sizes[1]


def test_the_weights_carry_no_code(exported):
    with np.load(exported / "weights.npz", allow_pickle=False) as file:
        kinds = {file[name].dtype for name in file.files}
    assert kinds == {np.dtype(np.float32)}


def test_other_number_formats_are_refused_with_those_there_are(small_model, tmp_path):
    with pytest.raises(SettingsError, match="'bfloat16'") as caught:
        write_numpy(small_model, tmp_path / "numpy", dtype="bfloat16")
    assert "float32, float16" in caught.value.hint
