"""Word documents (DOCX): paragraphs and tables, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.document import SkipFile
from cllm.text.readers.raw import RawText
from cllm.text.readers.zip_members import MAX_MEMBER_BYTES, open_archive


def read(content: Content, settings: TextSettings) -> Iterator[RawText]:
    """Yield the document's text; a table's cells are set apart by tabs. Raises: SkipFile."""
    del settings
    import docx
    from docx.opc.exceptions import OpcError
    from lxml.etree import LxmlError

    with open_archive(content, "docx") as archive:
        for member in archive.infolist():
            is_xml = member.filename.endswith((".xml", ".rels"))
            if is_xml and member.file_size > MAX_MEMBER_BYTES:
                size = f"{member.file_size:,} bytes"
                raise SkipFile(f"{member.filename} in it unpacks to {size}", "docx")
    try:
        with content.seekable() as file:
            body = docx.Document(file).element.body
    except SkipFile:
        raise
    except (OpcError, LxmlError, KeyError, ValueError, AttributeError, OSError) as error:
        raise SkipFile(f"damaged: {str(error) or type(error).__name__}", "docx") from error
    except Exception as error:
        # A damaged member surfaces as whatever the unpacker or parser happens to raise.
        raise SkipFile(f"damaged: {type(error).__name__}: {error}", "docx") from error
    text = "\n".join(_blocks(body))
    if not text.strip():
        raise SkipFile("no text in it", "docx")
    yield RawText.of(text)


def _blocks(element: Any) -> Iterator[str]:
    """The text of each paragraph and table row below `element`, content controls included."""
    from docx.text.paragraph import Paragraph

    for child in element:
        name = _name(child)
        if name == "p":
            yield Paragraph(child, None).text
        elif name == "tbl":
            yield from _rows(child)
        elif name in ("sdt", "sdtContent", "ins", "smartTag", "customXml"):
            yield from _blocks(child)


def _rows(table: Any) -> Iterator[str]:
    for row in table:
        if _name(row) == "tr":
            cells = (cell for cell in row if _name(cell) == "tc")
            yield "\t".join(" ".join(filter(None, _blocks(cell))) for cell in cells)


def _name(element: Any) -> str:
    tag = element.tag
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""
