"""Finding files: folders, patterns, standard input; what is hidden or ignored stays out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cllm.config import TextSettings
from cllm.errors import InputError, NoTextError
from cllm.text.sources import find_sources


def _make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}\n")


def _found(root: Path, *places: str | Path, **settings) -> list[str]:
    sources, _ = find_sources(places or [root], TextSettings(**settings))
    return [os.path.relpath(source.name, root) for source in sources]


def test_folders_are_searched_to_the_bottom_in_order(tmp_path: Path) -> None:
    _make(tmp_path, "b.txt", "a/z.txt", "a/deep/er/x.md", "c.txt")
    assert _found(tmp_path) == ["a/deep/er/x.md", "a/z.txt", "b.txt", "c.txt"]


def test_hidden_files_are_left_out_unless_named_or_wanted(tmp_path: Path) -> None:
    _make(tmp_path, ".secret", ".cache/x.txt", "seen.txt")
    assert _found(tmp_path) == ["seen.txt"]
    assert _found(tmp_path, hidden=True) == [".cache/x.txt", ".secret", "seen.txt"]
    assert _found(tmp_path, tmp_path / ".secret") == [".secret"]


def test_several_places_and_each_file_once(tmp_path: Path) -> None:
    _make(tmp_path, "a.txt", "d/b.txt")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    os.link(tmp_path / "a.txt", tmp_path / "z.txt")
    found = _found(tmp_path, tmp_path / "d" / "b.txt", tmp_path, tmp_path / "a.txt")
    assert sorted(found) == ["a.txt", "d/b.txt"]


def test_gitignore_is_honoured_nested_and_from_parents(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n/build/\nnode_modules\n# note\n!keep.log\n")
    _make(tmp_path, "a.txt", "x.log", "keep.log", "build/out.txt", "src/build/in.txt")
    _make(tmp_path, "src/node_modules/m.txt", "src/b.tmp", "src/important.tmp", "src/c.txt")
    (tmp_path / "src" / ".gitignore").write_text("*.tmp\n!important.tmp\n")
    expected = ["a.txt", "keep.log", "src/build/in.txt", "src/c.txt", "src/important.tmp"]
    assert _found(tmp_path) == expected
    # From inside the repository the rules of its parents hold too.
    _make(tmp_path, "src/deep/y.log", "src/deep/y.txt")
    assert _found(tmp_path, tmp_path / "src" / "deep") == ["src/deep/y.txt"]
    assert "x.log" in _found(tmp_path, gitignore=False)


def test_gitignore_agrees_with_git(tmp_path: Path) -> None:
    _make(tmp_path, "a.txt", "a.bak", "doc/a.txt", "doc/frotz/b.txt", "foo/bar/c.txt", "foo/d.txt")
    _make(
        tmp_path, "deep/foo/e.txt", "x y.txt", "#hash.txt", "!bang.txt", "abc/1/2/z.txt", "q1.txt"
    )
    rules = (
        "*.bak\ndoc/frotz\nfoo/*\n!foo/bar\n\\#hash.txt\n\\!bang.txt\nabc/**/z.txt\nq[0-9].txt\n"
    )
    (tmp_path / ".gitignore").write_text(rules)
    git = ["git", "-C", str(tmp_path)]
    if subprocess.run([*git, "init", "-q"], capture_output=True, check=False).returncode:
        pytest.skip("git is not installed")
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = sorted(name for name in listed.stdout.split("\0") if name and name[0] != ".")
    assert sorted(_found(tmp_path)) == expected


def test_an_ignored_folder_that_is_named_is_read(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("build/\n*.log\n")
    _make(tmp_path, "build/a.txt", "x.log")
    assert _found(tmp_path, tmp_path / "build", tmp_path / "x.log") == ["build/a.txt", "x.log"]


def test_rules_outside_a_repository_stop_at_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.txt\n")
    _make(tmp_path, "sub/a.txt")
    assert _found(tmp_path, tmp_path / "sub") == ["sub/a.txt"]


def test_loops_of_links_end_and_are_told(tmp_path: Path) -> None:
    _make(tmp_path, "d/a.txt")
    (tmp_path / "d" / "up").symlink_to(tmp_path)
    (tmp_path / "d" / "self").symlink_to(tmp_path / "d" / "self")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    sources, skips = find_sources([tmp_path], TextSettings())
    assert [Path(source.name).name for source in sources] == ["a.txt"]
    reasons = {Path(skip.source).name: skip.reason for skip in skips}
    assert "loop" in reasons["up"]
    assert "loop" in reasons["self"]
    assert "nowhere" in reasons["gone"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    _make(tmp_path, "data/b/x.txt", "other/y.txt")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "data" / "b")
    (tmp_path / "data" / "out").symlink_to(tmp_path / "other")
    assert _found(tmp_path, tmp_path / "data") == ["data/b/x.txt", "data/out/y.txt"]


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(tmp_path, "n/a.md", "n/b.txt", "n/deep/c.md", "n/.hid/d.md", "[odd].txt")
    monkeypatch.chdir(tmp_path)
    assert _found(Path(), "n/*.md") == ["n/a.md"]
    assert _found(Path(), "n/**/*.md") == ["n/a.md", "n/deep/c.md"]
    assert _found(Path(), "n/*") == ["n/a.md", "n/b.txt", "n/deep/c.md"]
    assert _found(Path(), "[odd].txt") == ["[odd].txt"]
    (tmp_path / "n" / ".gitignore").write_text("deep/\n")
    assert _found(Path(), "n/**/*.md") == ["n/a.md"]
    with pytest.raises(InputError, match="no file matches"):
        find_sources(["n/*.pdf"], TextSettings())


def test_names_are_as_the_person_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make(tmp_path, "notes/a.txt")
    monkeypatch.chdir(tmp_path)
    (source,) = find_sources(["notes"], TextSettings())[0]
    assert source.name == "notes/a.txt"
    assert source.num_bytes == len("text of notes/a.txt\n")


def test_a_place_that_is_missing_is_an_error(tmp_path: Path) -> None:
    _make(tmp_path, "a.txt")
    with pytest.raises(InputError, match="no such file") as caught:
        find_sources([tmp_path / "a.txt", tmp_path / "nope.txt"], TextSettings())
    assert not isinstance(caught.value, NoTextError)
    assert "nope.txt" in str(caught.value)


@pytest.mark.parametrize("content", [[], [".hidden"]])
def test_a_folder_without_files_is_an_error(tmp_path: Path, content: list[str]) -> None:
    _make(tmp_path, *content)
    with pytest.raises(NoTextError, match="no files found"):
        find_sources([tmp_path], TextSettings())


def test_a_name_that_can_not_be_is_an_error() -> None:
    for place in ("x" * 5000, "nul\0byte"):
        with pytest.raises(InputError):
            find_sources([place], TextSettings())


READ_STDIN = """
from cllm.config import TextSettings
from cllm.text.intake import read_source
from cllm.text.sources import find_sources
(source,), _ = find_sources(["-", "-"], TextSettings())
for document in read_source(source, TextSettings()):
    print(document.source, document.kind, repr(document.text), source.path.exists())
print(source.path)
"""


@pytest.mark.parametrize("data", ["grüße\n".encode(), "grüße\n".encode("utf-16")])
def test_standard_input_is_read_and_its_copy_removed(data: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_STDIN], input=data, capture_output=True, check=True
    )
    first, path = done.stdout.decode().splitlines()
    assert first == "standard input text 'grüße\\n' True"
    assert not Path(path).exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_told(tmp_path: Path) -> None:
    _make(tmp_path, "a.txt", "locked/b.txt")
    (tmp_path / "locked").chmod(0)
    try:
        _, skips = find_sources([tmp_path], TextSettings())
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert "permission" in skips[0].reason
