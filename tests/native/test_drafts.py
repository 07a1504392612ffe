"""Counts of a training text: against counting by hand, and what a damaged file does."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from cllm.errors import IntegrityError
from cllm.native.drafts import DRAFTS, Drafts, build_drafts


def counted(ids, size):
    """Token and share by packed context, counted one by one."""
    found = {}
    for n in (1, 2, 3):
        followers = defaultdict(Counter)
        for i in range(n, len(ids)):
            followers[tuple(ids[i - n : i])][ids[i]] += 1
        for context, counts in followers.items():
            most = max(counts.values())
            if most < 2:
                continue
            key = 4 * sum(token * size**k for k, token in enumerate(reversed(context))) + n
            token = min(token for token, count in counts.items() if count == most)
            found[key] = token, round(255 * most / (counts.total() + 1))
    return found


@given(st.integers(1, 9).flatmap(lambda size: st.tuples(
    st.just(size), st.lists(st.integers(0, size - 1), max_size=80))))  # fmt: skip
def test_contexts_are_those_counted_one_by_one(case):
    size, ids = case
    drafts = build_drafts(np.array(ids, np.int32), size)
    found = zip(drafts.contexts, drafts.tokens, drafts.shares, strict=True)
    assert {int(key): (int(token), int(share)) for key, token, share in found} == counted(ids, size)


def test_a_vocabulary_whose_contexts_do_not_fit_64_bits_with_what_follows():
    size, ids = 1 << 20, [(1 << 20) - 1, 5, 70000, 3] * 3
    drafts = build_drafts(np.array(ids, np.int32), size)
    found = zip(drafts.contexts, drafts.tokens, drafts.shares, strict=True)
    assert {int(key): (int(token), int(share)) for key, token, share in found} == counted(ids, size)


def test_the_most_useful_contexts_fit_a_megabyte(tmp_path):
    rng = np.random.default_rng(0)
    # 40,000 contexts of each length go on alike, twice; the first token's own 5 times.
    text = np.concatenate([rng.permutation(40_000).astype(np.int32)] * 2 + [np.array([7, 9] * 5)])
    drafts = build_drafts(text.astype(np.int32), 40_000)
    assert len(drafts.contexts) == 1 << 16
    assert {4 * 7 + 1, 4 * 9 + 1} <= set(drafts.contexts.tolist())
    drafts.save(tmp_path)
    assert (tmp_path / DRAFTS).stat().st_size < 1_000_000


def test_buckets_lie_between_their_starts():
    drafts = build_drafts(np.random.default_rng(1).integers(0, 30, 5000).astype(np.int32), 30)
    starts, bits = drafts.starts, (len(drafts.contexts) - 1).bit_length()
    assert (starts[0], starts[-1], len(starts)) == (0, len(drafts.contexts), 2**bits + 1)
    for bucket in range(2**bits):
        for key in drafts.contexts[starts[bucket] : starts[bucket + 1]].tolist():
            assert key * 0x9E3779B97F4A7C15 % 2**64 >> (64 - bits) == bucket


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_text_without_repetition_has_no_drafts(tmp_path, length):
    drafts = build_drafts(np.arange(length, dtype=np.int32), 10)
    assert len(drafts.contexts) == 0
    drafts.save(tmp_path)
    assert len(Drafts.load(tmp_path, 10).contexts) == 0


def test_what_is_saved_is_loaded(tmp_path):
    drafts = build_drafts(np.random.default_rng(2).integers(0, 12, 900).astype(np.int32), 12)
    drafts.save(tmp_path)
    again = Drafts.load(tmp_path, 12)
    for name in ("contexts", "tokens", "shares"):
        assert np.array_equal(getattr(again, name), getattr(drafts, name))
        assert getattr(again, name).dtype == getattr(drafts, name).dtype


@pytest.mark.parametrize("ids", [[0, 12], [-1, 3]])
def test_ids_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(ValueError, match="from 0 to 11"):
        build_drafts(np.array(ids, np.int32), 12)


@pytest.fixture
def saved(tmp_path):
    ids = np.random.default_rng(3).integers(0, 12, 900).astype(np.int32)
    build_drafts(ids, 12).save(tmp_path)
    return tmp_path


def test_a_missing_or_shortened_file_is_an_integrity_error(tmp_path, saved):
    whole = (saved / DRAFTS).read_bytes()
    for length in (0, 7, 8, 40, len(whole) // 2, len(whole) - 1):
        (saved / DRAFTS).write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            Drafts.load(saved, 12)
    (saved / DRAFTS).unlink()
    with pytest.raises(IntegrityError, match="missing"):
        Drafts.load(saved, 12)


def test_drafts_of_another_vocabulary_are_refused(saved):
    with pytest.raises(IntegrityError, match="over 12 tokens, not 13"):
        Drafts.load(saved, 13)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays["tokens"].__setitem__(3, 12),
        lambda arrays: arrays["tokens"].__setitem__(3, -1),
        lambda arrays: arrays.pop("shares"),
        lambda arrays: arrays.update(more=np.zeros(3)),
        lambda arrays: arrays.update(tokens=arrays["tokens"].astype(np.int64)),
        lambda arrays: arrays.update(tokens=arrays["tokens"][:-1]),
        lambda arrays: arrays.update(shares=arrays["shares"][None]),
        lambda arrays: arrays.update(contexts=arrays["contexts"].reshape(1, -1)),
        lambda arrays: arrays.update(contexts=arrays["contexts"][::-1].copy()),
        lambda arrays: arrays.update(vocab_size=np.zeros(0, np.int64)),
        lambda arrays: arrays.clear(),
    ],
)
def test_a_file_that_does_not_fit_is_an_integrity_error(saved, change):
    arrays = load_file(saved / DRAFTS)
    change(arrays)
    save_file(arrays, saved / DRAFTS)
    with pytest.raises(IntegrityError, match="does not fit"):
        Drafts.load(saved, 12)
