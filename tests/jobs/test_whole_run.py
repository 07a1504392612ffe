"""From a messy folder to generated text, through the installed command and through Python."""

import bz2
import gzip
import json
import math
import random
import time
import zipfile
from pathlib import Path

import docx
import pytest
import torch
import transformers

import cllm
from cllm.errors import ExistsError, InterruptedRunError, NotFoundError, SettingsError

QUICK = [
    "--preset",
    "tiny",
    "--context",
    "32",
    "--train.batch-size",
    "4",
    "--train.sample-tokens",
    "8",
]


def sentences(seed: int, count: int = 60) -> str:
    rng = random.Random(seed)
    nouns, verbs = ["river", "lantern", "fox", "café", "mountain"], ["sings", "sleeps", "waits"]
    return "\n".join(
        f"The {rng.choice(nouns)} {rng.choice(verbs)} near the {rng.choice(nouns)}."
        for _ in range(count)
    )


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A folder as people have them."""
    folder = tmp_path / "my texts"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "plain.txt").write_text(sentences(1), encoding="utf-8")
    (folder / "windows.txt").write_bytes(sentences(2).replace("\n", "\r\n").encode("utf-16"))
    (folder / "old.txt").write_bytes(sentences(3).encode("latin-1"))
    (folder / "copy of plain.txt").write_text(sentences(1), encoding="utf-8")
    (folder / "packed.txt.gz").write_bytes(gzip.compress(sentences(4).encode()))
    (folder / "packed.md.bz2").write_bytes(bz2.compress(sentences(5).encode()))
    rows = [json.dumps({"text": sentences(seed, 8)}) for seed in range(6, 12)]
    (folder / "deep" / "records.jsonl").write_text("\n".join(rows), encoding="utf-8")
    document = docx.Document()
    document.add_paragraph(sentences(20))
    document.save(str(folder / "deep" / "letter.docx"))
    (folder / "deep" / "er" / "page.html").write_text(
        f"<html><body><article><p>{sentences(21)}</p></article></body></html>", encoding="utf-8"
    )
    (folder / "deep" / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
    (folder / "broken.epub").write_bytes(b"PK\x03\x04 this is no book")
    (folder / ".secret.txt").write_text("hidden " * 50)
    (folder / "deep" / "loop").symlink_to(folder)
    with zipfile.ZipFile(folder / "things.zip", "w") as archive:
        archive.writestr("a.bin", b"\0" * 100)
    return folder


def result_of(done) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_messy_folder_becomes_a_model_that_writes(cllm_command, messy, home):
    done = cllm_command(
        "train", messy, "--name", "mine", "--steps", 6, "--seed", 3, "--json", *QUICK
    )
    result = result_of(done)
    contract = {
        "model", "run", "steps", "tokens", "tokens_per_s", "num_parameters", "val_bits_per_byte",
        "val_nats_per_token", "seconds_total", "seconds_to_first_step", "peak_rss_bytes",
    }  # fmt: skip
    assert contract <= result.keys()
    assert (result["model"], result["steps"], result["tokens"]) == ("mine", 6, 6 * 4 * 32)
    assert "\x1b" not in done.stdout + done.stderr
    for skipped in ("picture.txt", "broken.epub", "things.zip"):
        assert skipped in done.stderr, "left out with the reason"
    assert "hidden" not in done.stderr
    folder = Path(cllm_command("models", "path", "mine").stdout.strip())
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    done = cllm_command(
        "generate", "mine", "--prompt", "The fox", "--max-tokens", 12, "--temperature", 0, "--json"
    )
    written = result_of(done)
    assert written["text"] and not written["text"].startswith("The fox")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer("The fox", return_tensors="pt").input_ids
    theirs = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(theirs) == written["text"]


def bits_by_transformers(folder: Path, text: str, context: int) -> float:
    """Bits per byte in windows that do not overlap, computed by another library."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    row = torch.tensor([tokenizer.convert_tokens_to_ids("<|endoftext|>"), *ids])
    nats = 0.0
    for start in range(0, len(ids), context):
        window = row[start : start + context + 1]
        with torch.no_grad():
            logits = model(window[None, :-1]).logits[0].double()
        nats += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
    return nats / math.log(2) / len(text.encode())


