"""From files to a corpus and back."""

import json
import pydoc_data.topics
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cllm.config import TextSettings
from cllm.errors import (
    ExistsError,
    InputError,
    IntegrityError,
    NoTextError,
    SettingsError,
    StorageError,
)
from cllm.text import pipeline
from cllm.text.corpus import Corpus
from cllm.text.prepare import prepare

TOPICS = pydoc_data.topics.topics
KINDS = ["bpe", "wordpiece", "unigram", "words", "characters", "bytes"]


@pytest.fixture
def folder(tmp_path):
    """A folder with a file for each topic of Python's documentation."""
    path = tmp_path / "text"
    path.mkdir()
    for name, text in TOPICS.items():
        (path / f"{name}.txt").write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("\n\n".join(TOPICS.values()), encoding="utf-8")
    return path


def all_text(corpus, split):
    return b"".join(corpus.text(split)).decode()


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_text_agree(kind, folder, tmp_path):
    corpus = prepare([folder], TextSettings(tokenizer=kind), tmp_path / "corpus")
    tokenizer = corpus.tokenizer
    for split, info in (("train", corpus.train), ("val", corpus.val)):
        tokens = corpus.tokens(split)
        assert len(tokens) == info.num_tokens
        text = all_text(corpus, split)
        assert (len(text), len(text.encode())) == (info.num_characters, info.num_bytes)
        stretches = list(corpus.documents(split))
        assert len({stretch.source for stretch in stretches}) == info.num_documents
        unknown = 0
        for stretch, part in zip(stretches, corpus.text(split), strict=True):
            ids = tokens.read(stretch.token_start, stretch.num_tokens)
            whole = bytes(part).decode()
            assert ids[-1] == tokenizer.eos_id
            assert ids[:-1].tolist() == tokenizer.encode(whole).tolist()
            assert stretch.num_bytes == len(part)
            unknown += tokenizer.unknown_bytes(whole)
        assert info.charged_bytes == unknown
        assert tokenizer.is_lossless is False or unknown == 0
    assert 0.02 < corpus.val.num_bytes / (corpus.val.num_bytes + corpus.train.num_bytes) < 0.1


def test_sources_are_named(folder, tmp_path):
    corpus = prepare([folder], TextSettings(), tmp_path / "corpus")
    names = {s.source for split in ("train", "val") for s in corpus.documents(split)}
    report = corpus.report
    assert len(names) == len(TOPICS) - report.exact_duplicates - report.near_duplicates
    assert all(name.endswith(".txt") for name in names)


def test_records_of_a_file_are_documents(tmp_path):
    path = tmp_path / "records.jsonl"
    records = [{"text": text} for text in TOPICS.values()]
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    corpus = prepare([path], TextSettings(near_duplicates=False), tmp_path / "corpus")
    sources = {s.source for split in ("train", "val") for s in corpus.documents(split)}
    assert len(sources) == len(set(TOPICS.values()))
    source = next(corpus.documents("train")).source
    assert source.startswith(str(path)) or source.startswith("records.jsonl")
    assert "#" in source


def test_opening_finds_the_same(folder, tmp_path):
    corpus = prepare([folder], TextSettings(), tmp_path / "corpus")
    again = Corpus.open(tmp_path / "corpus")
    assert (again.train, again.val, again.sha256) == (corpus.train, corpus.val, corpus.sha256)
    assert again.settings == corpus.settings
    assert again.report.to_json() == corpus.report.to_json()
    assert again.report.rows["text"].files_read == len(TOPICS)


def test_the_same_text_gives_the_same_corpus(folder, file, tmp_path, monkeypatch):
    one = prepare([folder], TextSettings(), tmp_path / "a")
    two = prepare([folder], TextSettings(workers=1), tmp_path / "b")
    monkeypatch.setattr(pipeline, "_PATIENCE_S", 0.0)
    three = prepare([folder], TextSettings(workers=2), tmp_path / "c")
    assert one.sha256 == two.sha256 == three.sha256
    assert one.train == three.train


