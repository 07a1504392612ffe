"""Mechanisms from the command line to a model on disk that writes, and to other programs."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from cllm.jobs.mechanisms import catalogue_records
from cllm.model import load_model

Command = Callable[..., subprocess.CompletedProcess[str]]
QUICK = ["--preset", "tiny", "--context", "32", "--train.batch-size", "4", "--json"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    rng = random.Random(0)
    words = ["stone", "stones", "river", "rivers", "lantern", "sing", "sings", "singing", "sleep"]
    path = tmp_path / "poem.txt"
    path.write_text("\n".join(" ".join(rng.choices(words, k=8)) + "." for _ in range(400)))
    return path


def last_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_with_mechanisms_is_trained_saved_and_writes(
    cllm_command: Command, home: Path, text: Path
) -> None:
    items = ["--with", "ngram.rows=97", "--with", "schumann.kind=static", "--with", "reversal"]
    result = last_json(cllm_command("train", text, "--name", "mine", "--steps", 6, *items, *QUICK))
    folder = home / "models" / "mine"
    config = json.loads((folder / "config.json").read_text())
    # Reversal has been folded; the others stay, so no other program may take it for Qwen3.
    assert [part["name"] for part in config["mechanisms"]] == ["ngram", "schumann"]
    assert config["model_type"] == "cllm"
    assert "opens only in CLLM" in (folder / "README.md").read_text()
    model = load_model(folder)
    assert model.get_parameter("mechanisms.ngram.table").abs().max() > 0
    one = last_json(
        cllm_command("generate", "mine", "--prompt", "The", "--max-tokens", 8, "--json")
    )
    two = last_json(
        cllm_command("generate", "mine", "--prompt", "The", "--max-tokens", 8, "--json")
    )
    assert one["text"] == two["text"]
    measured = last_json(cllm_command("eval", "mine", text, "--json"))
    assert measured["bits_per_byte"] == pytest.approx(result["val_bits_per_byte"], rel=0.5)
    more = last_json(
        cllm_command("train", text, "--name", "more", "--from", "mine", "--steps", 3, *QUICK[4:])
    )
    assert more["num_parameters"] == sum(p.numel() for p in model.parameters())


def test_what_folds_opens_in_transformers(cllm_command: Command, home: Path, text: Path) -> None:
    items = [
        x for name in ("reversal", "golden", "coordinates", "einstein") for x in ("--with", name)
    ]
    last_json(cllm_command("train", text, "--name", "open", "--steps", 6, *items, *QUICK))
    folder = home / "models" / "open"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    ids = torch.arange(1, 25)[None]
    with torch.no_grad():
        assert (load_model(folder)(ids) - theirs(ids).logits).abs().max() < 1e-4


def test_roots_are_made_from_the_text_and_kept_with_the_model(
    cllm_command: Command, home: Path, text: Path
) -> None:
    items = ["--tokenizer", "words", "--with", "resonance.terms=root"]
    last_json(cllm_command("train", text, "--name", "rooted", "--steps", 3, *items, *QUICK))
    assert (home / "models" / "rooted" / "lexicon.safetensors").exists()
    done = cllm_command("generate", "rooted", "--prompt", "stone", "--max-tokens", 4, "--json")
    assert last_json(done)


def test_none_is_plain_and_a_plan_names_what_is_on(cllm_command: Command, text: Path) -> None:
    plain = last_json(cllm_command("train", text, "--plan", "--with", "none", *QUICK))
    assert plain["mechanisms"] == [] and plain["opens_elsewhere"]
    done = cllm_command("train", text, "--plan", "--with", "crystal", *QUICK)
    plan = last_json(done)
    assert plan["mechanisms"] and not plan["opens_elsewhere"]
    shown = cllm_command("train", text, "--plan", "--with", "crystal", *QUICK[:-1]).stdout
    assert "opens only in CLLM" in " ".join(shown.split())
    assert "of tables" in " ".join(shown.split()) or "ngram" not in plan["mechanisms"]


def test_a_continued_model_takes_what_acts_on_training_alone(
    cllm_command: Command, home: Path, text: Path
) -> None:
    last_json(cllm_command("train", text, "--name", "first", "--steps", 3, *QUICK))
    more = ["train", text, "--name", "more", "--from", "first", "--steps", 3, *QUICK[4:]]
    done = cllm_command(*more, "--with", "gamma")
    assert done.returncode == 2
    assert "--with" in done.stderr and "gamma" in done.stderr
    last_json(cllm_command(*more, "--with", "einstein"))
    config = json.loads((home / "models" / "more" / "config.json").read_text())
    assert config["model_type"] == "qwen3"


def test_the_roots_of_a_training_are_kept_and_shown(
    cllm_command: Command, home: Path, text: Path
) -> None:
    items = ["--tokenizer", "words", "--with", "roots"]
    last_json(cllm_command("train", text, "--name", "kin", "--steps", 3, *items, *QUICK))
    shown = last_json(cllm_command("roots", "show", "kin", "singing", "--json"))
    assert shown["is_stored"]
    assert shown["root_prime"] in shown["code"]
    assert (home / "models" / "kin" / "roots.safetensors").exists()


def test_a_corpus_without_words_is_refused_before_it_is_counted(
    cllm_command: Command, text: Path
) -> None:
    last_json(cllm_command("corpora", "add", "bytes", text, "--tokenizer", "bytes", "--json"))
    done = cllm_command("train", "bytes", "--steps", 2, "--with", "roots")
    assert done.returncode == 2
    assert "roots" in done.stderr and "bytes" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--with", "ngrm"], ["Did you mean 'ngram'"]),
        (["--with", "golden", "--with", "plimpton"], ["golden", "plimpton", "together"]),
        (["--with", "roots", "--tokenizer", "bytes"], ["roots", "bytes", "--tokenizer"]),
        (["--with", "ngram.orders=1"], ["ngram.orders"]),
        (["--with", "ngram.rows=134217728", "--with", "ngram.heads=16"], ["memory", "ngram.rows"]),
        (["--with", "roots", "--train.engine", "compiled"], ["train.engine", "roots"]),
    ],
)
def test_bad_choices_are_refused_before_any_work(
    cllm_command: Command, home: Path, text: Path, arguments: list[str], words: list[str]
) -> None:
    done = cllm_command("train", text, "--name", "x", "--steps", 2, *arguments, *QUICK)
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr
    assert not list((home / "models").glob("*")) and not list((home / "runs").glob("*"))


def test_the_list_and_the_explanations(cllm_command: Command) -> None:
    listed = last_json(cllm_command("mechanisms", "list", "--json"))
    assert [entry["name"] for entry in listed["mechanisms"]] == [
        record["name"] for record in catalogue_records()
    ]
    shown = cllm_command("mechanisms", "show", "ngram").stdout
    assert "mod P" in shown and "--with ngram.rows" in shown
    done = cllm_command("mechanisms", "show", "nrgam")
    assert done.returncode == 2 and "ngram" in done.stderr
    assert "schumann" in cllm_command("mechanisms").stdout
