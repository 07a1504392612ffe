"""`cllm numbers` as people and programs meet it: answers, pictures, and what it refuses."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cllm.cli.main import run
from cllm.cli.whole_numbers import parse_whole
from cllm.errors import InputError
from cllm.jobs.reduction import read_file, read_matrix

# Palettes of the light and the dark pictures: their paper.
PAPER = {False: (0xF8, 0xF3, 0xE8), True: (0x0C, 0x10, 0x20)}


def answer(capfd, *arguments):
    """The JSON value that a command prints."""
    assert run(["numbers", *arguments, "--json"]) == 0
    return json.loads(capfd.readouterr().out.splitlines()[-1])


def text(capfd, *arguments):
    assert run(["numbers", *arguments]) == 0
    return capfd.readouterr().out


def test_primes(capfd):
    # The 25th prime is 97; the millionth 15485863; π(10⁹) = 50847534.
    found = answer(capfd, "prime", "97")
    assert found == {
        "number": 97,
        "is_prime": True,
        "index": 25,
        "previous_prime": 89,
        "next_prime": 101,
    }
    assert not answer(capfd, "prime", "91")["is_prime"]
    assert answer(capfd, "prime", "1")["previous_prime"] is None
    assert answer(capfd, "prime", "2^61-1")["is_prime"]
    assert answer(capfd, "prime", "--nth", "1_000_000")["prime"] == 15485863
    assert answer(capfd, "prime", "--count", "10**9")["primes"] == 50847534
    assert "The 22nd prime is 79." in text(capfd, "prime", "--nth", "22")
    assert "There are 168 primes up to 1,000." in text(capfd, "prime", "--count", "1e3")
    assert "the 25th prime" in text(capfd, "prime", "97")


def test_factors(capfd):
    found = answer(capfd, "factor", "360")
    assert found["factors"] == {"2": 3, "3": 2, "5": 1}
    assert (found["totient"], found["mobius"]) == (96, 0)
    assert (found["num_divisors"], found["divisor_sum"]) == (24, 1170)
    assert found["divisors"][:6] == [1, 2, 3, 4, 5, 6] and found["divisors"][-1] == 360
    assert "360 = 2^3 · 3^2 · 5" in text(capfd, "factor", "360")
    # Fermat's number F₅ is Euler's 641 · 6700417.
    assert answer(capfd, "factor", "2^32+1")["factors"] == {"641": 1, "6700417": 1}
    assert answer(capfd, "factor", "30")["mobius"] == -1
    assert answer(capfd, "factor", "1")["divisors"] == [1]


def test_constants(capfd):
    assert text(capfd, "constant", "pi", "--digits", "20") == "3.1415926535897932385\n"
    assert text(capfd, "constant", "e", "--digits", "10") == "2.718281828\n"
    assert text(capfd, "constant", "phi", "--digits", "12") == "1.61803398875\n"
    assert text(capfd, "constant", "sqrt2", "--digits", "12") == "1.41421356237\n"
    thousand = answer(capfd, "constant", "pi", "--digits", "1000")["value"]
    # The Feynman point: six nines from the 762nd decimal.
    assert thousand[2:][761:767] == "999999"


def test_the_formula(capfd):
    found = answer(capfd, "formula", "1", "--digits", "12")
    assert (found["prime"], found["twist"], found["phonetic"]) == (2, 1, 3)
    assert (found["exponent"], found["density"]) == ("1.00000000000", "-1.00000000000")
    assert (found["einstein"], found["ratios"]) == ("1/48000", ["119/169", "120/169"])
    assert len(found["waves"]) == 12
    shown = text(capfd, "formula", "1", "--digits", "12")
    assert found["waves"]["31"] in shown and found["value"][0] in shown


def test_the_tablet(capfd):
    rows = answer(capfd, "plimpton")["rows"]
    assert [row["number"] for row in rows if row["errors"]] == [2, 8, 9, 13, 15]
    assert (rows[8]["short"], rows[8]["short_written"]) == (481, "9,1")
    shown = text(capfd, "plimpton")
    assert "1;59,0,15" in shown and "9,1 *" in shown and "9,1 for 8,1" in shown


def test_spirals(capfd):
    found = answer(capfd, "spiral", "ulam", "--points", "10201")["spiral"]
    assert (found["points"], found["primes"]) == (10201, 1252)  # π(10201) = 1252
    assert found["line_primes"] <= found["line_points"] <= 101
    golden = answer(capfd, "spiral", "golden", "--points", "1000")["spiral"]
    assert golden["primes"] == 168
    assert "168 of 1,000" in text(capfd, "spiral", "golden", "--points", "1000")
    assert answer(capfd, "spiral", "ulam", "--points", "1")["spiral"]["line_points"] == 1


def test_lattices(capfd):
    about = answer(capfd, "lattice", "e8")["lattice"]
    assert about["shells"] == {
        "2": 240,
        "4": 2160,
        "6": 6720,
        "8": 17520,
        "10": 30240,
        "12": 60480,
    }
    # The densities of the densest packings: π/√12, π⁴/384, π¹²/12!.
    for name, density in [("A2", 0.9068997), ("E8", 0.2536695), ("Leech", 0.0019296)]:
        found = answer(capfd, "lattice", name)["lattice"]["density"]
        assert found == pytest.approx(density, abs=5e-8)
    assert "2,160" in text(capfd, "lattice", "E8")
    near = answer(capfd, "lattice", "D4", "--nearest", "-0.9,1.2,0.1,0")
    assert near["nearest"] == [-1, 1, 0, 0]
    assert near["distance"] == pytest.approx(0.06**0.5)
    assert answer(capfd, "kissing", "Leech")["kissing_number"] == 196560
    assert "240 spheres touch one in 8 dimensions" in text(capfd, "kissing", "E8")


def test_reduction(capfd, tmp_path, monkeypatch):
    (tmp_path / "basis.txt").write_text("# a comment\n1, 1, 1\n-1 0 2\n3 5 6\n")
    found = answer(capfd, "reduce", str(tmp_path / "basis.txt"))
    # The determinant is −3, and (0, 1, 0) is in the lattice.
    assert found["squared_volume"] == 9
    assert abs(round(np.linalg.det(found["basis"]))) == 3
    assert (found["squared_shortest_before"], found["squared_shortest_after"]) == (3, 1)
    assert found["defect_after_bits"] <= found["defect_before_bits"]
    monkeypatch.setattr("sys.stdin", (tmp_path / "basis.txt").open())
    assert "shortest row    √1 ≈ 1" in text(capfd, "reduce")


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        ["spiral", "ulam", "--points", "2000"],
        ["spiral", "golden", "--points", "500"],
        ["plimpton", "--limit", "300"],
        ["kissing", "A2"],
        ["kissing", "D4"],
        ["lattice", "A2"],
    ],
    ids=" ".join,
)
def test_pictures(capfd, tmp_path, arguments, is_dark):
    path = tmp_path / "made" / "picture.png"
    flags = ["--output", str(path), *(["--dark"] if is_dark else [])]
    assert f"Drawn: {path}" in text(capfd, *arguments, *flags)
    # Whole and alone: nothing temporary is left beside it.
    assert [child.name for child in path.parent.iterdir()] == ["picture.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and image.size == (2000, 2300)
        pixels = np.array(image.convert("RGB"))
    assert tuple(pixels[0, 0]) == PAPER[is_dark]
    is_drawn = (pixels != pixels[0, 0]).any(axis=2)
    # The art fills its square, the type stands below it, and the margins are empty.
    assert 0.003 < is_drawn[150:1850, 150:1850].mean() < 0.9
    assert is_drawn[1950:2250].any()
    assert not is_drawn[:, :100].any() and not is_drawn[:120].any()


def test_the_densest_pictures(capfd, tmp_path):
    # As many dots or lines as these two have are drawn in another way.
    for name in ("E8", "Leech"):
        path = tmp_path / f"{name}.png"
        assert run(["numbers", "kissing", name, "--output", str(path)]) == 0
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB")).astype(int)
        is_drawn = (np.abs(pixels - pixels[0, 0]) > 8).any(axis=2)[150:1850, 150:1850]
        assert 0.1 < is_drawn.mean() < 0.95
        # Symmetric under the half turn, as every lattice is.
        assert (is_drawn == is_drawn[::-1, ::-1]).mean() > 0.97


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prime"], "give one of a number, --nth and --count"),
        (["prime", "97", "--nth", "3"], "give one of"),
        (["prime", "abc"], "'abc' is no whole number"),
        (["prime", "1.5e0"], "is not whole"),
        (["prime", "10**400"], "too long"),
        (["prime", "--count", "1e30"], "9,007,199,254,740,991"),
        (["prime", "--nth", "0"], "less than 1"),
        (["factor", "0"], "from 1"),
        (["factor", "-12"], "from 1"),
        (["factor", "10**210+1"], "digits are left"),
        (["constant", "po"], "Did you mean pi?"),
        (["constant", "pi", "--digits", "10**3"], "--digits"),
        (["constant", "pi", "--digits", "99999999999999"], "bytes of memory"),
        (["formula", "0"], "less than 1"),
        (["lattice", "E7"], "A2, D4, E8"),
        (["lattice", "leach"], "Did you mean Leech?"),
        (["lattice", "A2", "--nearest", "1,2,3"], "3 coordinates"),
        (["lattice", "A2", "--nearest", "1,x"], "is no point"),
        (["lattice", "A2", "--nearest", "nan,1"], "not finite"),
        (["lattice", "A2", "--nearest", "1,2", "--output", "x.png"], "draws no picture"),
        (["kissing", "E8", "--output", "picture.jpg"], ".png"),
        (["spiral", "ulam", "--points", "0"], "From 1"),
        (["spiral", "ulam", "--points", "1e12"], "From 1"),
        (["spiral", "golden", "--points", "1e7", "--output", "x.png"], "can't be seen"),
        (["plimpton", "--limit", "1e9", "--output", "x.png"], "to look at"),
        (["reduce", "none.txt"], "no such file"),
    ],
)
def test_what_is_refused(capfd, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(["numbers", *arguments]) == 2
    shown = capfd.readouterr()
    assert message in shown.err and "Traceback" not in shown.err
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("", "no row of numbers"),
        ("1 2\n3\n", "row 2: 1 numbers where the first row has 2"),
        ("1 2\n3 x\n", "row 2: 'x' is no number"),
        ("1 1/0\n", "row 1: '1/0' is no number"),
        ("[[1, 2], [3", "no JSON"),
        ("[1, 2]", "no list of rows"),
        ("[[1, true]]", "row 1: 'True' is no number"),
    ],
)
def test_what_is_no_matrix(matrix, message):
    with pytest.raises(InputError) as caught:
        read_matrix(matrix)
    assert message in str(caught.value)


def test_matrices_are_read_exactly():
    expected = read_matrix("1 1/10\n0.25 3\n")
    assert expected == read_matrix('[[1, 0.1], ["1/4", 3]]')
    assert expected[0][1] * 10 == 1 and expected[1][0] * 4 == 1


@pytest.mark.parametrize("matrix", ["1 2\n3 5\n", "[[1, 2], [3, 5]]"])
def test_a_byte_order_mark_is_no_part_of_a_matrix(tmp_path, matrix):
    # As Windows' Notepad writes "UTF-8 with BOM".
    (tmp_path / "basis.txt").write_bytes(b"\xef\xbb\xbf" + matrix.encode())
    assert read_matrix(read_file(str(tmp_path / "basis.txt"))) == [[1, 2], [3, 5]]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("97", 97),
        ("1_000_000", 10**6),
        ("1,000,000", 10**6),
        ("1e12", 10**12),
        ("1.5E3", 1500),
        ("1e+3", 1000),
        ("12.50e1", 125),
        ("10**12", 10**12),
        ("2^61-1", 2**61 - 1),
        ("10^3 + 9", 1009),
        ("-5", -5),
        ("−5", -5),
    ],
)
def test_whole_numbers_as_people_type_them(text, number):
    assert parse_whole(text, "N") == number


@pytest.mark.parametrize(
    "text",
    ["", "-", "1e", "0x10", "1..2", "2**3**4", "2^-1", "٣", "1e99999", "9" * 5000, "9**9999"],
)
def test_what_is_no_whole_number(text):
    with pytest.raises(InputError):
        parse_whole(text, "N")


@given(st.integers(-(10**60), 10**60))
def test_every_integer_is_read_as_it_is(number):
    assert parse_whole(str(number), "N") == number
    assert parse_whole(f"{number:,}", "N") == number
    assert parse_whole(f"{number:_}", "N") == number


def test_help_names_every_command(capfd):
    assert run(["numbers", "--help"]) == 0
    shown = capfd.readouterr().out
    for name in ("prime", "factor", "constant", "formula", "plimpton", "spiral", "lattice"):
        assert name in shown
    assert "Make the basis of a lattice short" in shown and "spheres touch one" in shown
