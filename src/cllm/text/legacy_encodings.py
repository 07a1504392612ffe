"""Guessing among the encodings that came before Unicode, from a sample."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# The letters beyond ASCII of languages written in Latin script, alike ones together.
_ALPHABETS = (
    "äöüßåæøéèàœ",
    "àâæçéèêëîïôœùûüÿ",
    "áéíóúñüàèìòùâêôãõç",
    "áðéíóúýþæö",
    "ąćęłńóśźż",
    "áčďéěíňóřšťúůýžäĺľŕô",
    "áéíóöőúüű",
    "âăîşţșțčćđšž",
    "çğıöşüâîûi̇",
    "āčēģīķļņšūžąęėįųõäöü",
)
_MARKS = "«»„“”‘’–—…•·°§©®™€£¿¡ªº½¼¾×±\xa0\xad"
# Of equally good pages the commoner comes first.
_LATIN_PAGES = (
    "cp1252",
    "cp1250",
    "iso8859_2",
    "cp1254",
    "cp1257",
    "iso8859_15",
    "cp850",
    "cp852",
    "mac_roman",
)
_HIRAGANA = "".join(map(chr, range(0x3041, 0x3094)))
# The commonest letters of other scripts (small ones where they have cases), the least share
# they make up of a text, and the pages. On a wrong page they make up half as much at most.
_COMMON = (
    ("оеаинтсрвл", 0.5, ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic")),
    ("αοιετσνηυρ", 0.5, ("cp1253", "iso8859_7")),
    ("יוהלאתרבמש", 0.5, ("cp1255", "iso8859_8")),
    ("المينورتبع", 0.5, ("cp1256", "iso8859_6")),
    ("านรอกเงมยล", 0.5, ("cp874",)),
    (_HIRAGANA, 0.2, ("cp932", "euc_jp")),
    ("的一是不了人在有我他这中大来上国个到说们和地出也时年得就那要", 0.06, ("gb18030",)),
    ("的一是不了人在有我他這中大來上國個到說們和地出也時年得就那要", 0.06, ("big5hkscs",)),
    ("이다의는에을고가하지로한도은를", 0.1, ("cp949",)),
)
# Enough to tell scripts apart.
_SHORT_BYTES = 1 << 14
_GOOD_SHARE = 0.9
_ENOUGH_SHARE = 0.6
# Accented letters stand alone; the bytes of other scripts stand in rows.
_MAX_ACCENT_RUN = 1.7
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
# The larger of two pages that agree, so that one rare character does not spoil a file.
_LARGER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "cp1125": "cp866",
}
# Told by their zero bytes and marks, or too rare to be right in a short sample.
_UNLIKELY = ("ascii", "utf_", "cp1006", "cp037", "cp500", "johab", "ptcp154")


def guess_encodings(sample: bytes) -> list[str]:
    """Codecs that `sample` may be in, the likeliest first; empty if it looks like none.

    Source: charset-normalizer; among pages of Latin script, which it often confuses, the one
    whose letters beyond ASCII are most nearly all of one language's alphabet (this project).
    """
    import charset_normalizer

    shares = {page: _alphabet_share(sample, page) for page in _LATIN_PAGES}
    best = sorted(_LATIN_PAGES, key=lambda page: -round(shares[page], 2))
    if _mean_run(sample) <= _MAX_ACCENT_RUN and shares[best[0]] >= _GOOD_SHARE:
        return best
    common = _page_of_common_letters(sample)
    if common is not None:
        return [common]
    guesses = [match.encoding for match in charset_normalizer.from_bytes(sample)]
    guesses = [_LARGER.get(name, name) for name in guesses if not name.startswith(_UNLIKELY)]
    if not guesses or not _is_latin(sample, guesses[0]):
        return guesses
    return [*(page for page in best if shares[page] >= _ENOUGH_SHARE), *guesses]


def _page_of_common_letters(sample: bytes) -> str | None:
    """The page of another script in which the commonest letters make up enough of the text."""
    best_evidence, best = 1.0, None
    for letters, least, pages in _COMMON:
        for page in pages:
            counts = _counts_beyond_ascii(sample[:_SHORT_BYTES], page)
            share = sum(counts[letter] for letter in letters) / max(1, counts.total())
            if share / least > best_evidence:
                best_evidence, best = share / least, page
    return best


def _counts_beyond_ascii(sample: bytes, name: str) -> Counter[str]:
    text = _decoded(sample, name) or ""
    return Counter(character for character in text if not character.isascii())


def _mean_run(sample: bytes) -> float:
    runs = _HIGH_RUN.findall(sample)
    return sum(map(len, runs)) / max(1, len(runs))


def _decoded(sample: bytes, name: str) -> str | None:
    for end in range(len(sample), max(0, len(sample) - 4), -1):
        try:
            return sample[:end].decode(name)
        except (UnicodeError, LookupError):
            continue
    return None


def _is_latin(sample: bytes, name: str) -> bool:
    text = _decoded(sample, name) or ""
    others = [
        character for character in set(text) if character.isalpha() and not character.isascii()
    ]
    return all(
        "LATIN" in unicodedata.name(character, "") or character in "ªºµ" for character in others
    )


def _alphabet_share(sample: bytes, name: str) -> float:
    """Largest share of the characters beyond ASCII that one alphabet and common marks cover."""
    counts = _counts_beyond_ascii(sample, name)
    if not counts:
        return 0.0
    covered = (
        sum(number for character, number in counts.items() if character.lower() in known)
        for known in (set(alphabet + _MARKS) for alphabet in _ALPHABETS)
    )
    return max(covered) / counts.total()
