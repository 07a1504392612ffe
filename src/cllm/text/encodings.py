"""From bytes to characters: which encoding a file is in, and its text as a stream."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cllm.errors import SettingsError
from cllm.text.clean import is_inert
from cllm.text.content import Content
from cllm.text.document import SkipFile
from cllm.text.legacy_encodings import guess_encodings

PIECE_BYTES = 4 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Bytes that text has no use for; escape, backspace, form feed and Ctrl-Z do occur.
_BINARY_BYTES = bytes(code for code in range(32) if code not in b"\b\t\n\v\f\r\x1a\x1b")
_MAX_BINARY_SHARE = 0.01
_SAMPLE_BYTES = 1 << 16
_GOOD = re.compile("[^\x00-\x7f\ufffd]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """A codec's name, and what to do with the odd byte that does not fit ("strict": nothing)."""

    name: str
    errors: str = "strict"


def find_encoding(content: Content, wanted: str | None = None) -> Encoding:
    """Tell the encoding of a text file, reading all of it so that decoding can't fail later.

    UTF-8 if it is that, strictly; a byte order mark; UTF-16 and UTF-32 by their zero bytes;
    otherwise what the bytes around the first that is not UTF-8 look most like.
    Raises: SkipFile when no encoding fits. Cost: about 1 GB/s for UTF-8.
    """
    if wanted is not None:
        encoding = Encoding(codec_name(wanted))
        problem = _first_problem(content, encoding)
        if problem is not None:
            reason = f"not {wanted}, the encoding asked for, at byte {problem.offset:,}"
            raise SkipFile(reason, "undecodable")
        return encoding
    for bom, name in _BOMS:
        if content.head.startswith(bom) and fits(content, Encoding(name)):
            return Encoding(name)
    if b"\0" in content.head:
        wide = _wide_encoding(content.head)
        if wide is not None and fits(content, Encoding(wide)):
            return Encoding(wide)
    # Its bytes are all ASCII, so that it would pass for UTF-8.
    if b"\x1b$" in content.head and fits(content, Encoding("iso2022_jp")):
        return Encoding("iso2022_jp")
    if is_binary(content.head):
        raise SkipFile("binary: not text in any encoding", "binary")
    problem = _first_problem(content, Encoding("utf-8"))
    if problem is None:
        return Encoding("utf-8")
    return _other_encoding(content, problem)


def fits(content: Content, encoding: Encoding) -> bool:
    """Whether the whole file can be decoded so."""
    return _first_problem(content, encoding) is None


def codec_name(wanted: str) -> str:
    """The codec for the encoding a person named. Raises: SettingsError."""
    try:
        codec = codecs.lookup(wanted)
        "".encode(codec.name)
    except LookupError:
        hint = "Try utf-8, latin-1, windows-1252, shift-jis, gb18030, utf-16; or leave it out."
        raise SettingsError(
            f"unknown encoding {wanted!r}", where="text.encoding", hint=hint
        ) from None
    return codec.name


