"""Cleaning: one spelling for what looks the same, and nothing that can't be seen."""

from __future__ import annotations

import functools
import re
import unicodedata

import numpy as np
import numpy.typing as npt

_CONTROLS = bytes(code for code in (*range(32), 127) if code not in b"\n\t")
_OTHER_CONTROLS = re.compile("[\x80-\x9f\ufeff]")
# Blocks of this many characters stay in the processor's cache.
_BLOCK = 1 << 16


def clean_text(raw: str) -> str:
    r"""Return `raw` in Unicode NFC, with LF line ends and without invisible controls.

    CRLF and CR become LF; control characters other than `\n` and `\t`, and byte order
    marks, are dropped; lone surrogates become U+FFFD. Idempotent.
    Cost: text that is clean already passes at more than 300 MB/s.
    """
    if "\r" in raw:
        raw = raw.replace("\r\n", "\n").replace("\r", "\n")
    if raw.isascii():
        data = raw.encode("ascii")
        kept = data.translate(None, _CONTROLS)
        return raw if len(kept) == len(data) else kept.decode("ascii")
    if is_surely_clean(raw):
        return raw
    text = _drop_controls(raw)
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def is_surely_clean(text: str) -> bool:
    """Whether a quick look shows that nothing in `text` wants cleaning ("no": perhaps)."""
    suspects = _suspects()
    for start in range(0, len(text), _BLOCK):
        try:
            block = text[start : start + _BLOCK].encode("utf-16-le")
        except UnicodeEncodeError:
            return False
        codes = np.frombuffer(block, dtype="<u2")
        plain = np.count_nonzero(codes < 32)
        if plain and plain != np.count_nonzero((codes == 9) | (codes == 10)):
            return False
        if suspects.take(codes[codes >= 127]).any():
            return False
    return True


def is_inert(character: str) -> bool:
    """Whether cleaning leaves this character and what stands before it apart."""
    return not _suspects()[_unit(ord(character))]


@functools.cache
def _suspects() -> npt.NDArray[np.bool_]:
    """For each UTF-16 code unit above 127, whether a text that holds it may want cleaning.

    Suspect are controls, marks that reorder, and whatever composition changes or joins to
    what stands before it. Of the characters beyond 16 bits whole blocks of 1,024 are.
    """
    table = np.zeros(1 << 16, dtype=np.bool_)
    table[127:160] = table[0xFEFF] = True
    # The ranges left out hold ideographs, Hangul syllables and private use: all inert.
    ranges = ((0x300, 0x3400), (0xA000, 0xAC00), (0xE000, 0x20000), (0x2F800, 0x2FA20))
    for code in (code for start, stop in ranges for code in range(start, stop)):
        character = chr(code)
        parts = unicodedata.decomposition(character)
        if parts and not parts.startswith("<"):
            for joined in parts.split()[1:]:
                table[_unit(int(joined, 16))] = True
            if unicodedata.normalize("NFC", character) != character:
                table[_unit(code)] = True
        elif unicodedata.combining(character):
            table[_unit(code)] = True
    # Hangul vowels and finals join to the letter before them, by rule and not by table.
    table[0x1161:0x1176] = table[0x11A8:0x11C3] = True
    return table


def _unit(code: int) -> int:
    return code if code < 0x10000 else 0xD800 + ((code - 0x10000) >> 10)


def _drop_controls(text: str) -> str:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        # JSON escapes can spell half a surrogate pair, which no UTF-8 file can hold.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        data = text.encode()
    kept = data.translate(None, _CONTROLS)
    if len(kept) != len(data):
        text = kept.decode()
    return _OTHER_CONTROLS.sub("", text)