def test_a_big_file_is_encoded_in_pieces_as_a_whole(tmp_path):
    text = "\n\n".join(TOPICS.values()) * 3
    (tmp_path / "big.txt").write_text(text, encoding="utf-8")
    corpus = prepare([tmp_path / "big.txt"], TextSettings(val_fraction=0.0), tmp_path / "c")
    expected = [*corpus.tokenizer.encode(text).tolist(), corpus.tokenizer.eos_id]
    assert corpus.tokens("train").read(0, 10**9).tolist() == expected
    assert corpus.val.num_tokens == 0
    assert list(corpus.text("val")) == []


def test_blocks_that_stay_adjacent_have_no_eos_between(file, tmp_path):
    corpus = prepare([file], TextSettings(), tmp_path / "corpus")
    ids = corpus.tokens("train").read(0, 10**9)
    stretches = list(corpus.documents("train"))
    assert (ids == corpus.tokenizer.eos_id).sum() == len(stretches)
    assert corpus.train.num_documents == 1
    assert corpus.tokenizer.decode(ids) == all_text(corpus, "train")


def test_the_split_ignores_order_and_names_of_files(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    names = [f"{n:04d}.txt" for n in range(len(TOPICS))]
    random.Random(3).shuffle(names)
    for name, text in zip(names, TOPICS.values(), strict=True):
        (other / name).write_text(text, encoding="utf-8")
    settings = TextSettings(tokenizer="bytes", near_duplicates=False)
    one = prepare([folder], settings, tmp_path / "a")
    two = prepare([other], settings, tmp_path / "b")
    parts = [sorted(map(bytes, corpus.text("val"))) for corpus in (one, two)]
    assert parts[0] == parts[1]


def test_copies_are_dropped_and_counted(tmp_path):
    text = TOPICS["lambda"] + TOPICS["if"] + TOPICS["while"]
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    settings = TextSettings(val_fraction=0.0)
    corpus = prepare([tmp_path / "*.txt"], settings, tmp_path / "out")
    assert corpus.report.exact_duplicates == 2
    assert all_text(corpus, "train") == text
    kept = settings.model_copy(update={"exact_duplicates": False, "near_duplicates": False})
    corpus = prepare([tmp_path / "*.txt"], kept, tmp_path / "kept")
    assert corpus.train.num_documents == 3


def test_a_val_file_is_held_out_whole(file, tmp_path):
    held = tmp_path / "held.txt"
    raw = "One line.\r\nAnother line.\r\n\r\nOne line.\r\n"
    held.write_bytes(raw.encode())
    corpus = prepare([file], TextSettings(val_file=held), tmp_path / "corpus")
    assert all_text(corpus, "val") == raw.replace("\r\n", "\n")
    assert corpus.val.num_bytes == len(raw)
    assert corpus.val.charged_bytes == raw.count("\r")
    assert all_text(corpus, "train") == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b" \n \n", bytes(range(256)) * 9])
def test_a_val_file_that_cannot_be_used(file, tmp_path, content):
    held = tmp_path / "held.txt"
    held.write_bytes(content)
    with pytest.raises(InputError, match=r"held\.txt"):
        prepare([file], TextSettings(val_file=held), tmp_path / "corpus")
    with pytest.raises(InputError):
        prepare([file], TextSettings(val_file=tmp_path / "none"), tmp_path / "corpus")


def test_a_given_tokenizer_is_used(file, tmp_path):
    first = prepare([file], TextSettings(), tmp_path / "first")
    other = tmp_path / "other.txt"
    other.write_text("Quite another text, of its own kind. " * 50, encoding="utf-8")
    second = prepare([other], TextSettings(), tmp_path / "second", tokenizer=first.tokenizer)
    assert second.tokenizer.backend.to_str() == first.tokenizer.backend.to_str()


