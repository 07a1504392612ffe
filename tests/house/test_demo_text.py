"""The demo's text: the same on every run, from sources alone, nothing twice."""

from pathlib import Path

import pytest

from cllm.errors import NoTextError
from cllm.jobs.demo import gather_python_text

LONG = "says more than sixty characters, which is what it takes for a text to be kept."


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.txt")}


def test_python_brings_enough_text_and_always_the_same(tmp_path: Path) -> None:
    first = gather_python_text(tmp_path / "a")
    gather_python_text(tmp_path / "b")
    assert read(tmp_path / "a") == read(tmp_path / "b")
    assert 1_000_000 < first.num_bytes < 5_000_000
    assert sorted(path.name for path in first.paths) == sorted(read(tmp_path / "a"))
    assert first.num_bytes == sum(map(len, read(tmp_path / "a").values()))
    # The help topics, and a docstring below the signature that `help` shows.
    assert b"import" in read(tmp_path / "a")["pydoc_data.txt"]
    assert b"copyfile(src, dst, *, follow_symlinks=True)\n" in read(tmp_path / "a")["shutil.txt"]


def test_docstrings_are_named_indented_and_not_repeated(tmp_path: Path) -> None:
    library = tmp_path / "library"
    (library / "site-packages").mkdir(parents=True)
    (library / "site-packages" / "foreign.py").write_text(f'"""Foreign {LONG}"""')
    (library / "broken.py").write_text("def (")
    (library / "one.py").write_text(
        f'"""One {LONG}"""\nclass A(B):\n    """A {LONG}"""\n'
        f'    def f(self, x: int = 3):\n        """F {LONG}\n\n        And more.\n        """\n'
        f'def twin():\n    """A {LONG}"""\ndef terse():\n    """Short."""\nraise SystemExit\n'
    )
    gather_python_text(tmp_path / "texts", stdlib=library)
    assert read(tmp_path / "texts") == {
        "one.txt": (
            f"One {LONG}\n\n\nclass A(B)\n    A {LONG}\n\n\n"
            f"A.f(self, x: int=3)\n    F {LONG}\n\n    And more.\n"
        ).encode()
    }


def test_an_installation_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoTextError, match="no library sources"):
        gather_python_text(tmp_path / "texts", stdlib=tmp_path)
    assert not (tmp_path / "texts").exists()
