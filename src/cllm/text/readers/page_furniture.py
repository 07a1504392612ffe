"""What pages add to a text: running headers and footers, page numbers, hyphens at line ends."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

# Furniture stands in the outermost lines of a page.
_EDGE_LINES = 2
# Left and right pages differ, so a header stands on somewhat less than half of the pages.
_MIN_SHARE = 0.3
_MIN_PAGES = 3
_PAGE_NUMBER = re.compile(
    r"[\W_]*(?:(?:page|seite|pagina|página|p\.|стр\.?)\s*)?(?:\d{1,4}|[ivxlc]{1,7})"
    r"(?:\s*(?:of|von|de|di|sur|из|/)\s*\d{1,4})?[\W_]*",
    re.I,
)
_DIGITS = re.compile(r"\d+")
# PDFium itself marks a hyphen at a line's end with U+FFFE, and takes out the line's end.
_BROKEN_WORD = re.compile(r"(?<!\w)(\w+(?:-\w+)*)(?:\ufffe|[-\u00ad\u2010]\n)(\w+)")
_WORD = re.compile(r"\w+(?:-\w+)*")


def strip_furniture(pages: Sequence[str]) -> list[str]:
    """The pages without lines that recur at their tops and bottoms, and page numbers.

    Lines count as the same when they differ in numbers only. A line goes when it recurs on
    at least three pages and 30% of them. Source: this project.
    """
    split = [[line.rstrip() for line in page.split("\n")] for page in pages]
    split = [_trimmed(lines) for lines in split]
    counts: Counter[tuple[str, int, str]] = Counter()
    for lines in split:
        counts.update(set(_edge_keys(lines)))
    least = max(_MIN_PAGES, _MIN_SHARE * len(split))
    recurring = {key for key, count in counts.items() if count >= least}
    return ["\n".join(_without(lines, recurring)) for lines in split]


def _trimmed(lines: list[str]) -> list[str]:
    start, stop = 0, len(lines)
    while start < stop and not lines[start].strip():
        start += 1
    while stop > start and not lines[stop - 1].strip():
        stop -= 1
    return lines[start:stop]


def _key(edge: str, place: int, line: str) -> tuple[str, int, str]:
    return edge, place, _DIGITS.sub("#", line.strip().casefold())


def _edge_keys(lines: list[str]) -> list[tuple[str, int, str]]:
    count = min(_EDGE_LINES, len(lines))
    tops = [_key("top", place, lines[place]) for place in range(count)]
    return tops + [_key("bottom", place, lines[-1 - place]) for place in range(count)]


def _without(lines: list[str], recurring: set[tuple[str, int, str]]) -> list[str]:
    count = min(_EDGE_LINES, len(lines))
    drop: set[int] = set()
    for edge, order in (("top", range(count)), ("bottom", range(count))):
        for place in order:
            index = place if edge == "top" else len(lines) - 1 - place
            is_recurring = _key(edge, place, lines[index]) in recurring
            if is_recurring or (place == 0 and _PAGE_NUMBER.fullmatch(lines[index])):
                drop.add(index)
    return _trimmed([line for index, line in enumerate(lines) if index not in drop])


def join_broken_words(text: str) -> str:
    r"""Join words that a line's end has cut: `exam-\nple` becomes `example`.

    The hyphen stays when the word is spelled with it elsewhere in the text and not without,
    or when its second part begins with a capital or digit.
    """
    known = Counter(word.casefold() for word in _WORD.findall(text))

    def joined(match: re.Match[str]) -> str:
        first, second = match[1], match[2]
        whole, hyphenated = first + second, f"{first}-{second}"
        keeps = second[0].isupper() and not first.isupper()
        if keeps or second[0].isdigit() or first[-1].isdigit():
            return hyphenated
        is_compound = known[hyphenated.casefold()] > known[whole.casefold()]
        return hyphenated if is_compound else whole

    text = _BROKEN_WORD.sub(joined, text)
    return text.replace("\ufffe", "-")
