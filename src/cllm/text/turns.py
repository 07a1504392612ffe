"""Finds turns in text: a header with a speaker's name, then what the speaker says.

Four styles cover what people have: `NAME:` on a line of its own (plays), `Name: text` on
one line, and chat logs with `<name>` or with a time before the name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex

_TIME = r"\d{1,2}:\d{2}(?::\d{2})?(?:[ \u202f]?[AaPp]\.?[Mm]\.?)?"
_DATE = r"(?:\d{4}-\d{2}-\d{2}|\d{1,2}[./-]\d{1,2}[./-]\d{2,4})"
_STAMP = rf"(?:{_DATE}(?:,? |T))?{_TIME}"
_STAMPED = rf"\u200e?(?:\[{_STAMP}\] |{_STAMP} - |{_STAMP} )"
_NAME = r"\p{L}(?:[\p{L}\p{M}\p{N}_ .'’()-]{0,38}[\p{L}\p{M}\p{N}_.)])?"
_NICK = r"[^\s<>:][^<>:\n]{0,38}"

_LOG = regex.compile(
    rf"^(?:(?P<pre>(?:{_STAMPED})?<[@+ ]?)(?P<name>{_NICK})(?P<post>>)"
    rf"|(?P<pre>{_STAMPED})(?P<name>{_NICK})(?P<post>:))(?P<glue> )(?=\S)",
    regex.MULTILINE,
)
_SPEAKER = regex.compile(
    rf"^(?P<pre>\#{{1,4}} |\*\*|)(?P<name>{_NAME})(?P<post>:\*\*|\*\*:|:|：|\.)"
    r"(?P<glue>[ \t]*\n(?=\S)|[ \t]*(?=\S))",
    regex.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Style:
    """How the headers of one corpus look."""

    is_log: bool
    pre: str  # before the name; empty for a log, where it holds a time that changes
    post: str
    own_line: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """One speech. `gap`: number of line ends before the next header (None for the last)."""

    text_index: int
    name: str
    content: str
    gap: int | None
    pre: str
    glue: str


@dataclass(frozen=True, slots=True)
class TurnsFound:
    """All turns of one style, and how much of the text they make up."""

    style: Style
    turns: list[Turn]
    share: float  # of the characters, from each text's first header to its end
    header_density: float  # headers by line that isn't blank

    @property
    def names(self) -> Counter[str]:
        """Turns by speaker."""
        return Counter(turn.name for turn in self.turns)


def find_turns(texts: Sequence[str]) -> Iterator[TurnsFound]:
    """The turns of every style that occurs, the most frequent style first."""
    counts: Counter[Style] = Counter()
    for text in texts:
        counts.update(_style_of(match) for match in _headers(text))
    for style, count in counts.most_common(6):
        if count >= 4:
            yield _turns_of(style, texts)


def _headers(text: str) -> Iterator[regex.Match[str]]:
    yield from _LOG.finditer(text)
    for match in _SPEAKER.finditer(text):
        if match["post"] != "." or (match["name"].isupper() and "\n" in match["glue"]):
            yield match


def _style_of(match: regex.Match[str]) -> Style:
    is_log = match.re is _LOG
    pre = "" if is_log else match["pre"]
    return Style(is_log, pre, match["post"], "\n" in match["glue"])


def _turns_of(style: Style, texts: Sequence[str]) -> TurnsFound:
    turns: list[Turn] = []
    covered = total = num_lines = 0
    for index, text in enumerate(texts):
        headers = [match for match in _headers(text) if _style_of(match) == style]
        total += len(text)
        num_lines += sum(1 for line in text.splitlines() if line.strip())
        covered += len(text) - headers[0].start() if headers else 0
        for position, match in enumerate(headers):
            is_last = position + 1 == len(headers)
            body = text[match.end() : None if is_last else headers[position + 1].start()]
            content = body.rstrip("\n")
            gap = None if is_last else len(body) - len(content)
            turns.append(Turn(index, match["name"], content, gap, match["pre"], match["glue"]))
    return TurnsFound(style, turns, covered / max(total, 1), len(turns) / max(num_lines, 1))
