"""Every encoding a person may meet is read, and what is in none is left out."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cllm.config import TextSettings
from cllm.errors import SettingsError
from cllm.text.content import Content
from cllm.text.encodings import PIECE_BYTES, find_encoding, split_utf8, text_pieces
from cllm.text.intake import read_source
from cllm.text.sources import Source

# Letters of many scripts; a line of ASCII is in it, as zero bytes tell the wide encodings.
LETTERS = st.characters(
    codec="utf-8", categories=("Lu", "Ll", "Lo", "Nd", "Po", "Zs"), max_codepoint=0x9FFF
)
TEXTS = st.lists(st.text(LETTERS, max_size=40), min_size=1, max_size=6).map(
    lambda lines: "The first line.\n" + "\n".join(lines)
)

SAMPLES = {
    "german": "Der Fluß führt durch schöne Täler; Größe und Güte übertreffen ältere Wälder.",
    "french": "Été comme hiver, l'élève français reçoit à l'école où il étudie ça, très sérieux.",
    "spanish": "El niño comió una piña mañana. ¿Cómo está usted? La canción habló español.",
    "english": "It’s a “quoted” sentence — with typographic dashes… and café, naïve; £5 or €6.",
    "polish": "Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni i równi pod względem praw.",
    "czech": "Příliš žluťoučký kůň úpěl ďábelské ódy. Všichni lidé se rodí svobodní a rovní.",
    "hungarian": "Árvíztűrő tükörfúrógép. Minden emberi lény szabadon születik és egyenlő.",
    "turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl, vicdan.",
    "russian": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון.",
    "arabic": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا.",
    "japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利について平等だ。",
    "chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系相对待。",
    "taiwanese": "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係相對待。",
    "korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}
CASES = [
    ("german", "latin-1"),
    ("german", "cp850"),
    ("german", "mac-roman"),
    ("french", "cp1252"),
    ("spanish", "latin-1"),
    ("english", "cp1252"),
    ("polish", "cp1250"),
    ("polish", "iso-8859-2"),
    ("czech", "cp1250"),
    ("czech", "iso-8859-2"),
    ("hungarian", "cp1250"),
    ("turkish", "cp1254"),
    ("russian", "cp1251"),
    ("russian", "koi8-r"),
    ("russian", "cp866"),
    ("greek", "cp1253"),
    ("hebrew", "cp1255"),
    ("arabic", "cp1256"),
    ("japanese", "shift-jis"),
    ("japanese", "euc-jp"),
    ("japanese", "iso-2022-jp"),
    ("chinese", "gb18030"),
    ("chinese", "gb2312"),
    ("taiwanese", "big5"),
    ("korean", "euc-kr"),
]


@pytest.mark.parametrize(("language", "encoding"), CASES)
@pytest.mark.parametrize("repeat", [1, 40])
def test_older_encodings_are_told(read, language: str, encoding: str, repeat: int) -> None:
    text = (SAMPLES[language] + "\n") * repeat
    data = text.encode(encoding, "ignore")
    (document,) = read("notes.txt", data)
    assert document.text == data.decode(encoding)
    assert document.num_bytes == len(data.decode(encoding).encode())


@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_an_encoding_that_was_named_is_used(read, language: str, encoding: str) -> None:
    data = SAMPLES[language].encode(encoding, "ignore")
    (document,) = read("notes.txt", data, encoding=encoding)
    assert document.text == data.decode(encoding)


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", b""),
        ("utf-32-be", b""),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-32-be", codecs.BOM_UTF32_BE),
    ],
)
@given(text=TEXTS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_unicode_round_trips_with_and_without_a_mark(
    tmp_path: Path, encoding: str, mark: bytes, text: str
) -> None:
    path = tmp_path / "any.bin"
    path.write_bytes(mark + text.encode(encoding))
    source = Source(path, "any")
    documents = read_source(source, TextSettings(), clean=False)
    assert "".join(part.text for part in documents).removeprefix("\ufeff") == text


@given(
    st.lists(st.sampled_from(["a", "é", "日", "😀", "e\u0301", " ", "\n", "\r\n"]), max_size=300),
    st.integers(1, 50),
)
def test_pieces_are_the_whole_text(parts: list[str], step: int) -> None:
    data = "".join(parts).encode()
    blocks = [data[start : start + step] for start in range(0, len(data), step)]
    pieces = list(split_utf8(blocks))
    assert b"".join(pieces) == data


@pytest.mark.parametrize("line", ["x" * 1000 + "\n", "日本 " * 300, "é\u0301" * 2000, "😀\u0301"])
def test_long_texts_are_cut_between_characters(tmp_path: Path, line: str) -> None:
    text = line * (9_500_000 // len(line.encode()))
    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8", newline="")
    content = Content(path, max_file_bytes=1 << 30)
    pieces = list(text_pieces(content, find_encoding(content)))
    assert "".join(piece for piece, _ in pieces) == text
    assert sum(size for _, size in pieces) == path.stat().st_size
    assert all(size <= PIECE_BYTES for _, size in pieces)
    assert all(not piece.startswith("\u0301") for piece, _ in pieces)
    if "\n" in line:
        assert all(piece.endswith("\n") for piece, _ in pieces)


def test_an_accent_after_megabytes_of_ascii_is_seen_before_anything_is_read(read) -> None:
    text = "plain ascii text, line after line\n" * 200_000 + "und schließlich schöne Grüße\n"
    documents = read("late.txt", text.encode("latin-1"))
    assert "".join(document.text for document in documents) == text


def test_a_few_damaged_bytes_do_not_lose_a_utf8_file(read) -> None:
    data = "Zażółć gęślą jaźń. Съешь же ещё этих булок.\n".encode() * 50
    (document,) = read("damaged.txt", data[:500] + b"\xff" + data[500:])
    assert document.text.count("\ufffd") <= 2
    assert document.text.count("gęślą") >= 49


def test_a_truncated_utf8_file_keeps_its_whole_characters(read) -> None:
    (document,) = read("cut.txt", "Grüße aus Köln, schöne Stadt ü".encode()[:-1])
    assert document.text == "Grüße aus Köln, schöne Stadt \ufffd"


def test_random_bytes_are_binary(skip_of) -> None:
    assert skip_of("noise.txt", os.urandom(5000)).kind == "binary"
    assert skip_of("zeros.txt", bytes(5000)).kind == "binary"


def test_bytes_of_no_encoding_are_undecodable(skip_of) -> None:
    skip = skip_of("strange.txt", bytes(range(128, 256)) * 20)
    assert skip.kind == "undecodable"
    assert "encoding" in skip.reason


def test_a_wrong_encoding_that_was_named_is_said(skip_of) -> None:
    skip = skip_of("notes.txt", "schöne Grüße".encode("latin-1"), encoding="utf-8")
    assert skip.kind == "undecodable"
    assert "byte 3" in skip.reason


def test_an_unknown_encoding_is_the_persons_error(read) -> None:
    with pytest.raises(SettingsError, match="klingon"):
        read("notes.txt", b"text", encoding="klingon")
    with pytest.raises(SettingsError):
        read("notes.txt", b"text", encoding="base64")
