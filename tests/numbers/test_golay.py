"""The hexacode and the Golay code by what makes them the only ones."""

import numpy as np

from cllm.numbers.golay import CYCLIC_LABELS, golay_words, hexacode_words


def test_the_hexacode_has_its_weights_and_is_additive():
    words = hexacode_words()
    weights = np.bincount((words != 0).sum(1), minlength=7)
    # SPLAG, chapter 3.2.5.2: 1 + 45y⁴ + 18y⁶.
    assert weights.tolist() == [1, 0, 0, 0, 45, 0, 18]
    known = {tuple(word) for word in words.tolist()}
    assert len(known) == 64
    assert all(tuple(word) in known for word in (words[7] ^ words).tolist())


def test_the_golay_code_has_its_weights_and_is_linear():
    words = golay_words()
    weights = np.bincount(words.sum(1), minlength=25)
    assert {w: int(n) for w, n in enumerate(weights) if n} == {
        0: 1,
        8: 759,
        12: 2576,
        16: 759,
        24: 1,
    }
    known = {word.tobytes() for word in words}
    assert len(known) == 4096
    for word in words[::251]:
        assert all(total.tobytes() in known for total in word ^ words)


def test_in_its_labels_the_golay_code_is_the_quadratic_residue_code():
    # Spanned by the non-residues mod 23 with 0, moved on, and the word of ones.
    residues = {i * i % 23 for i in range(1, 23)}
    place = {label: i for i, label in enumerate(CYCLIC_LABELS)}
    assert sorted(place) == list(range(24))
    known = {word.tobytes() for word in golay_words()}
    for shift in range(23):
        word = np.zeros(24, np.uint8)
        for label in set(range(23)) - residues:
            word[place[(label + shift) % 23]] = 1
        assert word.tobytes() in known
    assert np.ones(24, np.uint8).tobytes() in known
