"""JSON Lines: one record a line, the text in a field of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.document import SkipFile
from cllm.text.encodings import find_encoding
from cllm.text.lines import MAX_LINE_BYTES, text_lines
from cllm.text.readers.raw import BadRecords, RawText

# Tried in this order when the default field is not there.
_OTHER_FIELDS = ("content", "body", "messages", "conversations", "conversation")
_DEFAULT_FIELD = TextSettings.model_fields["field"].default
_ROLES = ("role", "from", "speaker", "author")
_CONTENTS = ("content", "value", "text")


def read(content: Content, settings: TextSettings) -> Iterator[RawText | BadRecords]:
    """Yield each record's text, then one note about the records that have none.

    The field may be a dotted path (`data.text`). Chat messages become lines `role: content`.
    Raises: SkipFile when no record has text; it names the fields there are.
    """
    encoding = find_encoding(content, settings.encoding)
    bad: Counter[str] = Counter()
    fields: dict[str, None] = {}
    num_good, number = 0, 0
    lines = text_lines(content, encoding)
    for number, record in enumerate(_records(content, lines), 1):
        if isinstance(record, _Bad):
            bad[record.reason] += record.reason != _BLANK
            continue
        text = record if isinstance(record, str) else text_of(record, settings.field)
        if text is None:
            bad[f"without text in {settings.field!r}"] += 1
            if isinstance(record, dict) and len(fields) < 20:
                fields |= dict.fromkeys(record)
        elif not text.strip():
            bad["empty"] += 1
        else:
            num_good += 1
            yield RawText.of(text, f"#{number}")
    if not num_good:
        raise SkipFile(_nothing(bad, fields, settings.field), "jsonl")
    if bad.total():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in bad.most_common())
        yield BadRecords(f"{bad.total():,} of {number:,} records left out: {reasons}")


class _Bad:
    def __init__(self, reason: str) -> None:
        self.reason = reason


_BLANK = "blank"


def _records(content: Content, lines: Iterable[str | None]) -> Iterator[Any]:
    """Each line's value; for a file that is one JSON array, each element's."""
    start = content.head[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    is_array = start.startswith(b"[") and content.is_whole
    if is_array:
        whole = list(lines)
        value = _parsed("\n".join(line or "" for line in whole))
        if isinstance(value, list):
            yield from value
            return
        lines = whole
    for line in lines:
        if line is None:
            yield _Bad(f"longer than {MAX_LINE_BYTES >> 20} MiB")
        elif not line or line.isspace():
            yield _Bad(_BLANK)
        else:
            yield _parsed(line)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _Bad("not JSON")


def text_of(record: Any, field: str) -> str | None:
    """The text that `record` has under `field`, or under a common name if that is the default."""
    names = (field, *_OTHER_FIELDS) if field == _DEFAULT_FIELD else (field,)
    for name in names:
        text = _as_text(_look_up(record, name))
        if text is not None:
            return text
    return None


def _look_up(record: Any, path: str) -> Any:
    """The value under `path`: a key that is spelled so, else one key within another."""
    if not isinstance(record, dict):
        return None
    if path in record:
        return record[path]
    for place in (place for place, letter in enumerate(path) if letter == "."):
        if path[:place] in record:
            value = _look_up(record[path[:place]], path[place + 1 :])
            if value is not None:
                return value
    return None


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(part, str) for part in value):
        return "\n".join(value)
    turns = [_turn(message) for message in value]
    return None if any(turn is None for turn in turns) else "\n".join(filter(None, turns))


def _turn(message: Any) -> str | None:
    """One chat message as a line `role: content`; None if it is none."""
    if not isinstance(message, dict):
        return None
    role = next((message[key] for key in _ROLES if isinstance(message.get(key), str)), None)
    parts = next((message[key] for key in _CONTENTS if key in message), None)
    if role is None:
        return None
    if isinstance(parts, list):
        texts = (part.get("text") for part in parts if isinstance(part, dict))
        parts = "\n".join(text for text in texts if isinstance(text, str))
    return f"{role}: {parts}" if isinstance(parts, str) else ""


def _nothing(bad: Counter[str], fields: Iterable[str], field: str) -> str:
    names = ", ".join(repr(name) for name in fields)
    if names:
        return f"no record has text in {field!r}; fields: {names}. Choose one with --text.field"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in bad.most_common())
    return f"no usable record ({reasons or 'empty'})"
