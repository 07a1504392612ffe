"""HTML: the main text of a page, without menus, scripts and adverts."""

from __future__ import annotations

import functools
import html
import logging
import re
from collections.abc import Iterator
from typing import Any

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.document import SkipFile
from cllm.text.encodings import Encoding, codec_name, find_encoding, fits
from cllm.text.readers.raw import RawText

# Its tree takes about twenty times as much memory.
_MAX_BYTES = 16 << 20
# A page this long is mostly its own text, and finding the main part gets slow.
_WHOLE_BYTES = 2 << 20
# Less than this is a caption or a notice rather than the main text.
_MIN_CHARACTERS = 40
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.I)
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_UNSEEN = {"script", "style", "head", "noscript", "template", "svg", "iframe", "object", "select"}
_BLOCK_NAMES = (
    "address article aside blockquote body br caption dd details div dl dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section summary table "
    "tbody td tfoot th thead tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_SCRIPT = re.compile(r"<(script|style)\b.{0,5000}?</\1\s*>", re.I | re.S)
_TAG = re.compile(r"<!--.{0,5000}?-->|<[a-zA-Z/!?][^<>]{0,5000}>", re.S)
_SPACES = re.compile(r"[ \t\r\n\f]+")


def read(content: Content, settings: TextSettings) -> Iterator[RawText]:
    """Yield the page's main text, or all its text when no main part can be told.

    Source: trafilatura. Nothing is downloaded. Raises: SkipFile.
    """
    encoding = _page_encoding(content, settings.encoding)
    page = content.whole(_MAX_BYTES).decode(encoding.name, encoding.errors)
    page = _XML_DECLARATION.sub("", page.lstrip("\ufeff"), count=1)
    text = _main_text(page) if len(page) <= _WHOLE_BYTES else ""
    if len(text) < _MIN_CHARACTERS:
        text = max(text, all_text(page) or _without_tags(page), key=len)
    if not text:
        raise SkipFile("no text in it", "html")
    yield RawText.of(text + "\n")


def _page_encoding(content: Content, wanted: str | None) -> Encoding:
    """The encoding asked for; else UTF-8 if it fits; else what the page itself declares."""
    declared = _CHARSET.search(content.head[:8192])
    if wanted is None and declared is not None and not fits(content, Encoding("utf-8")):
        try:
            name = codec_name(declared[1].decode("ascii"))
        except Exception:
            name = ""
        # Browsers read what calls itself Latin-1 as Windows-1252, its superset.
        name = {"iso8859-1": "cp1252", "ascii": "cp1252"}.get(name, name)
        if name and fits(content, Encoding(name)):
            return Encoding(name)
    return find_encoding(content, wanted)


@functools.cache
def _extractor() -> Any:
    import trafilatura

    # It reports pages without main text as errors; to us that is one page like any other.
    for name in ("trafilatura", "htmldate", "courlan", "justext", "readability"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return trafilatura.extract


def _main_text(page: str) -> str:
    try:
        text = _extractor()(page, include_comments=False, include_tables=True, fast=False)
    except Exception:
        return ""
    return text or ""


def all_text(page: str | bytes) -> str:
    """All text of a page that a reader would see, one block a line.

    Raises nothing: what is no HTML gives an empty string.
    """
    import lxml.etree
    import lxml.html

    parser = lxml.html.HTMLParser(
        no_network=True, remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        tree = lxml.html.document_fromstring(page, parser=parser)
    except (lxml.etree.LxmlError, ValueError):
        return ""
    parts: list[str] = []
    _gather(tree, parts)
    lines = (_SPACES.sub(" ", line).strip() for line in "".join(parts).split("\0"))
    return "\n".join(line for line in lines if line)


def _without_tags(page: str) -> str:
    """What is left of a page so broken, or nested so deeply, that no tree can be made of it."""
    text = html.unescape(_TAG.sub("\n", _SCRIPT.sub("", page)))
    return "\n".join(line for line in map(str.strip, text.splitlines()) if line)


def _gather(tree: Any, parts: list[str]) -> None:
    """Append the visible text below `tree`, with zero bytes where blocks begin and end."""
    pending: list[tuple[Any, bool]] = [(tree, False)]
    while pending:
        element, is_closing = pending.pop()
        is_block = element.tag in _BLOCKS
        if is_closing:
            parts.append("\0" if is_block else "")
            parts.append(element.tail or "")
            continue
        pending.append((element, True))
        if is_block:
            parts.append("\0")
        if isinstance(element.tag, str) and element.tag not in _UNSEEN:
            parts.append(element.text or "")
            pending.extend((child, False) for child in reversed(element))
