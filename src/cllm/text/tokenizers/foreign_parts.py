"""Which normalisers and pre-tokenisers from elsewhere are taken: those of bounded work.

A pattern is searched for by backtracking. Its alternatives are taken where nothing that can
fail stands behind a repetition, so that each place of a text is looked at once; some well
known ones are not so, and are taken together with one that matches whatever they looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, final

from cllm.errors import InputError

_NUM_PARTS = 32
_PATTERN_CHARACTERS = 2_000
# Characters that one may become: "a" is two after ByteLevel and a blank before it.
_GROWTH = 16
_CONTENT_CHARACTERS = 4
# Ways to match what stands before a repetition, all of which may be tried at each place.
_CHOICES = 256

# How much longer each makes a text at most, in characters.
_NORMALIZERS = {
    **dict.fromkeys(("NFC", "NFKC", "Lowercase", "Strip", "StripAccents", "Nmt", "Prepend"), 1),
    **dict.fromkeys(("NFD", "NFKD", "Replace", "Sequence"), 1),
    **dict.fromkeys(("BertNormalizer", "ByteLevel"), 3),
}
_PRE_TOKENIZERS = {
    **dict.fromkeys(("Split", "Digits", "Punctuation", "UnicodeScripts", "Sequence"), 1),
    **dict.fromkeys(("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "CharDelimiterSplit"), 1),
    **dict.fromkeys(("ByteLevel", "Metaspace"), 2),
}

# GPT-4o's, as in Llama 4, gpt-oss and Mistral's Tekken: words with capitals before small letters.
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE, _ENDINGS = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
# An alternative that may look far and fail, and the one that then takes what it looked at.
_TOGETHER = {
    r"\s*[\r\n]+": r"\s+",
    r"\s*[\r\n]": r"\s+",
    r"\s*\r?\n": r"\s+",
    r"\s+(?!\S)": r"\s+",
    **{
        rf"{_BEFORE}{_UPPER}*{_LOWER}+{ending}": rf"{_BEFORE}{_UPPER}+{_LOWER}*{ending}"
        for ending in ("", _ENDINGS)
    },
}

_CLASS = r"\[\^?(?:\\.|\[:\^?[a-z]+:\]|[^\[\]\\])+\]"
_CODE = r"x[0-9a-fA-F]{2}|x\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}"
_ESCAPE = rf"\\(?:[pP]\{{\^?\w+\}}|{_CODE}|[sSdDwWrntfv]|[^\w\s])"
_TOKEN = re.compile(
    rf"(?P<open>\((?:\?(?:[:=!>]|i:|<[=!]))?)|(?P<close>\))|(?P<bar>\|)|(?P<edge>\^|\$|\\[bBAzZ])"
    rf"|(?P<times>[?*+][?+]?|\{{(?P<least>\d{{1,3}})(?P<comma>,(?P<most>\d{{0,3}}))?\}})"
    rf"|(?P<item>{_CLASS}|{_ESCAPE}|[^\\()\[\]{{}}?*+|^$])"
)


def require_bounded(record: Mapping[str, Any]) -> None:
    """Refuse a tokeniser whose work on a text has no sane bound; `record` is its tokenizer.json.

    Raises: InputError.
    """
    growth = 1
    for what, kinds in (("normalizer", _NORMALIZERS), ("pre_tokenizer", _PRE_TOKENIZERS)):
        parts = _flat(record.get(what))
        if len(parts) > _NUM_PARTS:
            raise _refused(what, f"has {len(parts)} parts")
        for part in parts:
            kind = part.get("type")
            if kind not in kinds:
                raise _refused(what, f"has a part of the type {kind!r}")
            growth *= kinds[kind] * _growth(part, what)
    if growth > _GROWTH:
        raise _refused("normalizer", f"makes up to {growth:,} characters of one")


def _flat(part: Any) -> list[dict[str, Any]]:
    """The parts of a sequence and of those in it."""
    if not isinstance(part, dict):
        return []
    inner = [*part.get("normalizers", ()), *part.get("pretokenizers", ())]
    return [part, *(one for each in inner for one in _flat(each))]


def _growth(part: Mapping[str, Any], what: str) -> int:
    """How much longer a part's own contents make a text."""
    content = part.get("content", part.get("prepend", ""))
    if len(content) > _CONTENT_CHARACTERS:
        raise _refused(what, f"inserts {len(content):,} characters")
    pattern = part.get("pattern")
    if not isinstance(pattern, Mapping):
        return 1
    literal, expression = pattern.get("String"), pattern.get("Regex")
    if expression is not None:
        if not is_bounded(expression):
            shown = expression if len(expression) <= 60 else f"{expression[:60]}..."
            raise _refused(what, f"has the pattern {shown!r}, which may take too long")
        return 1 + len(content)
    if not literal:
        raise _refused(what, "has an empty pattern")
    return max(math.ceil(len(content) / len(literal)), 1)


