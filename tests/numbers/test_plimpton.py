"""The tablet against its published transcription; triples against their published counts."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers.plimpton import (
    ERRORS,
    from_sexagesimal,
    is_regular,
    primitive_triples,
    regular_generators,
    tablet_rows,
    to_sexagesimal,
    triple_tree,
)

# Corrected transcription: Robson, 2001, Historia Mathematica 28; row 15 with the 56 of the
# tablet and the diagonal that Neugebauer & Sachs, 1945, give it.
TABLET = """
1;59,0,15               1,59     2,49
1;56,56,58,14,50,6,15   56,7     1,20,25
1;55,7,41,15,33,45      1,16,41  1,50,49
1;53,10,29,32,52,16     3,31,49  5,9,1
1;48,54,1,40            1,5      1,37
1;47,6,41,40            5,19     8,1
1;43,11,56,28,26,40     38,11    59,1
1;41,33,45,14,3,45      13,19    20,49
1;38,33,36,36           8,1      12,49
1;35,10,2,28,27,24,26,40 1,22,41 2,16,1
1;33,45                 45       1,15
1;29,21,54,2,15         27,59    48,49
1;27,0,3,45             2,41     4,49
1;25,48,51,35,6,40      29,31    53,49
1;23,13,46,40           56       1,46
"""


def test_all_fifteen_rows():
    rows = [
        [to_sexagesimal(row.ratio), to_sexagesimal(row.short), to_sexagesimal(row.diagonal)]
        for row in tablet_rows()
    ]
    assert rows == [line.split() for line in TABLET.split("\n") if line]


def test_each_row_is_a_right_triangle_with_a_regular_long_side():
    for row in tablet_rows():
        assert row.short**2 + row.long**2 == row.diagonal**2
        assert row.short < row.long and is_regular(row.long)
        assert sum(part**2 for part in row.direction) == 1


def test_the_rule_gives_38_triangles():
    assert len(regular_generators(60)) == 38  # de Solla Price, 1964


def test_the_errors_are_where_the_scribe_made_them():
    found = {number: {error.column for error in errors} for number, errors in ERRORS.items()}
    assert found == {
        2: {"ratio", "diagonal"},
        8: {"ratio"},
        9: {"short"},
        13: {"short"},
        15: {"diagonal"},
    }
    rows = {row.number: row for row in tablet_rows()}
    for number, errors in ERRORS.items():
        assert rows[number].errors == errors
        for error in errors:
            assert to_sexagesimal(getattr(rows[number], error.column)) == error.correct
            assert error.written != error.correct
    # 13: the square; 8: two digits written as their sum; 15: half of the diagonal.
    assert from_sexagesimal(ERRORS[13][0].written) == rows[13].short ** 2
    assert 59 == 45 + 14
    assert from_sexagesimal(ERRORS[15][0].written) * 2 == rows[15].diagonal


@given(st.integers(0, 10**12), st.integers(0, 12), st.integers(0, 8), st.integers(0, 8))
def test_base_60_there_and_back(numerator, twos, threes, fives):
    value = Fraction(numerator, 2**twos * 3**threes * 5**fives)
    assert from_sexagesimal(to_sexagesimal(value)) == value


def test_base_60_by_hand():
    assert to_sexagesimal(0) == "0"
    assert to_sexagesimal(3600) == "1,0,0"
    assert to_sexagesimal(Fraction(1, 7200)) == "0;0,0,30"


@pytest.mark.parametrize("value", [Fraction(1, 7), -1])
def test_what_base_60_cannot_write(value):
    with pytest.raises(InputError):
        to_sexagesimal(value)


@pytest.mark.parametrize("text", ["", "60", "1;-3", "abc"])
def test_what_is_no_number_in_base_60(text):
    with pytest.raises(InputError):
        from_sexagesimal(text)


# Primitive triples with hypotenuse up to 10^k: OEIS A101931.
@pytest.mark.parametrize(("limit", "count"), [(4, 0), (5, 1), (10, 1), (100, 16), (1000, 158)])
def test_counts_of_primitive_triples(limit, count):
    assert len(primitive_triples(limit)) == count


def test_more_counts_and_every_row_is_a_triple():
    triples = primitive_triples(100_000)
    assert len(triples) == 15919
    a, b, c = triples.T
    assert (a * a + b * b == c * c).all() and (a % 2 == 1).all() and (c[1:] >= c[:-1]).all()
    assert all(math.gcd(*row) == 1 for row in triples[:500].tolist())


def test_the_tree_holds_each_triple_once():
    # The slowest to grow are 2k² + 2k + 1, on level k: 221 on the tenth.
    tree = [triple for triple in triple_tree(9) if triple[2] <= 200]
    assert len(tree) == len(set(tree))
    by_size = sorted(tree, key=lambda row: (row[2], row[0]))
    assert list(map(list, by_size)) == primitive_triples(200).tolist()


def test_the_first_children():
    # Berggren, 1934.
    assert list(triple_tree(2)) == [(3, 4, 5), (5, 12, 13), (21, 20, 29), (15, 8, 17)]


def test_limits_are_checked():
    for call in (primitive_triples, triple_tree, regular_generators):
        with pytest.raises(InputError):
            list(call(-1))
    with pytest.raises(InputError, match="bytes"):
        primitive_triples(10**15)
