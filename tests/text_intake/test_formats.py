"""Markdown, HTML, PDF, DOCX and EPUB: made here, read back, damaged and hostile ones refused."""

from __future__ import annotations

import io
import socket
import struct
import zipfile
import zlib

import docx
import pytest


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("reading text must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# --- Markdown ---


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: A note\ntags: [a, b]\n---\n\n",
        '+++\ntitle = "A"\n+++\n',
        "---\r\na: 1\r\n---\r\n",
    ],
)
def test_front_matter_is_dropped(read, front: str) -> None:
    (document,) = read("note.md", (front + "# Title\n\nText.\n").encode())
    assert document.text == "# Title\n\nText.\n"
    assert document.kind == "markdown"


@pytest.mark.parametrize(
    "text", ["---\nJust a rule above.\n---\n", "# Only text\n---\n", "---\nno: end\n"]
)
def test_a_rule_is_not_front_matter(read, text: str) -> None:
    assert read("note.md", text.encode())[0].text == text


# --- HTML ---

PARAGRAPHS = [
    f"Paragraph number {number} tells how the {thing} was found near the old harbour, "
    f"and why nobody in the village spoke of it for {number + 2} years."
    for number, thing in enumerate(["lamp", "anchor", "letter", "boat", "bell"])
]
PAGE = (
    "<!DOCTYPE html><html><head><title>Title</title><style>p { color: red }</style></head><body>"
    "<nav><ul><li><a href='/'>Home</a></li><li><a href='/about'>About us</a></li></ul></nav>"
    "<article><h1>The harbour</h1>"
    + "".join(f"<p>{paragraph}</p>" for paragraph in PARAGRAPHS)
    + "</article><script>track('you')</script><footer>Copyright, all rights reserved</footer>"
    "</body></html>"
)


@pytest.mark.parametrize("name", ["page.html", "page.txt", "page"])
def test_the_main_text_of_a_page(read, name: str) -> None:
    (document,) = read(name, PAGE.encode())
    assert document.kind == "html"
    lines = document.text.splitlines()
    assert [line for line in lines if line.startswith("Paragraph")] == PARAGRAPHS
    for junk in ("About us", "track", "color", "<p>"):
        assert junk not in document.text


def test_a_page_without_a_main_part_gives_all_it_shows(read) -> None:
    page = b"<html><body><div>One<br>two <b>three</b></div><script>x()</script></body></html>"
    assert read("page.html", page)[0].text == "One\ntwo three\n"


def test_the_encoding_that_a_page_declares(read) -> None:
    page = PAGE.replace("<title>", "<meta charset=iso-8859-2><title>").replace(
        "bell", "dzwonów łóżka"
    )
    (document,) = read("page.html", page.encode("iso-8859-2"))
    assert "dzwonów łóżka" in document.text


def test_an_xhtml_page_with_a_declaration(read) -> None:
    page = '<?xml version="1.0" encoding="UTF-8"?>\n' + PAGE
    assert PARAGRAPHS[0] in read("page.xhtml", page.encode())[0].text


def test_a_page_without_text_is_left_out(skip_of) -> None:
    assert skip_of("page.html", b"<html><body><script>x()</script></body></html>").kind == "html"


def test_very_deep_markup_does_no_harm(read) -> None:
    page = b"<html><body>" + b"<div>" * 20_000 + b"deep text here" + b"</div>" * 20_000
    assert "deep text" in read("page.html", page + b"<p>last words</p>")[0].text


# --- PDF ---


def test_a_pdf_under_any_name(read, make_pdf) -> None:
    data = make_pdf([["Hello from a page."], ["And caf\xe9 from another (second)."]])
    for name in ("a.pdf", "a.txt", "a"):
        (document,) = read(name, data)
        assert document.kind == "pdf"
        assert document.text == "Hello from a page.\nAnd café from another (second).\n"


