"""What type a file is: by its content first, then by its name."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import PurePath

from cllm.text.content import Content
from cllm.text.document import SkipFile
from cllm.text.readers.zip_members import open_zip

_BINARIES = (
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF87a", "GIF image"),
    (b"GIF89a", "GIF image"),
    (b"II*\x00", "TIFF image"),
    (b"MM\x00*", "TIFF image"),
    (b"\x7fELF", "program"),
    (b"MZ\x90\x00", "program"),
    (b"\xca\xfe\xba\xbe", "program"),
    (b"\xcf\xfa\xed\xfe", "program"),
    (b"\x00asm", "program"),
    (b"SQLite format 3\x00", "SQLite database"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"Rar!\x1a\x07", "RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Microsoft Office document"),
    (b"PAR1", "Parquet table"),
    (b"ARROW1", "Arrow table"),
    (b"\x89HDF", "HDF5 file"),
    (b"GGUF", "GGUF model"),
    (b"OggS", "Ogg sound"),
    (b"fLaC", "FLAC sound"),
    (b"ID3", "MP3 sound"),
    (b"wOFF", "font"),
    (b"wOF2", "font"),
    (b"{\\rtf", "RTF document"),
    (b"%!PS", "PostScript document"),
)
_SUFFIX_KINDS = {
    "markdown": "md markdown mdown mkd mdx qmd",
    "rst": "rst rest",
    "html": "html htm xhtml",
    "jsonl": "jsonl ndjson jsonlines",
    "csv": "csv tsv tab",
    "code": (
        "py pyi pyx c h cc cpp cxx hh hpp hxx cs java kt kts scala groovy js mjs cjs jsx ts tsx "
        "go rs rb php pl pm lua r jl swift m mm hs ml mli fs fsx ex exs erl hrl clj cljs lisp el "
        "scm rkt sh bash zsh fish ps1 bat cmd sql vb pas d nim zig dart f f90 f95 for asm s v sv "
        "vhd vhdl css scss sass less json yaml yml toml ini cfg conf xml xsl xsd svg proto thrift "
        "graphql cmake mk make gradle tf nix vue svelte tex bib cls sty ipynb diff patch lock"
    ),
}
_KINDS = {suffix: kind for kind, row in _SUFFIX_KINDS.items() for suffix in row.split()}
_CODE_NAMES = {"makefile", "dockerfile", "cmakelists.txt", "rakefile", "gemfile", "jenkinsfile"}
_HTML = re.compile(
    rb"(?:<\?xml[^>]*>\s*)?(?:<!--(?>.*?-->)\s*)*+<(?:!doctype\s+html|html[\s>])", re.I | re.S
)
_OFFICE = {"xl/": "Excel workbook", "ppt/": "PowerPoint presentation", "word/": "Word document"}


def detect_kind(content: Content) -> str:
    """The kind of document that `content` is: a reader's name.

    Raises: SkipFile for what is known not to be text.
    """
    head = content.head
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _kind_of_zip(content)
    _refuse_binary(head)
    stripped = _as_ascii(head[:65_536]).lstrip(b"\xef\xbb\xbf \t\r\n")
    name = PurePath(content.name.lower())
    by_name = _KINDS.get(name.suffix.removeprefix("."), "text")
    if name.name in _CODE_NAMES or (by_name == "text" and head.startswith(b"#!")):
        by_name = "code"
    if _HTML.match(stripped):
        return "html"
    if by_name == "html":
        return "html" if b"<" in stripped else "text"
    if by_name == "jsonl":
        return "jsonl" if stripped.startswith((b"{", b"[", b'"')) else "text"
    if by_name == "text" and _is_json_lines(stripped):
        return "jsonl"
    return by_name


def _refuse_binary(head: bytes) -> None:
    for magic, what in _BINARIES:
        if head.startswith(magic):
            raise SkipFile(f"binary: {what}", "binary")
    if head[257:262] == b"ustar":
        raise SkipFile("an archive (tar): unpack it first", "archive")
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        raise SkipFile("binary: image, sound or film", "binary")
    if head[4:8] == b"ftyp":
        raise SkipFile("binary: film", "binary")


def _as_ascii(head: bytes) -> bytes:
    """The head with the zero bytes of UTF-16 and UTF-32 taken out, to look for signs in it."""
    return head.lstrip(b"\xff\xfe").replace(b"\0", b"") if b"\0" in head[:64] else head


def _is_json_lines(head: bytes) -> bool:
    """Whether the first two lines (or the only one) are JSON objects."""
    lines = [line for line in head.split(b"\n", 3)[:2] if line.strip()]
    if not lines or not lines[0].startswith(b"{"):
        return False
    try:
        return all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


def _kind_of_zip(content: Content) -> str:
    try:
        with content.seekable() as file, open_zip(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        suffix = PurePath(content.name.lower()).suffix
        kind = {".docx": "docx", ".epub": "epub"}.get(suffix, "archive")
        raise SkipFile(
            f"damaged zip file: {str(error).lower() or 'it ends too early'}", kind
        ) from error
    if "word/document.xml" in names:
        return "docx"
    if "META-INF/container.xml" in names and any(name.endswith(".opf") for name in names):
        return "epub"
    for prefix, what in _OFFICE.items():
        if any(name.startswith(prefix) for name in names):
            raise SkipFile(f"{what}: not a type that is read", "office")
    raise SkipFile("an archive (zip): unpack it first", "archive")
