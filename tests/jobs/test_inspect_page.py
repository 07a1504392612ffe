"""The page and the picture of an inspection: what they hold, and that they need nothing else."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from cllm.errors import InputError, SettingsError
from cllm.infer.decoder import Observation
from cllm.jobs.inspect import Inspection, Window
from cllm.jobs.inspect_lens import look_through
from cllm.jobs.inspect_page import check_page_path, packed_attention, page, page_data, write_page
from cllm.jobs.inspect_pictures import draw_inspection, read_names
from cllm.jobs.number_pictures import DARK, LIGHT

TEXT = "</script><b>& $x_1$ \n"


def made_up(first: int = 0, length: int = 7) -> Inspection:
    """An inspection of made-up numbers: one byte a token."""
    random = np.random.default_rng(0)
    ids = np.frombuffer(TEXT.encode(), np.uint8).astype(np.int32)
    count, size, layers, heads, width = len(ids), 256, 2, 3, 4
    scores = random.standard_normal((layers, heads, length, length))
    weights = np.tril(np.exp(scores))
    seen = Observation(
        hidden=random.standard_normal((layers + 1, length, width)).astype(np.float32),
        attention=(weights / weights.sum(-1, keepdims=True)).astype(np.float32),
        logits=random.standard_normal((length, size)).astype(np.float32),
        inputs={},
    )
    table = random.standard_normal((width, size)).astype(np.float32)
    targets = np.full(length, -1, np.int32)
    known = ids[first : first + length]
    targets[: len(known)] = known
    window = Window(
        first=first,
        inputs=np.zeros(length, np.int32),
        attention=seen.attention,
        hidden=seen.hidden,
        norms=np.ones((layers + 1, length)),
        logits=seen.logits,
        lens=look_through(lambda hidden: hidden @ table, seen, targets, 5),
    )
    bits = random.random(count) * 9
    bits[3] = np.nan
    return Inspection(
        model="a <model>",
        text=TEXT,
        ids=ids,
        tokens=list(TEXT),
        bits=bits,
        entropy=random.random(count) * 8,
        ranks=random.integers(1, 256, count),
        alternative_ids=random.integers(0, 256, (count + 1, 5)),
        alternative_probabilities=random.random((count + 1, 5)),
        num_bytes=count,
        charged_bytes=0,
        context=length,
        num_windows=3,
        window_number=1,
        window=window,
        spellings=[bytes([value]) for value in range(size)],
    )


class Parts(HTMLParser):
    """Elements with their attributes, and the text of script elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script":
            self.scripts[-1] += data


def test_the_page_asks_nobody_for_anything():
    text = page(made_up())
    parts = Parts(text)
    links = [
        value
        for _, attributes in parts.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert links == ["data:,"]
    for pattern in (r"url\(", "@import", "https?:", "fetch\\(", "XMLHttpRequest", r"\bimport\("):
        assert not re.search(pattern, text), pattern
    policy = next(a["content"] for t, a in parts.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_what_the_text_holds_is_text():
    """Neither ends the script element nor becomes an element."""
    parts = Parts(page(made_up()))
    assert len(parts.scripts) == 2
    data = json.loads(parts.scripts[0])
    assert "".join(token["text"] for token in data["tokens"]) == TEXT[:7]
    assert [tag for tag, _ in parts.elements if tag in ("b", "model")] == []
    assert "a &lt;model&gt;" in page(made_up())


def test_everything_that_the_script_looks_for_is_there():
    text = page(made_up())
    ids = {attributes.get("id") for _, attributes in Parts(text).elements}
    wanted = set(re.findall(r'find\("([\w-]+)"\)', text))
    assert "map" in wanted
    assert wanted <= ids


def test_it_can_be_walked_through_with_the_keyboard():
    parts = Parts(page(made_up()))
    text = next(a for _, a in parts.elements if a.get("id") == "text")
    assert (text["role"], text["tabindex"]) == ("listbox", "0")
    assert all(a.get("type") == "radio" for t, a in parts.elements if t == "input")
    assert "prefers-color-scheme" in page(made_up())


@pytest.mark.parametrize(("length", "last"), [(7, "/"), (21, None)], ids=["within", "whole"])
def test_the_numbers_of_the_page(length, last):
    found = made_up(length=length if length == 7 else len(TEXT) + 1)
    data = page_data(found)
    assert (data["layers"], data["heads"], data["vocabulary"]) == (2, 3, 256)
    assert data["read"] == read_names(found)
    token = data["tokens"][1]
    assert token["bits"] == pytest.approx(found.bits[1], abs=1e-4)
    assert token["rank"] == found.ranks[1]
    assert len(token["lens"]) == 3
    assert token["alternatives"][0][1] == pytest.approx(
        found.alternative_probabilities[1, 0], abs=1e-6
    )
    # An unknown token has no surprise, and after the text there is none to come.
    assert data["tokens"][3]["bits"] is None
    assert (data["tokens"][-1]["text"] is None) == (last is None)


def test_packed_attention_is_what_it_was():
    attention = made_up().window.attention
    packed = np.frombuffer(base64.b64decode(packed_attention(attention)), np.uint8)
    rows, columns = np.tril_indices(7)
    unpacked = np.zeros_like(attention)
    unpacked[..., rows, columns] = ((packed / 255) ** 2).reshape(2, 3, -1)
    # The square root is off by half a step at most: 2 · √w · 1/510.
    assert np.abs(unpacked - attention).max() < 1 / 255


def test_a_later_window_begins_with_the_token_before_it():
    assert read_names(made_up())[:3] == ["⟨start⟩", "<", "/"]
    assert read_names(made_up(first=4))[:3] == [TEXT[3], TEXT[4], TEXT[5]]


def test_the_page_opens_at_the_layer_and_head_that_are_asked_for(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, made_up(), layer=2, head=3)
    data = json.loads(Parts(path.read_text(encoding="utf-8")).scripts[0])
    assert (data["layer"], data["head"]) == (1, 2)
    with pytest.raises(SettingsError, match="no head 4"):
        write_page(tmp_path / "other.html", made_up(), head=4)
    assert not (tmp_path / "other.html").exists()


def test_pages_are_html_files(tmp_path):
    with pytest.raises(InputError, match="HTML"):
        check_page_path(tmp_path / "page.png")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match="folder"):
        check_page_path(tmp_path / "folder.html")
    check_page_path(tmp_path / "page.HTM")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("layer", "head"), [(None, None), (2, None), (1, 3)])
def test_the_picture(tmp_path, layer, head, dark):
    path = tmp_path / "picture.png"
    draw_inspection(path, made_up(), layer=layer, head=head, dark=dark)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width == 1500
        paper = (DARK if dark else LIGHT).paper
        assert picture.getpixel((2, 2))[:3] == tuple(bytes.fromhex(paper[1:]))
        # More than paper and letters: the palette's colours are in it.
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24)) > 100
