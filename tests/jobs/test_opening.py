"""A model opened for writing: compiled where it can be, with torch where not, the same text."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.random_models import random_weights

import cllm
from cllm.config import GenerateSettings
from cllm.errors import IntegrityError, SettingsError
from cllm.infer.beam import BeamSettings
from cllm.infer.passage import Passage
from cllm.infer.torch_decoder import TorchDecoder
from cllm.jobs.beam import find_beams_open
from cllm.jobs.generate import Wanted, generate, in_order
from cllm.jobs.opening import Decoding, OpenModel, open_model
from cllm.model import ModelSpec, save_model
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace

TEXT = "The river ran past the old mill, and the mill stood still beside the river.\n" * 20
SPEC = ModelSpec(
    vocab_size=0,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=8,
    mlp_width=64,
    context=48,
)
MECHANISMS = {"plain": (), "compiled": ("gamma", "dampening"), "uncompiled": ("cymatic",)}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A home with models of random weights: plain, and with mechanisms."""
    tokenizer = train_tokenizer(
        "bpe", lambda: iter([TEXT]), vocab_size=290, num_characters=len(TEXT), progress=None
    )
    made = Workspace(tmp_path_factory.mktemp("home"))
    sizes = {name: getattr(SPEC, name) for name in SPEC.__slots__}
    for name, mechanisms in MECHANISMS.items():
        plain = ModelSpec(**{**sizes, "vocab_size": tokenizer.vocab_size})
        spec = with_mechanisms(plain, choose(mechanisms or ("none",)), None)
        with made.models.write(name) as folder:
            save_model(folder, spec, random_weights(spec))
            tokenizer.save(folder, context=spec.context)
    return made


def write(workspace, name, **settings):
    # It never ends: a short text would say little.
    endless = {"max_tokens": 100, "logit_bias": ("#0=-inf",)}
    chosen = GenerateSettings(**(endless | settings))
    return generate(name, "The river", chosen, workspace=workspace)


@pytest.mark.parametrize("name", ["plain", "compiled"])
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"seed": 4}, {"typical_p": 0.9}])
def test_without_compiled_code_the_text_is_the_same(workspace, monkeypatch, name, settings):
    ours = write(workspace, name, **settings)
    monkeypatch.setenv("CLLM_NATIVE", "off")
    theirs = write(workspace, name, **settings)
    assert ours.text == theirs.text
    assert ours.tokens == theirs.tokens == 100


def test_one_line_says_why_it_is_slower(workspace, monkeypatch):
    assert open_model(workspace.models.path("plain"), workspace.home).notice is None
    opened = open_model(workspace.models.path("uncompiled"), workspace.home)
    assert isinstance(opened.decoder, TorchDecoder)
    assert "cymatic" in opened.notice and "\n" not in opened.notice
    monkeypatch.setenv("CLLM_NATIVE", "off")
    assert "CLLM_NATIVE=off" in open_model(workspace.models.path("plain"), workspace.home).notice


@pytest.mark.parametrize(
    "decoding", [Decoding(threads=2), Decoding(speculate="off"), Decoding(speculate="on")]
)
def test_threads_and_guesses_change_no_text(workspace, decoding):
    chosen = GenerateSettings(max_tokens=120, seed=7)
    texts = {
        generate("plain", "The old mill", chosen, workspace=workspace, decoding=how).text
        for how in (decoding, Decoding())
    }
    assert len(texts) == 1


@pytest.mark.parametrize("cache", ["bfloat16", "int8"])
def test_a_smaller_cache_writes_too(workspace, cache):
    chosen = GenerateSettings(max_tokens=120, temperature=0, logit_bias=("#0=-inf",))
    decoding = Decoding(cache=cache)
    result = generate("plain", "The old mill", chosen, workspace=workspace, decoding=decoding)
    assert result.tokens == 120


def test_no_threads_are_refused():
    with pytest.raises(SettingsError) as caught:
        Decoding(threads=0)
    assert caught.value.where == "--threads"


def test_several_samples_are_those_that_come_alone(workspace):
    chosen = GenerateSettings(max_tokens=60, seed=2, logit_bias=("#0=-inf",))
    pieces = []
    several = generate(
        "plain",
        "The river",
        chosen,
        workspace=workspace,
        wanted=Wanted(num_samples=40),
        on_text=lambda number, piece: pieces.append((number, piece)),
    )
    assert several.samples[0].text == write(workspace, "plain", max_tokens=60, seed=2).text
    # One after another, though they are written together.
    numbers = [number for number, _ in pieces]
    assert numbers == sorted(numbers)
    for number, sample in enumerate(several.samples):
        assert sample.text == "".join(piece for at, piece in pieces if at == number)
    assert len({sample.text for sample in several.samples}) > 30


def test_pieces_come_in_the_order_of_the_texts():
    texts = [Passage.__new__(Passage) for _ in range(3)]
    for text in texts:
        text.finish = None

    def pieces():
        yield 0, "a"
        yield 1, "x"
        texts[1].finish = "length"
        yield 0, "b"
        texts[0].finish = "length"
        yield 2, "p"
        yield 2, "q"
        texts[2].finish = "length"

    assert list(in_order(pieces(), texts)) == [
        (0, "a"),
        (0, "b"),
        (1, "x"),
        (2, "p"),
        (2, "q"),
    ]


