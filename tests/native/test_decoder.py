"""The decoder against formulas in float64, and a text against itself: in pieces, in company."""

import tracemalloc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.observations import assert_only

from cllm.errors import SettingsError
from cllm.model.codebooks import direct_table, odd_rows, pair_table
from cllm.model.packed import Packed, dequantised, pack_nibbles, padded
from cllm.model.rotation import random_signs
from cllm.model.spec import ModelSpec
from cllm.native import CACHES, TABLE, Decoder, Feed, NgramPart, Parts, named_views

SPEC = ModelSpec(37, 36, 2, 4, 2, 10, 50, 40)
WIDE = ModelSpec(70, 128, 3, 4, 1, 32, 96, 300)
NGRAM = NgramPart((2, 3), 2, (11, 13, 17, 19), 8)


def noise(rows):
    return np.random.default_rng(rows).standard_normal((rows, SPEC.width), np.float32)


PARTS = {
    "plain": Parts(),
    "ngram": Parts(ngram=NGRAM, eos_id=0),
    "dampening": Parts(lags=(1, 2, 16), eos_id=0),
    "gamma": Parts(has_gamma=True),
    "static": Parts(schumann="static", decays=(0.02, 0.04, 0.08, 0.16)),
    "forget": Parts(schumann="forget"),
    "all": Parts(NGRAM, (1, 2, 3), True, "forget", (), 0),
    "all from noise": Parts(NGRAM, (1, 2, 3), True, "forget", (), 0, noise(8), noise(11)),
}


def decoder(library, draw, spec=SPEC, parts=None, **settings) -> SimpleNamespace:
    """A decoder, and the numbers it was made from."""
    parts = parts or Parts()
    parameters = draw.parameters(spec, parts=parts)
    rows = (parts.ngram.num_rows, parts.ngram.row_width) if parts.ngram else (0, 0)
    table = np.random.default_rng(1).normal(0, 0.5, rows).astype(np.float32)
    weights = {**named_views(spec, parameters, parts), TABLE: table}
    made = Decoder(library, spec, parts, weights, **settings)
    return SimpleNamespace(decoder=made, parameters=parameters, table=table, weights=weights)