def test_page_furniture_is_removed(read, make_pdf) -> None:
    animals = ["badger", "heron", "otter", "lynx", "stork", "marten"]
    pages = [
        ["A Book of Beasts", f"The {animal} comes first.", f"It is a shy {animal}.", f"- {page} -"]
        for page, animal in enumerate(animals, 1)
    ]
    (document,) = read("a.pdf", make_pdf(pages))
    expected = [line for page in pages for line in page[1:3]]
    assert document.text.splitlines() == expected


def test_numbered_footers_and_alternating_headers_go(read, make_pdf) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    pages = [
        ["Left Title" if page % 2 else "Right Title", f"On {word} alone.", f"Page {page} of 8"]
        for page, word in enumerate(words, 1)
    ]
    text = read("a.pdf", make_pdf(pages))[0].text
    assert text.splitlines() == [f"On {word} alone." for word in words]


def test_words_cut_at_line_ends_are_joined(read, make_pdf) -> None:
    pages = [
        ["This is an exam-", "ple of a well-", "known habit, and well-known it is.", "The Anglo-"],
        ["Saxon text goes from page to pa-"],
        ["ge until 2019-", "2020 it rained."],
    ]
    (document,) = read("a.pdf", make_pdf(pages))
    for part in (
        "an example of",
        "a well-known habit",
        "Anglo-Saxon",
        "to page until",
        "2019-2020",
    ):
        assert part in document.text
    assert "\ufffe" not in document.text


def test_a_pdf_made_by_matplotlib(read) -> None:
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    figure = Figure()
    figure.text(0.1, 0.5, "Drawn by another program, with other fonts")
    figure.savefig(buffer, format="pdf")
    (document,) = read("figure.pdf", buffer.getvalue())
    assert "Drawn by another program" in document.text


def test_corrupt_and_scanned_pdfs_are_left_out(skip_of, make_pdf) -> None:
    data = make_pdf([["Some text on a page."]])
    assert "damaged" in skip_of("a.pdf", data[:200]).reason
    assert "damaged" in skip_of("a.pdf", b"%PDF-1.7 and then nothing").reason
    scanned = make_pdf([[]] * 3)
    skip = skip_of("a.pdf", scanned)
    assert ("scanned" in skip.reason, skip.kind) == (True, "pdf")


def test_an_encrypted_pdf_is_left_out(skip_of, make_pdf) -> None:
    lock = (
        b"/Encrypt << /Filter /Standard /V 1 /R 2 /O <"
        + b"28" * 32
        + b"> /U <"
        + b"41" * 32
        + b"> /P -4 >> /ID [<00> <00>] /Root"
    )
    data = make_pdf([["Secret."]]).replace(b"/Root", lock)
    assert "password" in skip_of("a.pdf", data).reason


@pytest.mark.parametrize("layers", [1, 2])
def test_a_pdf_that_unpacks_to_gigabytes_is_left_out(
    skip_of, make_pdf, make_stream, layers
) -> None:
    packer = zlib.compressobj(9)
    stream = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(150)) + packer.flush()
    if layers == 2:
        stream = zlib.compress(stream)
    filters = b"/Filter [%s]" % (b"/FlateDecode " * layers)
    data = make_pdf([[]], streams=[make_stream(stream, filters)])
    assert "unpacks" in skip_of("a.pdf", data).reason


def test_a_packed_pdf(read, make_pdf) -> None:
    import gzip

    (document,) = read("a.pdf.gz", gzip.compress(make_pdf([["Text on a packed page."]])))
    assert (document.kind, document.text) == ("pdf", "Text on a packed page.\n")


# --- DOCX ---