def test_a_damaged_file_is_named(workspace):
    folder = workspace.models.path("plain")
    path = folder / "model.safetensors"
    was = path.read_bytes()
    path.write_bytes(was[:-1] + bytes([was[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="checksum"):
        open_model(folder, workspace.home)
    path.write_bytes(was)


def test_a_home_that_can_not_be_written_to_still_opens_models(workspace, tmp_path):
    home = tmp_path / "file"
    home.write_text("no folder")
    opened = open_model(workspace.models.path("plain"), home)
    assert opened.notice is None


SHOW = """
import json, sys
from pathlib import Path
from cllm.cli.main import run
assert run(["generate", "plain", "--prompt", "The river", "--max-tokens", "20", "--json"]) == 0
[peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
print("\\n" + json.dumps([sorted(sys.modules), int(peak.split()[1]) * 1024]))
"""


def test_a_plain_model_writes_without_torch_in_little_memory(workspace):
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env={**os.environ, "CLLM_HOME": str(workspace.home)},
        capture_output=True,
        text=True,
        check=True,
    )
    names, peak_bytes = json.loads(done.stdout.splitlines()[-1])
    roots = {name.partition(".")[0] for name in names}
    assert "tokenizers" in roots
    assert roots & {"torch", "numba", "matplotlib", "transformers", "llguidance", "scipy"} == set()
    assert peak_bytes < 220e6


@pytest.fixture
def model(workspace):
    return cllm.load("plain", home=workspace.home)


def test_python_gets_texts_pieces_and_scores(model):
    text = model.generate("The river", max_tokens=30, seed=1)
    assert "".join(model.stream("The river", max_tokens=30, seed=1)) == text
    done = model.complete("The river", logprobs=3, max_tokens=30, seed=1).run()
    assert done.text == text
    assert len(done.scores) == len(done.ids)
    for score in done.scores:
        likeliest = [value for _, _, value in score.alternatives]
        assert len(likeliest) == 3
        assert likeliest == sorted(likeliest, reverse=True)
        assert score.log_probability <= likeliest[0] + 1e-6


def test_a_batch_from_python_is_the_same_as_one_by_one(model):
    prompts = ["The river", "The old mill", "", "The river ran"]
    settings = {"max_tokens": 40, "seed": 3}
    assert model.batch(prompts, **settings) == [model.generate(p, **settings) for p in prompts]
    assert model.batch([]) == []


def test_beams_from_python(model):
    found = model.beam("The river", beams=4, max_tokens=12)
    assert found.text == found.samples[0].text
    assert len(found.samples) == 4
    assert found.samples[0].score >= found.samples[-1].score
    [greedy] = model.beam("The river", beams=1, max_tokens=12).samples
    assert greedy.text == model.generate("The river", temperature=0, max_tokens=12)
    # The likeliest of several is at least as likely as the greedy text.
    plain = model.beam("The river", beams=8, max_tokens=12, length_penalty=0.0)
    assert plain.samples[0].log_probability >= greedy.log_probability - 1e-4
    # And texts afterwards are as before.
    assert model.generate("The river", max_tokens=9) == model.generate("The river", max_tokens=9)


def test_a_bias_from_python_is_by_text_or_id(model):
    rare = model.complete("The river", max_tokens=5, logit_bias={5: 90.0}).run()
    assert rare.ids == [5] * 5
    text = model.generate("The river", max_tokens=4, logit_bias={"s": 90.0, 5: float("-inf")})
    assert text == "ssss"


def test_an_unknown_setting_is_named(model):
    with pytest.raises(SettingsError, match="temprature"):
        model.complete("The", temprature=1)


def test_several_threads_may_use_one_model(workspace):
    """What each gets is what it gets alone; the compiled parts take one thread at a time."""
    model = cllm.load("plain", home=workspace.home)
    expected = (
        model.bits_per_byte(TEXT),
        model.inspect(TEXT[:120]).bits.tolist(),
        model.generate(TEXT[:20]),
    )

    def ask(number):
        match number % 3:
            case 0:
                return model.bits_per_byte(TEXT)
            case 1:
                return model.inspect(TEXT[:120]).bits.tolist()
        return model.generate(TEXT[:20])

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, range(120)))
    for number, one in enumerate(found):
        assert one == expected[number % 3]


def test_a_model_that_several_threads_want_first_is_opened_once(workspace, monkeypatch):
    opened = []

    def slowly(*arguments, **more):
        opened.append(arguments)
        time.sleep(0.2)
        return open_model(*arguments, **more)

    monkeypatch.setattr("cllm.jobs.generate.open_model", slowly)
    model = cllm.load("plain", home=workspace.home)
    with ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(model.generate, ["The river"] * 4))
    assert len(opened) == 1
    assert len(set(texts)) == 1


def test_searches_in_copies_of_a_model_come_one_after_the_other(workspace, monkeypatch):
    """Where it has too few slots a search reads the model again; two copies are never there."""
    folder = workspace.models.path("plain")
    opened = open_model(folder, workspace.home, num_slots=2)
    num_open, most = 0, 0

    def counted(*arguments, **more):
        nonlocal num_open, most
        own = open_model(*arguments, **more)
        num_open += 1
        most = max(most, num_open)
        time.sleep(0.1)
        return own

    def closed(self):
        nonlocal num_open
        num_open -= 1
        close(self)

    close = OpenModel.close
    monkeypatch.setattr(OpenModel, "close", closed)
    monkeypatch.setattr("cllm.jobs.beam.open_model", counted)

    def search(_):
        settings, beams = GenerateSettings(), BeamSettings(beams=4, max_tokens=4)
        about = {"folder": folder, "home": workspace.home}
        return find_beams_open("plain", opened, "The river", settings, beams, **about)

    with ThreadPoolExecutor(3) as threads:
        assert len(list(threads.map(search, range(3)))) == 3
    assert (num_open, most) == (0, 1)