def test_nothing_readable_tells_the_reasons(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(NoTextError) as caught:
        prepare([tmp_path], TextSettings(), tmp_path / "out" / "corpus")
    assert "empty.txt" in str(caught.value) and "binary.txt" in str(caught.value)
    assert not (tmp_path / "out" / "corpus").exists()
    assert list((tmp_path / "out").iterdir()) == []


def test_white_space_alone_is_no_text(tmp_path):
    (tmp_path / "blank.txt").write_text(" \n\t\n" * 100, encoding="utf-8")
    with pytest.raises(NoTextError):
        prepare([tmp_path / "blank.txt"], TextSettings(), tmp_path / "corpus")


def test_what_is_there_already_is_not_touched(file, tmp_path):
    (tmp_path / "corpus").mkdir()
    with pytest.raises(ExistsError):
        prepare([file], TextSettings(), tmp_path / "corpus")


def test_a_vocabulary_too_large_leaves_nothing(file, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(SettingsError, match="larger than the text supports"):
        prepare([file], TextSettings(vocab_size=10**7), tmp_path / "out" / "corpus")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["train-00000.tokens", "text.utf8", "train.documents.npy"])
def test_damage_names_the_file_and_the_checksum(name, file, tmp_path):
    prepare([file], TextSettings(), tmp_path / "corpus")
    path = tmp_path / "corpus" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(IntegrityError, match=rf"{name}.*checksum"):
        Corpus.open(tmp_path / "corpus")
    path.write_bytes(raw[:-2])
    with pytest.raises(IntegrityError, match=rf"{name}.*truncated"):
        Corpus.open(tmp_path / "corpus")


def test_a_folder_that_is_no_corpus(tmp_path):
    with pytest.raises(IntegrityError):
        Corpus.open(tmp_path)


def test_progress_goes_from_stage_to_stage(file, tmp_path):
    seen = []
    prepare([file], TextSettings(), tmp_path / "c", progress=lambda *step: seen.append(step))
    stages = [stage for stage, _, _ in seen]
    assert list(dict.fromkeys(stages)) == ["reading", "tokenizer", "encoding"]
    assert all(0 <= done <= total for _, done, total in seen)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_storage_error(file, tmp_path, monkeypatch):
    from cllm.text import prepare as module

    monkeypatch.setattr(module, "TEXT", "/dev/full")
    with pytest.raises(StorageError, match="full"):
        prepare([file], TextSettings(), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_workers_start_from_a_script_without_a_guard(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from cllm.text import pipeline\n"
        "from cllm.text.prepare import prepare\n"
        "from cllm.config import TextSettings\n"
        "pipeline._PATIENCE_S = 0.0\n"
        "from pathlib import Path\n"
        f"out = Path({str(tmp_path / 'c')!r})\n"
        f"corpus = prepare([{str(folder)!r}], TextSettings(workers=2), out)\n"
        "print(corpus.train.num_tokens)\n",
        encoding="utf-8",
    )
    # A module beside the script must not be taken for a library by the workers.
    (tmp_path / "numpy.py").write_text("raise RuntimeError('wrong numpy')\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-P", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == Corpus.open(tmp_path / "c").train.num_tokens


def test_a_worker_that_dies_is_reported():
    with pipeline.WorkerPool(2) as pool:
        process = pipeline._start()
        pool._processes = [process]
        process.kill()
        process.wait()
        with pytest.raises(pipeline.WorkerFailureError, match="ended"):
            for answers in pool._run_outside(NoWork(), [1, 2]):
                list(answers)


class NoWork:
    def do(self, task):
        yield task


def test_the_index_is_an_array(folder, tmp_path):
    corpus = prepare([folder], TextSettings(), tmp_path / "corpus")
    rows = corpus.stretches("train")
    ends = rows["token_start"] + rows["num_tokens"]
    assert (rows["token_start"][1:] == ends[:-1]).all()
    assert ends[-1] == corpus.train.num_tokens
    assert np.isin(corpus.tokens("train").read(int(ends[0]) - 1, 1), [corpus.tokenizer.eos_id])