def _docx(*, num_images: int = 0) -> bytes:
    document = docx.Document()
    document.add_heading("A report", level=1)
    document.add_paragraph("First paragraph, with ümlauts.")
    table = document.add_table(rows=2, cols=2)
    for row, texts in zip(table.rows, [("name", "age"), ("Ann", "30")], strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    document.add_paragraph("After the table.")
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.docx", "a.zip", "a.txt"])
def test_a_word_document_in_order(read, name: str) -> None:
    (document,) = read(name, _docx())
    assert document.kind == "docx"
    assert document.text.splitlines() == [
        "A report",
        "First paragraph, with ümlauts.",
        "name\tage",
        "Ann\t30",
        "After the table.",
    ]


def test_damaged_word_documents_are_left_out(skip_of, make_zip) -> None:
    data = _docx()
    assert skip_of("a.docx", data[: len(data) // 2]).kind == "docx"
    members = {
        info.filename: zipfile.ZipFile(io.BytesIO(data)).read(info)
        for info in zipfile.ZipFile(io.BytesIO(data)).infolist()
    }
    for damage in (b"<broken", b""):
        broken = make_zip({**members, "word/document.xml": damage})
        assert "damaged" in skip_of("a.docx", broken).reason
    del members["[Content_Types].xml"]
    assert "damaged" in skip_of("a.docx", make_zip(members)).reason
    altered = bytearray(data)
    start = data.index(b"word/document.xml") + 60
    altered[start : start + 40] = bytes(40)
    assert "damaged" in skip_of("a.docx", bytes(altered)).reason


def _zip_bomb(names: list[str], make_zip) -> bytes:
    members = dict.fromkeys(names, b"<x/>")
    members["word/media/pad.bin"] = bytes(100 << 20)
    return make_zip(members)


def test_zip_files_that_unpack_to_too_much_are_left_out(skip_of, make_zip) -> None:
    word = _zip_bomb(["[Content_Types].xml", "word/document.xml"], make_zip)
    assert "unpacks" in skip_of("a.docx", word).reason
    book = _zip_bomb(["META-INF/container.xml", "book.opf"], make_zip)
    assert "unpacks" in skip_of("a.epub", book).reason


def _local(data: bytes) -> bytes:
    """Behind a local header, with which each zip file begins."""
    return b"PK\3\4" + bytes(26) + data


def _directory(num_members: int, *, is_64: bool = False, claimed: int | None = None) -> bytes:
    """A zip file of a directory alone, by PKWARE's APPNOTE 4.3.12 to 4.3.16."""
    entry = b"PK\1\2" + bytes([20, 3, 20, 0]) + bytes(20) + struct.pack("<H", 1) + bytes(16) + b"a"
    count, size = num_members if claimed is None else claimed, num_members * len(entry)
    end = struct.pack("<4H2LH", 0, 0, count & 0xFFFF, count & 0xFFFF, size, 0, 0)
    if is_64:
        ends = struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, count, count, size, 0)
        ends += b"PK\6\7" + struct.pack("<LQL", 0, size, 1)
        full = struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        return entry * num_members + b"PK\6\6" + ends + b"PK\5\6" + full
    return entry * num_members + b"PK\5\6" + end


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_directory(30_000), "30,000 members, more than 20,000"),
        (_directory(200_000, is_64=True), "200,000 members, more than 20,000"),
        (_directory(200_000, claimed=1), "a directory of 9,400,000 bytes"),
        (_directory(200_000, is_64=True, claimed=1), "a directory of 9,400,000 bytes"),
    ],
    ids=["many", "many by 64 bits", "hidden", "hidden by 64 bits"],
)
@pytest.mark.parametrize("comment", [b"", b"x" * 65_535], ids=["", "commented"])
def test_zip_files_of_too_many_members_are_not_opened(
    skip_of, monkeypatch, data: bytes, reason: str, comment: bytes
) -> None:
    data = data[:-2] + struct.pack("<H", len(comment)) + comment
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", None)
    skip = skip_of("a.docx", _local(data))
    assert reason in skip.reason
    assert skip.kind == "archive"


@pytest.mark.parametrize("is_64", [False, True])
def test_zip_files_of_many_members_are_opened(skip_of, is_64: bool) -> None:
    assert "unpack it first" in skip_of("a.zip", _local(_directory(9_999, is_64=is_64))).reason


