"""Markdown: the text as it is, without the front matter that programs put before it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.readers import plain
from cllm.text.readers.raw import RawText

# `---` (YAML) or `+++` (TOML) around lines of which the first sets a key.
_FRONT_MATTER = re.compile(
    r"\ufeff?(---|\+\+\+)[ \t]*\r?\n(?:#[^\n]*\n|[ \t\r]*\n)*+[\w\"'.-]+[ \t]*[:=]"
    r"(?:[^\n]*\n)*?\1[ \t]*(?:\r?\n\s*|$)"
)
_FRONT_CHARACTERS = 1 << 16


def read(content: Content, settings: TextSettings) -> Iterator[RawText]:
    """Yield the file's text in pieces of at most 4 MiB. Raises: SkipFile."""
    for piece in plain.read(content, settings):
        match = (
            None if piece.is_continuation else _FRONT_MATTER.match(piece.text, 0, _FRONT_CHARACTERS)
        )
        if match is None:
            yield piece
        else:
            text = piece.text[match.end() :]
            yield RawText(text, piece.num_bytes)