def text(spec, length, seed=0):
    """Random tokens, documents ending among them."""
    ids = np.random.default_rng(seed).integers(0, spec.vocab_size, length).astype(np.int32)
    ids[length // 3 :: 11] = 0
    return ids


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", PARTS)
def test_logits_are_those_of_the_formula(name, library, draw, by_formula):
    parts, ids = PARTS[name], text(SPEC, 40)
    made = decoder(library, draw, parts=parts)
    targets = np.zeros((1, 40), np.int32)
    expected = by_formula(SPEC, parts, made.parameters, made.table, (ids[None], targets)).logits[0]
    assert relative(made.decoder.feed([Feed(0, ids)], every=True), expected) < 1e-5
    [last] = made.decoder.feed([Feed(0, ids[:1])])
    assert last.shape == (SPEC.vocab_size,)


@pytest.mark.parametrize(("cache", "tolerance"), [("bfloat16", 2e-2), ("int8", 3e-2)])
def test_a_smaller_cache_costs_little(cache, tolerance, library, draw):
    ids = text(WIDE, 200)
    exact, small = (
        decoder(library, draw, WIDE, cache=kind).decoder.feed([Feed(0, ids)], every=True)
        for kind in ("float32", cache)
    )
    assert 0 < relative(small, exact) < tolerance


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_text_is_the_same_in_pieces_in_company_and_on_threads(library, draw, data):
    parts = PARTS[data.draw(st.sampled_from(list(PARTS)))]
    cache = data.draw(st.sampled_from(CACHES))
    ids = text(SPEC, 70, data.draw(st.integers(0, 9)))
    alone = decoder(library, draw, parts=parts, cache=cache).decoder
    expected = np.concatenate([alone.feed([Feed(0, [token])]) for token in ids.tolist()])
    threads = data.draw(st.integers(1, 3))
    many = decoder(library, draw, parts=parts, cache=cache, threads=threads, num_slots=3).decoder
    many.feed([Feed(1, text(SPEC, 23, 5))])
    found, done = [], 0
    while done < len(ids):
        count = data.draw(st.integers(1, 30))
        feeds = [Feed(2, ids[done : done + count])]
        if data.draw(st.booleans()):
            feeds.append(Feed(1, [data.draw(st.integers(0, SPEC.vocab_size - 1))]))
        rows = many.feed(feeds, every=True)
        found.append(rows[: len(feeds[0].ids)])
        done += count
    assert np.array_equal(np.concatenate(found), expected)


def streaming_logits(spec, p, ids):
    """Token after token in float64, with sinks and a window, as StreamingLLM defines it."""
    D, H, K, W = spec.head_width, spec.heads, spec.kv_heads, spec.context
    frequency = spec.rope_base ** (-torch.arange(D // 2, dtype=torch.float64) / (D // 2))

    def unit(x):
        return x / (x.pow(2).mean(-1, keepdim=True) + spec.norm_epsilon).sqrt()

    def turned(x, place):
        a, b = x[..., : D // 2], x[..., D // 2 :]
        cos, sin = (place * frequency).cos(), (place * frequency).sin()
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    kept = [[] for _ in range(spec.layers)]
    rows = []
    for t, token in enumerate(ids.tolist()):
        x = p["embedding.weight"][token]
        for layer in range(spec.layers):
            block = f"blocks.{layer}"
            h = unit(x) * p[f"{block}.attention_norm.weight"]
            qkv = p[f"{block}.attention.qkv.weight"] @ h
            q, k, v = (part.view(-1, D) for part in qkv.split([H * D, K * D, K * D]))
            q = unit(q) * p[f"{block}.attention.q_norm.weight"]
            kept[layer].append((unit(k) * p[f"{block}.attention.k_norm.weight"], v))
            # Places in the cache, not in the text: what StreamingLLM rotates by.
            seen = [j for j in range(t + 1) if j < 4 or j > t - (W - 4)]
            here = len(seen) - 1
            keys = torch.stack([turned(kept[layer][j][0], i) for i, j in enumerate(seen)])
            values = torch.stack([kept[layer][j][1] for j in seen])
            keys, values = (z.repeat_interleave(H // K, 1) for z in (keys, values))
            scores = torch.einsum("hd,jhd->hj", turned(q, here), keys) / D**0.5
            mixed = torch.einsum("hj,jhd->hd", scores.softmax(-1), values)
            x = x + p[f"{block}.attention.out.weight"] @ mixed.flatten()
            h = unit(x) * p[f"{block}.feed_forward_norm.weight"]
            gate, up = (p[f"{block}.feed_forward.gate_up.weight"] @ h).chunk(2)
            x = x + p[f"{block}.feed_forward.down.weight"] @ (F.silu(gate) * up)
        rows.append(p["embedding.weight"] @ (unit(x) * p["norm.weight"]))
    return torch.stack(rows).numpy()


def test_beyond_the_context_sinks_and_the_latest_tokens_are_seen(library, draw):
    made, ids = decoder(library, draw), text(SPEC, 130)
    p = {name: torch.tensor(value, dtype=torch.float64) for name, value in made.weights.items()}
    found = made.decoder.feed([Feed(0, ids)], every=True)
    assert relative(found, streaming_logits(SPEC, p, ids)) < 1e-5
    assert made.decoder.length(0) == 130


def test_a_slot_goes_back_and_is_copied(library, draw):
    ids = text(SPEC, 39)
    for name, parts in PARTS.items():
        made = decoder(library, draw, parts=parts, num_slots=2, cache="int8").decoder
        expected = made.feed([Feed(0, ids)], every=True)
        assert made.truncate(0, 20)
        assert np.array_equal(made.feed([Feed(0, ids[20:])], every=True), expected[20:]), name
        assert made.copy(0, 1, 30)
        assert np.array_equal(made.feed([Feed(1, ids[30:])], every=True), expected[30:]), name
        made.feed([Feed(0, ids)])
        # What the window has let go is not there to go back to.
        assert not made.truncate(0, 41)
        assert made.length(0) == 0


def quantised(weights, kind):
    """Codes at random for every matrix; the weights they stand for have about the same size."""
    rng = np.random.default_rng(3)
    found = {}
    for name, value in weights.items():
        if value.ndim != 2 or name.startswith("mechanisms."):
            found[name] = value
            continue
        rows, columns = value.shape
        wide, size = padded(columns), value.std()
        signs = random_signs(columns, 1) if columns % 8 == 0 else None
        if kind.startswith("e8"):
            codes = {
                "e8": (rng.integers(0, 65536, (rows, wide // 8)).astype(np.uint16),),
                "e8 and bits": (
                    rng.integers(0, 65536, (rows, wide // 8)).astype(np.uint16),
                    rng.integers(0, 256, (rows, wide // 8)).astype(np.uint8),
                ),
                "e8 twice": tuple(
                    rng.integers(0, 65536, (rows, wide // 8)).astype(np.uint16) for _ in range(2)
                ),
            }[kind]
            scales = rng.uniform(0.5, 1.5, rows).astype(np.float32) * size / 16
            found[name] = Packed("e8", columns, codes, scales, (3, 1)[: len(codes)], signs)
            continue
        most = 127 if kind == "int8" else 7
        codes = rng.integers(-most, most + 1, (rows, wide)).astype(np.int8)
        scales = (rng.uniform(0.5, 1.5, (rows, wide // 32)) * size / most).astype(np.float16)
        codes = codes if kind == "int8" else pack_nibbles(codes)
        found[name] = Packed(kind, columns, (codes,), scales, (1,), signs)
    return found


@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["odd", "wide"])
@pytest.mark.parametrize("kind", ["int8", "int4", "e8", "e8 and bits", "e8 twice"])
def test_quantised_weights_are_what_their_codes_say(kind, spec, library, draw):
    """What is left is the rounding of the inputs to 8 bits."""
    weights = quantised(decoder(library, draw, spec).weights, kind)
    ids = text(spec, 40)
    packed = Decoder(library, spec, None, weights, threads=2)
    exact = Decoder(library, spec, None, dequantised(weights))
    found = packed.feed([Feed(0, ids)], every=True)
    expected = exact.feed([Feed(0, ids)], every=True)
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert 0 < error < 0.03
    packed.truncate(0, 0)
    again = np.concatenate([packed.feed([Feed(0, [token])]) for token in ids.tolist()])
    assert np.array_equal(again, found)


@pytest.mark.parametrize("kind", ["int8", "int4", "e8", "e8 and bits", "e8 twice"])
def test_every_code_is_decoded_exactly(kind, library):
    """A model of one matrix, its head, read column by column: rounding keeps such inputs."""
    spec = ModelSpec(96, 32, 1, 1, 1, 32, 32, 8, norm_epsilon=1e-12, tied=False)
    rng = np.random.default_rng(0)
    plain = {name: np.zeros(shape, np.float32) for name, shape in spec.parameter_shapes().items()}
    plain["norm.weight"] += 1
    # Unit vectors survive norm and rounding but for a factor.
    plain["embedding.weight"][:32] = np.eye(32, dtype=np.float32)
    head = quantised({"head.weight": rng.normal(size=(96, 32)).astype(np.float32)}, kind)
    [value] = head.values()
    head = {"head.weight": Packed(value.kind, 32, value.codes, value.scales, value.ratios)}
    made = Decoder(library, spec, None, plain | head)
    columns = np.stack([made.feed([Feed(0, [token])])[0] for token in range(32)], 1)
    exact = head["head.weight"].dequantise()
    assert relative(columns / np.sqrt(32), exact) < 1e-5


def test_the_tables_fit_what_the_kernels_assume():
    # Sizes are even, so that a row's lowest bit is free; sums of stages stay within a byte.
    assert (pair_table() % 2 == 0).all()
    assert pair_table().max() + 1 < 16
    assert np.abs(direct_table()).max() < 16
    assert odd_rows().shape == (256,)


@pytest.mark.parametrize("tied", [True, False])
def test_bfloat16_weights_are_rounded_ones(tied, library, draw):
    spec = ModelSpec(37, 36, 2, 4, 2, 10, 50, 40, tied=tied)
    made, ids = decoder(library, draw, spec, precision="bfloat16"), text(spec, 40)
    rounded = {
        name: torch.from_numpy(np.array(value)).bfloat16().float().numpy()
        if value.ndim == 2
        else value
        for name, value in made.weights.items()
    }
    expected = Decoder(library, spec, None, rounded).feed([Feed(0, ids)], every=True)
    assert np.array_equal(made.decoder.feed([Feed(0, ids)], every=True), expected)


@pytest.mark.parametrize("name", ["plain", "all"])
def test_an_observation_is_what_was_computed(name, library, draw):
    parts, ids = PARTS[name], text(SPEC, 40)
    made = decoder(library, draw, parts=parts, threads=2)
    before = made.decoder.feed([Feed(0, ids[:7])])
    seen = made.decoder.observe(ids)
    assert made.decoder.length(0) == 7
    fresh = decoder(library, draw, parts=parts).decoder
    assert np.array_equal(seen.logits, fresh.feed([Feed(0, ids)], every=True))
    assert np.array_equal(seen.logits[6], before[0])
    assert np.allclose(seen.attention.sum(-1), 1, atol=1e-5)
    assert (np.triu(seen.attention, 1) == 0).all()
    for layer in range(SPEC.layers):
        feed_forward = f"blocks.{layer}.feed_forward"
        gate, up = np.split(
            seen.inputs[f"{feed_forward}.gate_up.weight"]
            @ made.weights[f"{feed_forward}.gate_up.weight"].T,
            2,
            axis=1,
        )
        hidden = seen.inputs[f"{feed_forward}.down.weight"]
        assert np.allclose(gate / (1 + np.exp(-gate)) * up, hidden, atol=1e-4)
        # Each block adds two products to the stream.
        added = (
            seen.inputs[f"blocks.{layer}.attention.out.weight"]
            @ made.weights[f"blocks.{layer}.attention.out.weight"].T
            + hidden @ made.weights[f"{feed_forward}.down.weight"].T
        )
        assert np.allclose(seen.hidden[layer + 1] - seen.hidden[layer], added, atol=1e-4)
    logits = seen.inputs["embedding.weight"] @ made.weights["embedding.weight"].T
    assert np.allclose(logits, seen.logits, atol=1e-4)


@pytest.mark.parametrize("kept", ["hidden", "attention", "logits", "inputs"])
@pytest.mark.parametrize("name", ["plain", "all"])
def test_only_what_is_to_be_kept_is_observed(kept, name, library, draw):
    made = decoder(library, draw, parts=PARTS[name], threads=2).decoder
    ids = text(SPEC, 40)
    whole, seen = made.observe(ids), made.observe(ids, keep={kept})
    assert_only(kept, seen, whole)


def test_what_is_not_kept_takes_no_memory(library, draw):
    T = WIDE.context
    made = decoder(library, draw, WIDE).decoder
    ids = text(WIDE, T)
    wanted = {"hidden": 4 * 4 * T * WIDE.width, "logits": 4 * T * WIDE.vocab_size}
    attention = 4 * WIDE.layers * WIDE.heads * T * T
    for kept, num_bytes in wanted.items():
        made.observe(ids, keep={kept})
        tracemalloc.start()
        try:
            made.observe(ids, keep={kept})
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert num_bytes <= peak < num_bytes + 60_000 < attention


def test_what_is_not_the_models_is_refused(library, draw):
    made = decoder(library, draw, num_slots=2).decoder
    for slot, ids in ((0, [37]), (0, [-1]), (0, []), (2, [1]), (-1, [1])):
        with pytest.raises(ValueError):
            made.feed([Feed(slot, ids)])
    with pytest.raises(ValueError, match="two feeds"):
        made.feed([Feed(1, [1]), Feed(1, [2])])
    with pytest.raises(ValueError, match="fit the context"):
        made.observe(np.zeros(41, np.int32))
    with pytest.raises(SettingsError, match="no token that ends"):
        decoder(library, draw, parts=Parts(ngram=NGRAM))


def test_what_was_copied_is_not_held_on_to(library, draw):
    made = decoder(library, draw)
    weights = {name: value.copy() for name, value in made.weights.items()}
    alive = {name: weakref.ref(value) for name, value in weights.items()}
    held = Decoder(library, SPEC, None, weights)
    weights.clear()
    kept = {name for name, array in alive.items() if array() is not None}
    assert "embedding.weight" in kept
    assert not any(name.endswith((".qkv.weight", ".out.weight", ".down.weight")) for name in kept)
    # What is left is enough to write with.
    ids = text(SPEC, 20)
    expected = made.decoder.observe(ids)
    np.testing.assert_array_equal(held.observe(ids).logits, expected.logits)


def test_threads_may_be_chosen_while_it_runs(library, draw):
    made = decoder(library, draw, WIDE, threads=2).decoder
    ids = text(WIDE, 60)
    expected = made.observe(ids).logits
    for is_wanted in (True, False, True):
        made.use_one_thread(is_wanted)
        np.testing.assert_array_equal(made.observe(ids).logits, expected)


def test_a_closed_decoder_refuses_instead_of_crashing(library, draw):
    made = decoder(library, draw).decoder
    made.feed([Feed(0, [1, 2])])
    made.close()
    made.close()
    assert made.is_closed
    for act in (
        lambda: made.feed([Feed(0, [1])]),
        lambda: made.length(0),
        lambda: made.observe(text(SPEC, 3)),
        lambda: made.copy(0, 0, 1),
        lambda: made.use_one_thread(True),
    ):
        with pytest.raises(ValueError, match="closed"):
            act()
