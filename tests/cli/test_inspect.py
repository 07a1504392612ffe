"""`cllm inspect` as people and programs meet it: answers, files, and what it refuses."""

import io
import json
import math
import sys

import numpy as np
import pytest

from cllm.cli.main import run
from cllm.files import write_manifest
from cllm.model import ModelSpec, save_model
from cllm.text.tokenizers import train_tokenizer

TEXT = "the boat\nis late"


@pytest.fixture
def model(home):
    """A small model with random weights over bytes, called mine."""
    tokenizer = train_tokenizer("bytes", lambda: iter(["x"]), vocab_size=None, num_characters=1)
    spec = ModelSpec(
        vocab_size=tokenizer.vocab_size, width=32, layers=2, heads=2, kv_heads=2, head_width=16,
        mlp_width=64, context=64,
    )  # fmt: skip
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal(shape).astype(np.float32) * np.float32(0.3)
        for name, shape in spec.parameter_shapes().items()
    }
    folder = home / "models/mine"
    folder.mkdir(parents=True)
    save_model(folder, spec, weights)
    tokenizer.save(folder, context=spec.context)
    write_manifest(folder)
    return "mine"


def answer(capfd, *arguments):
    """The JSON value that a command prints."""
    assert run(["inspect", *map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out.splitlines()[-1])


def test_each_token_with_its_figures(capfd, model):
    found = answer(capfd, model, "--text", TEXT)
    assert "".join(token["text"] for token in found["tokens"]) == TEXT
    bits = [token["bits"] for token in found["tokens"]]
    assert found["bits_per_byte"] == pytest.approx(sum(bits) / len(TEXT))
    for token in found["tokens"]:
        assert token["probability"] == pytest.approx(2 ** -token["bits"])
        assert 1 <= token["rank"] <= 257
        assert 0 < token["entropy_bits"] <= math.log2(257)
        assert len(token["alternatives"]) == 5
        shares = [other["probability"] for other in token["alternatives"]]
        assert shares == sorted(shares, reverse=True)
    assert "attention" not in found


def test_the_attention_of_a_layer_and_head(capfd, model):
    found = answer(capfd, model, "--text", TEXT, "--layer", 2, "--head", 1)
    weights = np.array(found["attention"]["weights"])
    assert weights.shape == (len(TEXT) + 1, len(TEXT) + 1)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert (np.triu(weights, 1) == 0).all()


def test_a_table_in_a_pipe(capfd, model):
    assert run(["inspect", model, "--text", TEXT, "--layer", "1"]) == 0
    shown = capfd.readouterr().out
    assert "bits per byte" in shown
    assert "\x1b" not in shown
    # White space and line ends are to be seen.
    for token in ("␣", "⏎", "Where it looked: layer 1, mean over heads", "⟨start⟩"):
        assert token in shown


def test_a_file_is_read_as_the_same_text(capfd, model, tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    expected = answer(capfd, model, "-t", TEXT)["tokens"]
    assert answer(capfd, model, "--file", path)["tokens"] == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert answer(capfd, model, "--text", "-")["tokens"] == expected


def test_pictures_and_pages(capfd, model, tmp_path):
    png, html = tmp_path / "a.png", tmp_path / "a.html"
    found = answer(capfd, model, "--text", TEXT, "--png", png, "--html", html, "--dark")
    assert (found["png"], found["html"]) == (str(png), str(html))
    assert png.read_bytes().startswith(b"\x89PNG")
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --text or --file"),
        (["--text", "a", "--file", "b"], "give either --text or --file"),
        (["--text", ""], "no text to look at"),
        (["--file", "nothing-here"], "can't be read"),
        (["--text", "a", "--layer", "3"], "there is no layer 3: the model has 2"),
        (["--text", "a", "--head", "0"], "there is no head 0"),
        (["--text", "a", "--window", "2"], "there is no window 2"),
        (["--text", "a", "--png", "a.jpg"], "pictures are PNG files"),
        (["--text", "a", "--html", "a.png"], "pages are HTML files"),
    ],
)
def test_bad_input_ends_with_2_and_writes_nothing(
    capfd, model, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    page = [] if "--html" in arguments else ["--html", "page.html"]
    assert run(["inspect", model, *arguments, *page]) == 2
    printed = capfd.readouterr()
    assert message in printed.err
    assert printed.out == ""
    written = [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".html", ".jpg")]
    assert written == []


def test_a_file_that_is_not_text(capfd, model, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\xff\xfe\xff")
    assert run(["inspect", model, "--file", str(path)]) == 2
    assert "not UTF-8" in capfd.readouterr().err


def test_an_unknown_model(capfd, home):
    assert run(["inspect", "none", "--text", "a"]) == 2
    assert "there is no model named 'none'" in capfd.readouterr().err
