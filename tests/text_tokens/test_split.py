"""The split depends on content alone, is never empty, and keeps equal text together."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.text.split import content_hash, split_documents

RANDOM = random.Random(5)
WORDS = ["sun", "moon", "river", "stone", "bird", "tree", "night", "road", "hand", "cloud"]


def paragraph(random_, lines=4):
    return (
        "\n".join(
            " ".join(random_.choices(WORDS, k=9)) + f" {random_.random():.9f}."
            for _ in range(lines)
        )
        + "\n\n"
    )


def split(path, texts, fraction=0.05):
    """For each text, the stretches of it in training and held out."""
    data = [text.encode() for text in texts]
    path.write_bytes(b"".join(data))
    lengths = np.array([len(part) for part in data], np.int64)
    starts = np.cumsum(lengths) - lengths
    hashes = np.array([content_hash(part) for part in data], np.uint64)
    spans = split_documents(path, starts, lengths, hashes, fraction)
    whole = b"".join(data)
    assert b"".join(whole[s.start : s.end] for s in spans) == whole
    return [(s.document, s.is_val, whole[s.start : s.end].decode()) for s in spans]


def held_out(spans):
    return {text for _, is_val, text in spans if is_val}


def share(spans):
    total = sum(len(text) for *_, text in spans)
    return sum(len(text) for _, is_val, text in spans if is_val) / total


def test_many_documents_are_held_out_whole_whatever_their_order(tmp_path):
    texts = [paragraph(RANDOM) * RANDOM.randint(1, 4) for _ in range(600)]
    spans = split(tmp_path / "t", texts)
    assert len(spans) == 600
    assert 0.025 < share(spans) < 0.1
    mixed = RANDOM.sample(texts, len(texts))
    assert held_out(split(tmp_path / "t", mixed)) == held_out(spans)


def test_adding_a_document_moves_no_other(tmp_path):
    texts = [paragraph(RANDOM) for _ in range(600)]
    before = held_out(split(tmp_path / "t", texts))
    for _ in range(20):
        new = paragraph(RANDOM)
        assert held_out(split(tmp_path / "t", [new, *texts])) - {new} == before


@pytest.mark.parametrize("num_documents", [1, 3, 40, 60])
@pytest.mark.parametrize("size", [30, 300, 3000])
def test_the_share_is_close_and_never_empty(tmp_path, num_documents, size):
    texts = [
        "".join(paragraph(RANDOM) for _ in range(max(1, size // num_documents)))
        for _ in range(num_documents)
    ]
    spans = split(tmp_path / "t", texts)
    assert 0.02 < share(spans) < 0.1
    assert {is_val for _, is_val, _ in spans} == {True, False}


def test_blocks_of_one_document_are_cut_at_ends_of_paragraphs(tmp_path):
    text = "".join(paragraph(RANDOM) for _ in range(2000))
    spans = split(tmp_path / "t", [text])
    assert len(held_out(spans)) >= 2
    assert all(part.endswith("\n\n") for *_, part in spans)
    assert spans == split(tmp_path / "other-name", [text])


def test_a_change_in_one_place_leaves_the_other_blocks(tmp_path):
    text = "".join(paragraph(RANDOM) for _ in range(2000))
    before = held_out(split(tmp_path / "t", [text]))
    after = held_out(split(tmp_path / "t", [paragraph(RANDOM) + text]))
    assert len(before & after) >= len(before) - 1


def test_one_document_that_dominates_is_cut_too(tmp_path):
    texts = [paragraph(RANDOM) for _ in range(100)]
    texts.append("".join(paragraph(RANDOM) for _ in range(3000)))
    assert 0.03 < share(split(tmp_path / "t", texts)) < 0.08


def test_equal_documents_lie_on_one_side(tmp_path):
    texts = [paragraph(RANDOM) for _ in range(50)] * 4
    spans = split(tmp_path / "t", texts, 0.3)
    sides = {}
    for _, is_val, text in spans:
        assert sides.setdefault(text, is_val) == is_val


def test_nothing_is_held_out_when_the_fraction_is_zero(tmp_path):
    assert not held_out(split(tmp_path / "t", [paragraph(RANDOM)] * 50, 0.0))


def test_an_enormous_line_is_cut_between_characters(tmp_path):
    text = "".join(RANDOM.choices("añb中c😀 ", k=80_000))
    spans = split(tmp_path / "t", [text])
    assert 0.02 < share(spans) < 0.12


@given(st.lists(st.text(max_size=50), min_size=1, max_size=60), st.floats(0.0, 0.9))
def test_any_texts_are_split_without_loss(tmp_path_factory, texts, fraction):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    path = tmp_path_factory.getbasetemp() / "any"
    split(path, [text for text in texts if text] or ["a"], fraction)
