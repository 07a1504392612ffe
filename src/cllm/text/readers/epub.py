"""EPUB books: the chapters in reading order."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.document import SkipFile
from cllm.text.readers.raw import RawText
from cllm.text.readers.web_page import all_text
from cllm.text.readers.zip_members import open_archive, read_member

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"


def read(content: Content, settings: TextSettings) -> Iterator[RawText]:
    """Yield the book's text: every chapter of the spine but its table of contents.

    Raises: SkipFile when the book is damaged, protected or without text.
    """
    del settings
    with open_archive(content, "epub") as archive:
        names = chapters(archive)
        protected = _protected(archive)
        if protected & set(names):
            raise SkipFile("its chapters are encrypted (copy protection)", "epub")
        texts = [all_text(read_member(archive, name, "epub")) for name in names]
    text = "\n\n".join(filter(None, texts))
    if not text:
        raise SkipFile("no text in it", "epub")
    yield RawText.of(text + "\n")


def chapters(archive: zipfile.ZipFile) -> list[str]:
    """Names of the chapters' files in reading order. Raises: SkipFile."""
    container = _parse(read_member(archive, _CONTAINER, "epub"))
    package_name = next((_get(root, "full-path") for root in _all(container, "rootfile")), "")
    package = _parse(read_member(archive, package_name, "epub"))
    items = {_get(item, "id"): item for item in _all(package, "item")}
    folder = posixpath.dirname(package_name)
    names = []
    for reference in _all(package, "itemref"):
        item = items.get(_get(reference, "idref"))
        if item is None or "nav" in _get(item, "properties").split():
            continue
        if "html" not in _get(item, "media-type"):
            continue
        names.append(posixpath.normpath(posixpath.join(folder, unquote(_get(item, "href")))))
    there = set(archive.namelist())
    names = [name for name in names if name in there]
    if not names:
        raise SkipFile("damaged: it lists no chapters", "epub")
    return names


def _protected(archive: zipfile.ZipFile) -> set[str]:
    if _ENCRYPTION not in archive.namelist():
        return set()
    listed = _all(_parse(read_member(archive, _ENCRYPTION, "epub")), "CipherReference")
    return {unquote(_get(reference, "URI")) for reference in listed}


def _parse(data: bytes) -> Any:
    """Parse XML that may be hostile: no entities, no DTD, no network. Raises: SkipFile."""
    import lxml.etree

    parser = lxml.etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=False
    )
    try:
        return lxml.etree.fromstring(data, parser=parser)
    except (lxml.etree.LxmlError, ValueError) as error:
        raise SkipFile(f"damaged: {error}", "epub") from error


def _all(tree: Any, name: str) -> Iterator[Any]:
    return iter(tree.iter(f"{{*}}{name}"))


def _get(element: Any, name: str) -> str:
    return element.get(name) or ""