def is_binary(sample: bytes) -> bool:
    """Whether so many control bytes occur that `sample` can't be text of one or more bytes."""
    num_binary = len(sample) - len(sample.translate(None, _BINARY_BYTES))
    return num_binary > _MAX_BINARY_SHARE * len(sample)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Where decoding first fails, and the bytes around that place."""

    offset: int
    around: bytes
    is_at_end: bool


def _first_problem(content: Content, encoding: Encoding) -> _Problem | None:
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    offset, before = 0, b""
    for block in content.blocks():
        try:
            decoder.decode(block)
        except UnicodeError as error:
            place = error.start if isinstance(error, UnicodeDecodeError) else 0
            start = max(0, place - _SAMPLE_BYTES // 4)
            around = (before[-_SAMPLE_BYTES // 4 :] if start == 0 else b"") + block[start:]
            return _Problem(offset + place, around, is_at_end=False)
        offset += len(block)
        before = block
    try:
        decoder.decode(b"", final=True)
    except UnicodeError:
        return _Problem(offset, before[-_SAMPLE_BYTES:], is_at_end=True)
    return None


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, told by where the zero bytes stand."""
    best: tuple[float, str] | None = None
    for name, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        whole = head[: len(head) // width * width]
        decoder = codecs.getincrementaldecoder(name)()
        try:
            text = decoder.decode(whole)
        except UnicodeError:
            continue
        share = _odd_share(text)
        if text and share <= _MAX_BINARY_SHARE and (best is None or share < best[0]):
            best = (share, name)
    return best[1] if best else None


def _odd_share(text: str) -> float:
    """Share of characters that real text hardly has: controls, unassigned, private."""
    sample = text[:20_000]
    # Zero bytes in the wrong half make Latin letters look like U+6100: rare, unlike line ends.
    swapped = {"\u0a00", "\u0d00", "\u2000", "\u0900"}
    odd = sum(
        1
        for character in sample
        if character in swapped
        or (not character.isprintable() and not character.isspace() and character != "\ufeff")
    )
    return odd / max(1, len(sample))


def _other_encoding(content: Content, problem: _Problem) -> Encoding:
    decoded = problem.around.decode("utf-8", "replace")
    num_bad = decoded.count("\ufffd")
    num_good = len(_GOOD.findall(decoded))
    # Chance seldom makes UTF-8 of another encoding's bytes: many good sequences and few bad
    # ones are damaged UTF-8. A good one and a last one cut short are a truncated file.
    if num_good > 20 * num_bad or (problem.is_at_end and num_good > num_bad):
        return Encoding("utf-8", "replace")
    for name in guess_encodings(problem.around[:_SAMPLE_BYTES]):
        if fits(content, Encoding(name)):
            return Encoding(name)
    raise SkipFile("undecodable: its bytes fit no known encoding", "undecodable")


def utf8_blocks(content: Content, encoding: Encoding) -> Iterator[bytes]:
    """The text of a file as blocks of UTF-8, which may end inside a character."""
    if encoding.name == "utf-8":
        yield from content.blocks()
        return
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    try:
        for block in content.blocks():
            yield decoder.decode(block).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise SkipFile("changed while it was being read", "undecodable") from error


def text_pieces(content: Content, encoding: Encoding) -> Iterator[tuple[str, int]]:
    """The text of a file in pieces of at most 4 MiB, each with its size in UTF-8 bytes.

    A piece ends at a line's end, or inside a line that is longer than that. Memory: O(piece).
    """
    for piece in split_utf8(utf8_blocks(content, encoding)):
        try:
            yield piece.decode("utf-8", encoding.errors), len(piece)
        except UnicodeError as error:
            raise SkipFile("changed while it was being read", "undecodable") from error


def split_utf8(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup blocks of UTF-8 into pieces of at most `PIECE_BYTES` that end at line ends."""
    rest = b""
    for block in blocks:
        rest = rest + block if rest else block
        while len(rest) > PIECE_BYTES:
            cut = _cut(rest)
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _cut(data: bytes) -> int:
    """Where to end a piece: after the last line end, else a space, else a whole character."""
    cut = data.rfind(b"\n", 0, PIECE_BYTES) + 1
    if not cut:
        cut = data.rfind(b" ", PIECE_BYTES - (1 << 16), PIECE_BYTES) + 1
    if cut:
        return cut
    # Pieces are cleaned one by one, so a mark stays with its letter; 1 kB of marks is noise.
    for cut in range(PIECE_BYTES, PIECE_BYTES - (1 << 10), -1):
        after = data[cut : cut + 4].decode("utf-8", "ignore")[:1]
        if data[cut] & 0xC0 != 0x80 and after and data[cut - 1] != 13 and is_inert(after):
            return cut
    return next(cut for cut in range(PIECE_BYTES, 0, -1) if data[cut] & 0xC0 != 0x80)