@pytest.mark.parametrize(
    "tokenizer", ["bpe", "wordpiece", "unigram", "words", "characters", "bytes"]
)
def test_each_tokeniser_trains_and_its_figure_is_that_of_another_library(
    tokenizer, cllm_command, tmp_path
):
    text, held_out = tmp_path / "text.txt", tmp_path / "held-out.txt"
    text.write_text(sentences(1, 300), encoding="utf-8")
    held_out.write_text(sentences(2, 40), encoding="utf-8")
    arguments = ["--tokenizer", tokenizer, "--val-file", held_out, "--steps", 5, "--json", *QUICK]
    result = result_of(cllm_command("train", text, "--name", "m", *arguments))
    assert result["val_bytes"] == held_out.stat().st_size
    folder = Path(cllm_command("models", "path", "m").stdout.strip())
    expected = bits_by_transformers(folder, held_out.read_text(encoding="utf-8"), 32)
    assert result["val_bits_per_byte"] == pytest.approx(expected, rel=1e-4)
    arguments = ["eval", "m", held_out, "--stride", 32, "--json"]
    assert result_of(cllm_command(*arguments))["bits_per_byte"] == pytest.approx(expected, rel=1e-4)


def test_a_model_goes_on_with_other_text(cllm_command, tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.txt").write_text(sentences(number, 200), encoding="utf-8")
    first = result_of(
        cllm_command("train", tmp_path / "1.txt", "--name", "one", "--steps", 40, "--json", *QUICK)
    )
    more = ["train", tmp_path / "2.txt", "--name", "two", "--from", "one", "--json"]
    quick = QUICK[4:]
    second = result_of(cllm_command(*more, "--steps", 2, *quick))
    fresh = ["train", tmp_path / "2.txt", "--name", "three", "--steps", 2, "--json", *QUICK]
    assert second["vocab_size"] == first["vocab_size"]
    assert second["val_bits_per_byte"] < result_of(cllm_command(*fresh))["val_bits_per_byte"] - 0.3
    refused = cllm_command(*more, "--steps", 2, "--overwrite", "--model.width", 96)
    assert refused.returncode == 2
    assert "model.width" in refused.stderr


def test_time_that_was_asked_for_is_kept(cllm_command, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(sentences(1, 2000), encoding="utf-8")
    began = time.monotonic()
    done = cllm_command("train", text, "--name", "timed", "--minutes", 0.4, "--json", *QUICK)
    taken = time.monotonic() - began
    result = result_of(done)
    assert 18 < result["seconds_total"] < 30, "24 s were asked for"
    assert result["seconds_to_first_step"] < result["seconds_total"] < taken


def test_python_trains_loads_writes_and_measures(home, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(sentences(1, 300), encoding="utf-8")
    settings = {"model.preset": "tiny", "model.context": 32, "train.batch-size": 4}
    seen = []
    model = cllm.train(text, steps=30, settings=settings, observe=seen.append)
    assert model.name == "text"
    assert model.result.steps == 30
    assert type(seen[-1]).__name__ == "Finished"
    again = cllm.load("text")
    one = again.generate("The fox", max_tokens=10, seed=1)
    assert one == model.generate("The fox", max_tokens=10, seed=1)
    assert "".join(again.stream("The fox", max_tokens=10, seed=1)) == one
    like, unlike = (
        again.bits_per_byte(sentences(9, 20)),
        again.bits_per_byte("QXZ 0123456789 #" * 9),
    )
    assert like < unlike
    assert math.isnan(again.bits_per_byte(""))
    assert cllm.train([text], name="other", steps=1, settings=settings).name == "other"
    with pytest.raises(ExistsError):
        cllm.train(text, name="other", steps=1)
    with pytest.raises(NotFoundError, match="othre"):
        cllm.load("othre")
    with pytest.raises(SettingsError, match="wdith"):
        cllm.train(text, name="third", steps=1, settings={"model.wdith": 3})
    with pytest.raises(SettingsError, match="temperature"):
        again.generate("The fox", temperature=-1)
    assert issubclass(InterruptedRunError, cllm.CllmError)


def test_equal_runs_are_equal_and_another_seed_is_not(cllm_command, home, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(sentences(1, 200), encoding="utf-8")
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        arguments = ["train", text, "--name", name, "--steps", 5, "--seed", seed, "--json", *QUICK]
        result_of(cllm_command(*arguments))
        weights.append((home / "models" / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_advice_where_it_helps(cllm_command, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(sentences(1, 30), encoding="utf-8")
    often = ["--train.eval-interval", 20, "--train.learning-rate", "0.02"]
    arguments = ["train", text, "--name", "small", "--steps", 400, "--json", *QUICK, *often]
    advice = result_of(cllm_command(*arguments))["advice"]
    assert any(message.startswith("Only ") for message in advice)
    arguments = ["train", text, "--name", "still", "--steps", 120, "--json", *QUICK]
    rates = ["--train.learning-rate", "1e-9", "--train.matrix-rate", "1e-9"]
    advice = result_of(cllm_command(*arguments, *rates))["advice"]
    assert any("not falling" in message for message in advice)