def _refused(what: str, why: str) -> InputError:
    hint = "There are taken: those of Llama, Qwen, Mistral, GPT-2 and their like."
    return InputError(f"the tokeniser's {what} {why}", hint=hint)


def is_bounded(pattern: str) -> bool:
    """Whether a pattern looks at each place of a text a bounded number of times."""
    if not 0 < len(pattern) <= _PATTERN_CHARACTERS:
        return False
    branches = _branches(pattern)
    return branches is not None and all(
        _TOGETHER[branch] in branches if branch in _TOGETHER else _Branch().is_bounded(branch)
        for branch in branches
    )


def _branches(pattern: str) -> list[str] | None:
    """The alternatives of a pattern; None where it can't be read."""
    found, depth, start, at = [], 0, 0, 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            return None
        depth += (token["open"] is not None) - (token["close"] is not None)
        if token["bar"] and depth == 0:
            found.append(pattern[start:at])
            start = token.end()
        at = token.end()
    return [*found, pattern[start:]] if depth == 0 else None


@final
class _Branch:
    """Reads one alternative: no repetition in a group, and behind one only what may be absent."""

    def __init__(self) -> None:
        self._has_repetition, self._num_choices = False, 1
        # Whether there is something that the next sign may repeat, and that must be there.
        self._is_open, self._is_needed = False, False

    def is_bounded(self, branch: str) -> bool:
        """Whether it is so."""
        at, depth, is_plain, has_bars = 0, 0, False, False
        while at < len(branch):
            token = _TOKEN.match(branch, at)
            assert token is not None, "the pattern was read before"
            at = token.end()
            if token["times"]:
                # Each round of a group with alternatives would have choices of its own.
                is_free = is_plain and (not has_bars or token["times"][0] == "?")
                if depth or not self._is_open or not is_free or not self._repeat(token):
                    return False
            elif token["open"]:
                if depth == 0 and not self._end_item():
                    return False
                if depth == 0:
                    is_plain, has_bars = token["open"] in ("(", "(?:", "(?i:", "(?>"), False
                depth += 1
            elif token["close"]:
                depth -= 1
                self._is_open = self._is_needed = depth == 0
            elif token["bar"]:
                has_bars = True
                self._num_choices *= 2
            elif depth == 0:
                if not self._end_item():
                    return False
                has_bars = False
                is_plain = self._is_open = token["item"] is not None
                self._is_needed = True
        return self._end_item() and self._num_choices <= _CHOICES

    def _repeat(self, token: re.Match[str]) -> bool:
        """Take in a repetition of what stands before it."""
        times = token["times"]
        least, most = 0 if times[0] in "?*" else 1, 1 if times[0] == "?" else None
        if times[0] == "{":
            least = int(token["least"])
            most = least if token["comma"] is None else int(token["most"] or 0) or None
        if (most is not None and most < least) or (least and self._has_repetition):
            return False
        self._num_choices *= max(least, 1) if most is None else most - least + max(least, 1)
        self._has_repetition |= most is None
        self._is_open = self._is_needed = False
        return True

    def _end_item(self) -> bool:
        """What stood before is there once."""
        is_fine = not (self._is_needed and self._has_repetition)
        self._is_open = self._is_needed = False
        return is_fine
