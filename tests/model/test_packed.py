"""Packed matrices: the layouts that compiled code reads, and files that are checked before use."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from cllm.config import ModelSettings
from cllm.errors import IntegrityError
from cllm.model import initial_weights, load_model, spec_from_settings
from cllm.model.codebooks import direct_table, pair_table, pair_values
from cllm.model.files import load_float_weights, load_weights, save_model, save_quantised
from cllm.model.packed import Packed, pack_nibbles
from cllm.model.packed_files import from_packed_tensors, nearest_on_grid, to_packed_tensors
from cllm.model.rotation import random_signs, rotate, rotate_back


def example(kind: str, rows: int, columns: int, *, rotated: bool = False) -> Packed:
    random = np.random.default_rng(rows * columns)
    wide = -(-columns // 32) * 32
    signs = random_signs(columns, 1) if rotated else None
    if kind == "e8":
        codes = (
            random.integers(0, 1 << 16, (rows, wide // 8), np.uint16),
            random.integers(0, 256, (rows, wide // 8), np.uint8),
        )
        scales = nearest_on_grid(random.uniform(0.01, 0.02, rows))
        return Packed("e8", columns, codes, scales, (3, 2), signs)
    dtype, width = (np.int8, wide) if kind == "int8" else (np.uint8, wide // 2)
    codes = random.integers(-127 if kind == "int8" else 0, 128, (rows, width)).astype(dtype)
    scales = random.uniform(0.01, 0.02, (rows, wide // 32)).astype(np.float16)
    return Packed(kind, columns, (codes,), scales, (1,), signs)


def test_the_pair_table_is_that_of_the_paper():
    # QuIP#, section 4.1: 227 patterns of half-odd numbers of squared length up to 10, 29 of 12.
    lengths = ((pair_table().astype(int) / 4) ** 2).sum(1)
    assert (lengths <= 10).sum() == 227 and (lengths == 12).sum() == 29
    assert len(np.unique(pair_table(), axis=0)) == 256


def test_pair_codes_are_different_points_of_e8_shifted_by_a_quarter():
    points = pair_values(np.arange(1 << 16, dtype=np.uint16)).astype(int)
    assert len(np.unique(points, axis=0)) == 1 << 16
    moved = points - 1  # in quarters
    is_whole, is_half = (moved % 4 == 0).all(1), (moved % 4 == 2).all(1)
    assert (is_whole | is_half).all()
    assert (moved.sum(1) % 8 == 0).all()


def test_direct_codes_are_the_shortest_vectors_of_e8():
    lengths = ((direct_table().astype(int) / 2) ** 2).sum(1)
    # Theta series of E8: 1, 240, 2160, ...
    assert [(lengths == norm).sum() for norm in (0, 2, 4)] == [1, 240, 15]
    assert len(np.unique(direct_table(), axis=0)) == 256


def test_a_nibble_holds_a_column_and_the_one_sixteen_on():
    values = (np.arange(64) % 16 - 8).astype(np.int8).reshape(2, 32)
    values[0, 3], values[0, 19] = -5, 7
    codes = pack_nibbles(values)
    assert codes.shape == (2, 16)
    assert codes[0, 3] & 15 == 3 and codes[0, 3] >> 4 == 15
    packed = Packed("int4", 32, (codes,), np.ones((2, 1), np.float16))
    assert np.array_equal(packed.dequantise(), values)


@pytest.mark.parametrize("columns", [8, 24, 96, 256])
def test_rotating_is_the_product_with_signs_and_hadamard_blocks(columns):
    rows = np.random.default_rng(0).standard_normal((3, columns))
    signs = random_signs(columns, 5)
    size = columns & -columns
    # Sylvester's matrix: −1 to the number of bits that row and column share.
    shared = np.bitwise_count(np.arange(size)[:, None] & np.arange(size))
    blocks = np.kron(np.eye(columns // size), (-1.0) ** shared / size**0.5)
    expected = rows @ np.diag(signs) @ blocks
    assert np.allclose(rotate(rows, signs), expected)
    assert np.allclose(rotate_back(expected, signs), rows)


@given(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=20))
def test_scales_of_the_grid_are_near_and_stay(wanted):
    scales = np.array(wanted) * 0.5
    found = nearest_on_grid(scales)
    is_near = np.abs(np.log2(found[found > 0] / scales[found > 0])) <= 1 / 64 + 1e-6
    # Below 2^(−254/32) of the largest there is nothing finer than that, and then 0.
    assert (is_near | (scales[found > 0] < scales.max() * 2 ** (-254 / 32))).all()
    assert np.array_equal(nearest_on_grid(found), found)


SPEC = spec_from_settings(ModelSettings(width=48, heads=2, layers=1, mlp_width=64), 70, "tiny")


def mixed_weights():
    weights = dict(initial_weights(SPEC, 0))
    kinds = {
        "embedding.weight": ("e8", True),
        "blocks.0.attention.qkv.weight": ("int4", False),
        "blocks.0.attention.out.weight": ("int8", True),
        "blocks.0.feed_forward.gate_up.weight": ("e8", False),
    }
    for name, (kind, rotated) in kinds.items():
        weights[name] = example(kind, *weights[name].shape, rotated=rotated)
    return weights


@pytest.mark.parametrize("is_packed", [False, True])
def test_some_weights_are_read_without_the_others(tmp_path, is_packed):
    if is_packed:
        save_quantised(tmp_path, SPEC, mixed_weights())
    else:
        save_model(tmp_path, SPEC, initial_weights(SPEC, 0))
    whole = load_float_weights(tmp_path)[1]
    names = {"embedding.weight", "norm.weight", "blocks.0.attention.qkv.weight"}
    spec, some = load_float_weights(tmp_path, names)
    assert spec == SPEC
    assert some.keys() == names
    for name, value in some.items():
        assert np.array_equal(value, whole[name])


def test_what_is_saved_is_read_again(tmp_path):
    weights = mixed_weights()
    save_quantised(tmp_path, SPEC, weights)
    spec, found = load_weights(tmp_path)
    assert spec == SPEC and found.keys() == weights.keys()
    floats = load_float_weights(tmp_path)[1]
    model = load_model(tmp_path)
    for name, value in weights.items():
        if isinstance(value, Packed):
            again = found[name]
            assert isinstance(again, Packed)
            assert (again.kind, again.shape, again.ratios) == (
                value.kind,
                value.shape,
                value.ratios,
            )
            expected = value.dequantise()
            assert np.array_equal(again.dequantise(), expected)
        else:
            expected = value
        assert np.array_equal(floats[name], expected)
        assert torch.equal(model.get_parameter(name), torch.from_numpy(expected))


def broken(tmp_path, change):
    """The message that a folder with changed tensors and record is refused with."""
    shutil.rmtree(tmp_path / "m", ignore_errors=True)
    (tmp_path / "m").mkdir()
    save_quantised(tmp_path / "m", SPEC, mixed_weights())
    path, config_path = tmp_path / "m" / "model.safetensors", tmp_path / "m" / "config.json"
    tensors = load_file(path)
    config = json.loads(config_path.read_text())
    change(tensors, config["quantization"])
    save_file(tensors, path)
    config_path.write_text(json.dumps(config))
    with pytest.raises(IntegrityError) as caught:
        load_weights(tmp_path / "m")
    assert str(path) in str(caught.value)
    return caught.value.message


QKV, EMBEDDING = "blocks.0.attention.qkv.weight", "embedding.weight"
OUT = "blocks.0.attention.out.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, _: t.pop(f"{QKV}.codes"), "lack"),
        (lambda t, _: t.update({f"{QKV}.codes": t[f"{QKV}.codes"][:, :-1].copy()}), "not uint8"),
        (lambda t, _: t.update({f"{QKV}.codes": t[f"{QKV}.codes"].astype(np.int8)}), "not uint8"),
        (lambda t, _: t[f"{QKV}.scales"].fill(np.inf), "not finite"),
        (lambda t, _: t[f"{OUT}.codes"].fill(-128), "−128"),
        (lambda t, _: t.update({f"{OUT}.signs": np.zeros(1, np.uint8)}), "not uint8 [6]"),
        (lambda _, r: r["matrices"][QKV].update(kind="int5"), "damaged"),
        (lambda _, r: r["matrices"].update({"other": {"kind": "int4"}}), "lacks"),
        (lambda _, r: r.update(version=99), "version"),
        (lambda _, r: r["matrices"][EMBEDDING].update(stages=[]), "no stages"),
        (lambda _, r: r["matrices"][EMBEDDING]["stages"][0].update(ratio=12), "not fit a byte"),
        (lambda _, r: r["matrices"][EMBEDDING]["stages"][0].update(ratio=True), "a stage"),
        (lambda _, r: r["matrices"][EMBEDDING].update(largest_scale=1e300), "largest scale"),
        (lambda t, _: t.update({"norm.weight": np.ones(7, np.float32)}), "not float32 [48]"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_used(tmp_path, change, message):
    assert message in broken(tmp_path, change)


@given(st.data())
def test_no_record_whatever_gets_through_unchecked(data):
    tensors, record = to_packed_tensors(mixed_weights())
    value = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    )
    matrix = record["matrices"][EMBEDDING]
    place = data.draw(st.sampled_from(["version", "matrices", EMBEDDING, *matrix]))
    if place in record:
        record[place] = data.draw(value)
    elif place == EMBEDDING:
        record["matrices"][EMBEDDING] = data.draw(value)
    else:
        matrix[place] = data.draw(value)
    try:
        found = from_packed_tensors(SPEC, tensors, record)
    except IntegrityError:
        return
    assert {name: value.shape for name, value in found.items()} == SPEC.parameter_shapes()
