"""Find stems that are another root's form: `mak` of `make`, `runn` of `run`, `çocuğ` of `çocuk`.

Only the stem's last letter may change. A change counts when many stems that are no words
become roots by it, and far more than chance would give.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cllm.text.roots.segmenter import Segmenter

_LEAST_PAIRS = 4
# Of the stems that could undergo it; a letter that is added could stand after any stem.
_LEAST_SHARE, _LEAST_SHARE_ADDED = 0.25, 0.08
# Letters that the stem and its root share; where one letter takes another's place, chance
# meets shorter words too often (`heav`, `heat`).
_SHARED = 3
_SHARED_REPLACED = 4

# The letters that go and those that come; "=" goes where the letter before it is the same.
_Change = tuple[str, str]


def find_kin(segmenter: Segmenter) -> dict[str, str]:
    """The root of each stem that is a form of one.

    Roots here are the words that are left whole. A stem takes its commonest change.
    Cost: the number of stems times that of final letters.
    """
    splits = [segmenter.split(word) for word in segmenter.cuts]
    words = {split.stem for split in splits if split.stem in segmenter.cuts}
    bound = sorted({split.stem for split in splits} - words)
    letters = sorted({word[-1] for word in words})
    candidates = {stem: _changes(stem, words, letters) for stem in bound}
    pairs = Counter(change for found in candidates.values() for change in found)
    chances: Counter[str] = Counter()
    for stem in bound:
        chances.update({"", stem[-1:], *(["="] if stem[-1:] == stem[-2:-1] else [])})
    usual = {
        change
        for change, count in pairs.items()
        if count >= _LEAST_PAIRS
        and count >= (_LEAST_SHARE if change[0] else _LEAST_SHARE_ADDED) * chances[change[0]]
    }
    kin = {}
    for stem, found in candidates.items():
        likely = [change for change in found if change in usual]
        if likely:
            kin[stem] = found[max(likely, key=lambda change: (pairs[change], change))]
    return kin


def _changes(stem: str, words: set[str], letters: list[str]) -> dict[_Change, str]:
    """Each change of the last letter that makes the stem a root, and that root."""
    found: dict[_Change, str] = {}
    shorter, last = stem[:-1], stem[-1:]
    if last == shorter[-1:] and len(shorter) >= _SHARED and shorter in words:
        found["=", ""] = shorter
    for letter in letters:
        if len(stem) >= _SHARED and stem + letter in words:
            found["", letter] = stem + letter
        if len(shorter) >= _SHARED_REPLACED and letter != last and shorter + letter in words:
            found[last, letter] = shorter + letter
    return found
