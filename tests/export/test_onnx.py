"""The ONNX graph in onnxruntime, against torch."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_models import make_small

from cllm.errors import InputError, SettingsError
from cllm.export import onnx_graph
from cllm.export.onnx_graph import write_onnx
from cllm.model import ModelSpec, initial_weights, load_model, save_model
from cllm.model.mechanisms.choose import from_records


class Session:
    """A client as optimum's: what comes out as `present` goes in as `past_key_values`."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(str(path))
        self.inputs = {entry.name: entry for entry in self.session.get_inputs()}
        self.outputs = [entry.name for entry in self.session.get_outputs()]

    def run(self, ids, past=None, mask=None, positions=None):
        if past is None:
            shapes = {name: entry.shape for name, entry in self.inputs.items() if "past" in name}
            past = {
                name: np.zeros((len(ids), shape[1], 0, shape[3]), np.float32)
                for name, shape in shapes.items()
            }
        start = next(iter(past.values())).shape[2]
        end = start + ids.shape[1]
        if mask is None:
            mask = np.ones((len(ids), end), np.int64)
        if positions is None:
            positions = np.tile(np.arange(start, end), (len(ids), 1))
        feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past}
        found = dict(zip(self.outputs, self.session.run(self.outputs, feeds), strict=True))
        logits = found.pop("logits")
        return logits, {n.replace("present", "past_key_values"): v for n, v in found.items()}


def by_torch(folder, ids):
    with torch.inference_mode():
        return load_model(folder)(torch.from_numpy(ids)).numpy()


def draw_ids(vocab_size, *shape):
    return np.random.default_rng(5).integers(0, vocab_size, shape)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    return make_small(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def exported(small_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("onnx") / "model"
    files = write_onnx(small_model, output)
    assert sorted(path.name for path in files) == sorted(path.name for path in output.iterdir())
    return output


def test_a_batch_of_two_with_and_without_cache_is_torch(small_model, exported):
    ids = draw_ids(320, 2, 60)
    expected = by_torch(small_model, ids)
    session = Session(exported / "model.onnx")
    whole, _ = session.run(ids)
    assert np.abs(expected).max() > 1  # there is something to compare
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-4)
    past, parts = None, []
    for start, end in ((0, 20), (20, 21), (21, 22), (22, 60)):
        logits, past = session.run(ids[:, start:end], past)
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts, 1), expected, rtol=0, atol=1e-4)


def test_a_short_text_padded_on_the_left_is_the_same_as_alone(small_model, exported):
    ids = draw_ids(320, 2, 12)
    mask = np.ones((2, 12), np.int64)
    mask[1, :7] = 0
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    session = Session(exported / "model.onnx")
    logits, past = session.run(ids, mask=mask, positions=positions)
    alone = by_torch(small_model, ids[1:, 7:])
    np.testing.assert_allclose(logits[1:, 7:], alone, rtol=0, atol=1e-4)
    # The next token looks back over the padding too.
    following = draw_ids(320, 2, 1)
    longer = np.concatenate([mask, np.ones((2, 1), np.int64)], 1)
    logits, _ = session.run(following, past, mask=longer, positions=np.array([[12], [5]]))
    alone = by_torch(small_model, np.concatenate([ids[1:, 7:], following[1:]], 1))
    np.testing.assert_allclose(logits[1], alone[0, -1:], rtol=0, atol=1e-4)


def test_names_shapes_and_operators_are_those_that_clients_know(exported):
    model = onnx.load(exported / "model.onnx")
    names = [entry.name for entry in model.graph.input]
    layers = [f"past_key_values.{n}.{part}" for n in (0, 1) for part in ("key", "value")]
    assert names == ["input_ids", "attention_mask", "position_ids", *layers]
    presents = [name.replace("past_key_values", "present") for name in layers]
    assert [entry.name for entry in model.graph.output] == ["logits", *presents]
    session = Session(exported / "model.onnx")
    assert session.inputs["past_key_values.0.key"].shape == ["batch", 2, "past", 8]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    # One table serves both ends.
    sizes = [tuple(entry.dims) for entry in model.graph.initializer]
    assert sizes.count((320, 32)) == 1


@pytest.mark.parametrize(
    "shape",
    [
        {"tied": False},
        {"kv_heads": 4},
        {"kv_heads": 1, "head_width": 6, "layers": 1},
        {"has_head_norm": False, "rope_base": 500.0, "norm_epsilon": 1e-3},
    ],
    ids=str,
)
def test_any_shape_of_model_is_torch(tmp_path, shape):
    folder = make_small(tmp_path / "model", kind="bytes", **shape)
    write_onnx(folder, tmp_path / "onnx")
    ids = draw_ids(257, 1, 80)
    logits, _ = Session(tmp_path / "onnx" / "model.onnx").run(ids)
    np.testing.assert_allclose(logits, by_torch(folder, ids), rtol=0, atol=1e-4)


def test_float16_halves_the_file_and_keeps_the_model(small_model, exported, tmp_path):
    write_onnx(small_model, tmp_path, dtype="float16")
    ids = draw_ids(320, 1, 40)
    logits, _ = Session(tmp_path / "model.onnx").run(ids)
    expected = by_torch(small_model, ids)
    assert 0 < np.abs(logits - expected).max() < 0.02 * expected.std()
    sizes = [(folder / "model.onnx").stat().st_size for folder in (tmp_path, exported)]
    assert sizes[0] < 0.75 * sizes[1]


def test_weights_too_many_for_one_file_lie_beside_it(small_model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "MOST_BYTES_INSIDE", 10_000)
    files = write_onnx(small_model, tmp_path)
    assert tmp_path / "model.onnx_data" in files
    assert (tmp_path / "model.onnx").stat().st_size < (tmp_path / "model.onnx_data").stat().st_size
    ids = draw_ids(320, 1, 9)
    logits, _ = Session(tmp_path / "model.onnx").run(ids)
    np.testing.assert_allclose(logits, by_torch(small_model, ids), rtol=0, atol=1e-4)


def test_a_mechanism_that_no_other_program_has_is_refused_by_name(tmp_path):
    [mechanism] = from_records([{"name": "dampening"}])
    spec = ModelSpec(257, 32, 1, 4, 4, 8, 64, 16, mechanisms=(mechanism,))
    save_model(tmp_path, spec, initial_weights(spec, 0))
    with pytest.raises(InputError, match="dampening opens in CLLM alone"):
        write_onnx(tmp_path, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_other_number_formats_are_refused_with_those_there_are(small_model, tmp_path):
    with pytest.raises(SettingsError, match="'q8_0'") as caught:
        write_onnx(small_model, tmp_path / "onnx", dtype="q8_0")
    assert "float32, float16" in caught.value.hint


def test_weights_that_float16_can_not_hold_are_refused(tmp_path):
    folder = make_small(tmp_path / "model", kind="bytes")
    model = load_model(folder)
    weights = model.weights()
    weights["blocks.0.feed_forward.down.weight"][0, 0] = 1e6
    save_model(folder, model.spec, weights)
    with pytest.raises(InputError, match="too large for float16"):
        write_onnx(folder, tmp_path / "onnx", dtype="float16")
