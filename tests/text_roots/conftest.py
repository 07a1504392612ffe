"""Word lists with hand-made gold segmentations, and how well a segmenter agrees with them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from types import ModuleType

import pytest

from cllm.text.roots import Segmenter, learn_segmenter

HERE = Path(__file__).parent


@dataclass(frozen=True)
class WordList:
    """Words to learn from, and the parts that some of them should be cut into."""

    language: str
    words: list[str]
    gold: list[list[str]]


@dataclass(frozen=True)
class Agreement:
    """Precision and recall of the borders between parts, their harmonic mean, whole words."""

    precision: float
    recall: float
    f1: float
    exact: float


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"text_roots_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _gold(name: str) -> list[list[str]]:
    lines = (HERE / "data" / name).read_text(encoding="utf-8").split()
    return [line.split("|") for line in lines]


def _with_gold(language: str, words: Sequence[str], gold: list[list[str]]) -> WordList:
    return WordList(language, sorted({*words, *map("".join, gold)}), gold)


@pytest.fixture(scope="session")
def english() -> WordList:
    """Every word of Python's documentation topics, and a hand-made list of everyday words."""
    listed = (HERE / "data" / "english_words.txt").read_text(encoding="utf-8").split()
    written = re.findall(r"[a-z]{2,}", " ".join(topics.values()).lower())
    return _with_gold("English", [*listed, *written], _gold("english_gold.txt"))


@pytest.fixture(scope="session")
def turkish() -> WordList:
    return _with_gold("Turkish", _load("turkish").turkish_words(), _gold("turkish_gold.txt"))


@pytest.fixture(scope="session")
def esperanto() -> WordList:
    forms = _load("esperanto").esperanto_words()
    return WordList("Esperanto", sorted(forms), [forms[word] for word in sorted(forms)[::10]])


@pytest.fixture(scope="session")
def english_segmenter(english: WordList) -> Segmenter:
    return learn_segmenter(dict.fromkeys(english.words, 1))


@pytest.fixture(scope="session")
def turkish_segmenter(turkish: WordList) -> Segmenter:
    return learn_segmenter(dict.fromkeys(turkish.words, 1))


@pytest.fixture(scope="session")
def esperanto_segmenter(esperanto: WordList) -> Segmenter:
    return learn_segmenter(dict.fromkeys(esperanto.words, 1))


@pytest.fixture(scope="session")
def agreement() -> Callable[..., Agreement]:
    def borders(parts: Sequence[str]) -> set[int]:
        return {len("".join(parts[:count])) for count in range(1, len(parts))}

    def measure(gold: list[list[str]], cut: Callable[[str], Sequence[str]]) -> Agreement:
        hits = given = wanted = exact = 0
        for parts in gold:
            found, true = borders(cut("".join(parts))), borders(parts)
            hits, given, wanted = hits + len(found & true), given + len(found), wanted + len(true)
            exact += found == true
        precision, recall = hits / max(given, 1), hits / max(wanted, 1)
        f1 = 2 * hits / max(given + wanted, 1)
        return Agreement(precision, recall, f1, exact / len(gold))

    return measure
