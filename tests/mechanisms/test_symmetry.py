"""Heads that are turns of one another, against complex numbers; the group; the beginning."""

import numpy as np
import pytest
import torch

from cllm.model.mechanisms.symmetry import Symmetry


@pytest.mark.parametrize("reflections", [False, True])
def test_a_head_s_queries_are_the_base_turned_by_30_degrees_times_its_number(models, reflections):
    items = ("symmetry.rank=2", f"symmetry.reflections={str(reflections).lower()}")
    model = models.stirred(models.spec(items))
    p = model.weights()
    qkv = p["blocks.1.attention.qkv.weight"]
    assert qkv.shape == (8 + 2 * 2 * 8, 16)
    found = model.mechanisms.project(1, torch.from_numpy(qkv)).detach().numpy()
    pairs = qkv[:4] + 1j * qkv[4:8]
    for head in range(4):
        turned = pairs * np.exp(1j * np.pi / 6 * head)
        own = p["mechanisms.symmetry.1.up"][head] @ p["mechanisms.symmetry.1.down"][head]
        expected = np.concatenate([turned.real, turned.imag]) + own
        assert np.abs(found[8 * head : 8 * head + 8] - expected).max() < 1e-5
    assert np.array_equal(found[32:], qkv[8:])


def test_with_reflections_24_heads_are_the_dihedral_group():
    cos, sin, sign = Symmetry(reflections=True).turns(24)
    elements = [
        np.array([[c, -s], [s, c]]) @ np.diag([1.0, m])
        for c, s, m in zip(cos, sin, sign, strict=True)
    ]

    def place(matrix: np.ndarray) -> list[int]:
        return [k for k, other in enumerate(elements) if np.abs(matrix - other).max() < 1e-9]

    products = [place(a @ b) for a in elements for b in elements]
    assert all(len(found) == 1 for found in products)
    # Each row of the group's table has every element once.
    table = np.array(products).reshape(24, 24)
    assert all(sorted(row) == list(range(24)) for row in table)
    assert [round(np.linalg.det(e)) for e in elements] == [1] * 12 + [-1] * 12


def test_without_reflections_it_begins_anew_after_twelve_heads():
    turns = Symmetry().turns(25)
    assert np.allclose(turns[:, :12], turns[:, 12:24])
    assert np.allclose(turns[:, 24], [1, 0, 1])


def test_it_saves_what_it_says(models):
    H, D, C, r, layers = 4, 8, 16, 2, 2
    saved = layers * ((H - 1) * D * C - H * r * (D + C))
    spec = models.spec((f"symmetry.rank={r}",))
    assert spec.num_parameters == models.spec().num_parameters - saved


@pytest.mark.parametrize("shape", ["plain", "grouped"])
def test_heads_still_begin_by_looking_back(models, shape):
    """In the first block, head h of the plain model looks 1 + its key head's number back."""
    spec = models.spec(("symmetry",), shape)
    model = models.begun(spec)
    attention, group = model.blocks[0].attention, spec.heads // spec.kv_heads
    ids = models.ids()
    with torch.no_grad():
        x = model.blocks[0].attention_norm(model.embedding(ids))
        heads = x @ model.mechanisms.project(0, attention.qkv.weight).T
        heads = heads.view(2, 32, -1, 8)
        q, k, _ = heads.split((spec.heads, spec.kv_heads, spec.kv_heads), dim=2)
        q = model.rotary(attention.q_norm(q).transpose(1, 2), 0)
        k = model.rotary(attention.k_norm(k).transpose(1, 2), 0).repeat_interleave(group, 1)
        scores = q @ k.mT
        for head in range(spec.heads):
            by_distance = [scores[:, head].diagonal(-n, 1, 2).mean() for n in range(6)]
            assert int(np.argmax(by_distance)) == head // group + 1
