"""Plain text, reStructuredText and source code: the text as it is, streamed."""

from __future__ import annotations

from collections.abc import Iterator

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.encodings import find_encoding, text_pieces
from cllm.text.readers.raw import RawText


def read(content: Content, settings: TextSettings) -> Iterator[RawText]:
    """Yield the file's text in pieces of at most 4 MiB. Raises: SkipFile."""
    encoding = find_encoding(content, settings.encoding)
    for number, (text, num_bytes) in enumerate(text_pieces(content, encoding)):
        yield RawText(text, num_bytes, is_continuation=number > 0)
