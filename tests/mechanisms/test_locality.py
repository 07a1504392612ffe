"""The order of the vocabulary's rows."""

import numpy as np
import pytest
import torch

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.locality import Locality


def ids_by_row(kind: str, lexicon: Lexicon) -> list[int]:
    rows = Locality(kind=kind).rows(lexicon)
    assert sorted(rows) == list(range(lexicon.vocab_size))
    return [int(token) for token in np.argsort(rows)]


def lexicon_of(ranks: list[int], roots: list[int] | None = None) -> Lexicon:
    found = None if roots is None else np.array(roots, np.int32)
    return Lexicon(np.array(ranks, np.int32), found)


def test_by_frequency_the_most_frequent_is_first():
    assert ids_by_row("frequency", lexicon_of([3, 1, 4, 2])) == [1, 3, 0, 2]


def test_by_root_families_lie_together_the_most_frequent_first():
    # Token 1 is the most frequent, of root 7 as 2 is; then come 3 and 0 of root 2; then 4.
    lexicon = lexicon_of([4, 1, 5, 2, 3], [2, 7, 7, 2, 0])
    assert ids_by_row("root", lexicon) == [1, 2, 3, 0, 4]


def test_by_ulam_s_spiral_ranks_are_read_off_line_by_line():
    """5 4 3 above 6 1 2 above 7 8 9, from the lowest line up."""
    order = ids_by_row("ulam", lexicon_of([1, 2, 3, 4, 5, 6, 7, 8, 9]))
    assert [token + 1 for token in order] == [7, 8, 9, 6, 1, 2, 5, 4, 3]


@pytest.mark.parametrize("kind", ["frequency", "root", "ulam"])
@pytest.mark.parametrize("shape", ["grouped", "untied"])
def test_tables_are_stored_in_that_order_and_the_loss_is_the_same(models, kind, shape):
    spec = models.spec((f"locality.kind={kind}",), shape)
    plain, moved = models.begun(models.spec((), shape)), models.begun(spec)
    rows = Locality(kind=kind).rows(models.lexicon)
    for name in {"embedding.weight", "head.weight"} & set(plain.weights()):
        assert np.array_equal(moved.weights()[name][rows], plain.weights()[name])
    ids = models.ids()
    targets = ids.roll(-1, 1)
    targets[:, -1] = -1
    with torch.no_grad():
        expected, found = plain.loss(ids, targets)[0], moved.loss(ids, targets)[0]
    assert abs(float(expected - found)) < 1e-3


@pytest.mark.parametrize("shape", ["grouped", "untied"])
def test_where_others_make_the_table_it_is_moved_as_it_is_used(models, shape):
    """Roots know tokens by id: each token keeps its own root."""
    model = models.begun(models.spec(("locality", "coordinates"), shape))
    alone = models.begun(models.spec(("coordinates",), shape))
    weights = {
        name: alone.weights()[name] if name.startswith("mechanisms") else value
        for name, value in model.weights().items()
    }
    weights["mechanisms.coordinates.strength"] = np.array([0.7], np.float32)
    other = alone.weights() | {"mechanisms.coordinates.strength": np.array([0.7], np.float32)}
    ids = models.ids()
    with torch.no_grad():
        found = models.built(model.spec, weights)(ids)
        expected = models.built(alone.spec, other)(ids)
    assert (found - expected).abs().max() < 1e-5