def test_entities_in_a_word_document_are_not_expanded(read, skip_of, make_zip, tmp_path) -> None:
    (tmp_path / "secret").write_text("password")
    data = _docx()
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = {info.filename: archive.read(info) for info in archive.infolist()}
    xml = members["word/document.xml"].decode()
    start = xml.index("<w:document")
    doctype = f'<!DOCTYPE d [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
    hostile = xml[:start] + doctype + xml[start:].replace("First paragraph", "&e; first")
    members["word/document.xml"] = hostile.encode()
    texts = [document.text for document in read("a.docx", make_zip(members))]
    assert "password" not in "".join(texts)


# --- EPUB ---

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
)
PACKAGE = (
    '<?xml version="1.0"?>{doctype}<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
    '<item id="two" href="ch%20two.xhtml" media-type="application/xhtml+xml"/>'
    '<item id="one" href="text/one.xhtml" media-type="application/xhtml+xml"/>'
    '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    '<item id="pic" href="pic.png" media-type="image/png"/>'
    '</manifest><spine><itemref idref="nav"/><itemref idref="one"/><itemref idref="two"/>'
    "</spine></package>"
)


def _epub(make_zip, **changes: bytes) -> bytes:
    members = {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": CONTAINER.encode(),
        "OEBPS/book.opf": PACKAGE.format(doctype="").encode(),
        "OEBPS/nav.xhtml": b"<html><body><p>Table of contents</p></body></html>",
        "OEBPS/text/one.xhtml": (
            b'<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml">'
            b"<head><title>x</title></head><body><h1>One</h1>"
            b"<p>It began in M\xc3\xbcnchen.</p></body></html>"
        ),
        "OEBPS/ch two.xhtml": b"<html><body><h1>Two</h1><p>It ended.</p></body></html>",
    }
    return make_zip({**members, **changes})


@pytest.mark.parametrize("name", ["book.epub", "book.zip", "book.txt"])
def test_a_book_in_reading_order(read, make_zip, name: str) -> None:
    (document,) = read(name, _epub(make_zip))
    assert document.kind == "epub"
    assert document.text == "One\nIt began in München.\n\nTwo\nIt ended.\n"


def test_damaged_and_protected_books_are_left_out(skip_of, make_zip) -> None:
    data = _epub(make_zip)
    assert skip_of("a.epub", data[:400]).kind == "epub"
    broken = _epub(make_zip, **{"OEBPS/book.opf": b"<package"})
    assert "damaged" in skip_of("a.epub", broken).reason
    empty = _epub(make_zip, **{"OEBPS/book.opf": b"<package/>"})
    assert "no chapters" in skip_of("a.epub", empty).reason
    lock = b'<encryption><CipherReference URI="OEBPS/text/one.xhtml"/></encryption>'
    protected = _epub(make_zip, **{"META-INF/encryption.xml": lock})
    assert "protect" in skip_of("a.epub", protected).reason


def test_entities_in_a_book_are_not_expanded(read, skip_of, make_zip, tmp_path) -> None:
    (tmp_path / "secret.xhtml").write_text("<p>password</p>")
    doctype = f'<!DOCTYPE p [<!ENTITY e SYSTEM "file://{tmp_path}/secret.xhtml">]>'
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    laughs = f'<!DOCTYPE p [<!ENTITY l0 "ha">{lines}]>'
    package = PACKAGE.format(doctype=doctype).replace("</manifest>", "&e;</manifest>")
    chapter = f"{doctype}<html><body><p>&e; is not told</p></body></html>"
    changes = {"OEBPS/book.opf": package.encode(), "OEBPS/ch two.xhtml": chapter.encode()}
    text = read("a.epub", _epub(make_zip, **changes))[0].text
    assert "password" not in text
    assert "is not told" in text
    package = PACKAGE.format(doctype=laughs).replace("</manifest>", "&l9;</manifest>")
    skip = skip_of("a.epub", _epub(make_zip, **{"OEBPS/book.opf": package.encode()}))
    assert "damaged" in skip.reason
