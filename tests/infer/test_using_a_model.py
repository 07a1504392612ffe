"""generate, chat and eval with models that were really trained, a few steps long."""

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cllm.cli.main import run
from cllm.config import GenerateSettings
from cllm.errors import ExistsError
from cllm.jobs.chat import Chat
from cllm.model import load_model
from cllm.text.tokenizers import Tokenizer
from cllm.workspace.workspace import Workspace

COMMAND = Path(sys.executable).with_name("cllm")
CONTEXT = 32
WORDS = ["river", "ran", "past", "the", "old", "mill", "under", "bridge", "quiet", "sea"]


def questions(count, seed=1):
    rng = random.Random(seed)
    pairs = [(rng.randrange(50), rng.randrange(50)) for _ in range(count)]
    return "".join(f"Q: What is {a} and {b}?\nA: It is {a + b}.\n\n" for a, b in pairs)


def prose(count, seed=2):
    rng = random.Random(seed)
    sentences = (" ".join(rng.choices(WORDS, k=rng.randint(4, 9))) for _ in range(count))
    return "\n".join(f"{sentence}." for sentence in sentences)


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory):
    """A home with the models "talker" (of questions and answers) and "writer" (whole words)."""
    home = tmp_path_factory.mktemp("home")
    text = tmp_path_factory.mktemp("text")
    (text / "talker.txt").write_text(questions(600))
    (text / "writer.txt").write_text(prose(600))
    shape = f"--preset tiny --context {CONTEXT} --train.precision float32 --json"
    steps = "--train.batch-size 16 --train.learning-rate 3e-3 --train.sample-tokens 4 --steps"
    flags = {"talker": f"{steps} 150 --tokenizer bpe", "writer": f"{steps} 20 --tokenizer words"}
    made = [
        subprocess.Popen(
            [COMMAND, "train", text / f"{name}.txt", "--name", name, *f"{shape} {more}".split()],
            env={**os.environ, "CLLM_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, more in flags.items()
    ]
    for process in made:
        shown, _ = process.communicate(timeout=300)
        assert process.returncode == 0, shown
    return home


@pytest.fixture
def cllm(trained_home, monkeypatch, capfd):
    """Run a command line in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("CLLM_HOME", str(trained_home))

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def test_generate_keeps_its_contract(cllm):
    code, out, _ = cllm("generate", "talker", "--prompt", "Q: What", "--max-tokens", 12, "--json")
    result = last_json(out)
    assert code == 0
    assert out.count("\n") == 1
    assert 0 < result["tokens"] <= 12
    assert result["tokens_per_s"] > 0
    assert result["seconds_to_first_token"] > 0
    assert not result["text"].startswith("Q: What")
    assert result["windowed"] is False


def test_generate_streams_the_same_text(cllm):
    arguments = ("generate", "talker", "--prompt", "Q:", "--max-tokens", 20, "--seed", 3)
    _, shown, err = cllm(*arguments)
    _, out, _ = cllm(*arguments, "--json")
    assert shown == last_json(out)["text"] + "\n"
    assert err == ""


def test_the_same_seed_gives_the_same_text(cllm):
    def text(seed):
        _, out, _ = cllm("generate", "writer", "--max-tokens", 40, "--seed", seed, "--json")
        return last_json(out)["text"]

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_several_samples_differ_and_the_first_stays(cllm):
    arguments = ("generate", "writer", "--max-tokens", 30, "--json")
    single = last_json(cllm(*arguments)[1])
    several = last_json(cllm(*arguments, "-n", 3)[1])
    texts = [sample["text"] for sample in several["samples"]]
    assert texts[0] == several["text"] == single["text"]
    assert len(set(texts)) == 3
    assert "samples" not in single


def test_generate_goes_on_beyond_the_context(cllm):
    _, out, _ = cllm("generate", "writer", "--max-tokens", 4 * CONTEXT, "--json", "--seed", 2)
    result = last_json(out)
    assert result["tokens"] == 4 * CONTEXT or result["finish"] == "end of text"


def test_a_stop_string_ends_the_text(cllm):
    arguments = ("generate", "talker", "--prompt", "Q: What is 3 and 4?\nA:", "--json")
    whole = last_json(cllm(*arguments, "--max-tokens", 60)[1])["text"]
    stop = whole[5:8]
    stopped = last_json(cllm(*arguments, "--max-tokens", 60, "--stop", stop)[1])
    assert stopped["text"] == whole[: whole.find(stop)]
    assert stopped["finish"] == "stop string"


def test_a_prompt_comes_from_a_file(cllm, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text("Q: What is 1 and 2?\nA:")
    arguments = ("generate", "talker", "--temperature", 0, "--max-tokens", 8, "--json")
    from_file = last_json(cllm(*arguments, "--prompt-file", path)[1])
    assert from_file["text"] == last_json(cllm(*arguments, "--prompt", path.read_text())[1])["text"]
    code, _, err = cllm(*arguments, "--prompt-file", tmp_path / "none.txt")
    assert (code, "none.txt" in err) == (2, True)
    path.write_bytes(b"\xff\xfe\x00")
    code, _, err = cllm(*arguments, "--prompt-file", path)
    assert (code, "not UTF-8" in err) == (2, True)


def test_a_prompt_longer_than_the_context_is_windowed_and_said(cllm):
    prompt = prose(40)
    code, out, err = cllm("generate", "writer", "--prompt", prompt, "--max-tokens", 3, "--json")
    assert code == 0
    assert last_json(out)["windowed"] is True
    assert "the model sees 32 at once" in err


def test_unknown_words_of_a_prompt_are_named(cllm):
    _, out, err = cllm("generate", "writer", "--prompt", "the xylophone ran", "--json")
    assert last_json(out)["unknown"] == ["xylophone"]
    assert "'xylophone'" in err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("nobody",), "nobody"),
        (("talker", "--temperature", "-1"), "--temperature"),
        (("talker", "--top-p", "1.5"), "--top-p"),
        (("talker", "--stop", ""), "empty stop string"),
        (("talker", "-n", "0"), "-n"),
        (("talker", "--logit-bias", "the"), "--logit-bias"),
        (("talker", "--typical-p", "0"), "--typical-p"),
        (("talker", "--threads", "0"), "--threads"),
        (("talker", "--logprobs", "-1"), "--logprobs"),
        (("talker", "--beams", "0"), "--beams"),
        (("talker", "--beams", "4", "--beam-groups", "3"), "--beam-groups"),
        (("talker", "--beams", "4", "-n", "2"), "-n"),
        (("talker", "--beams", "4", "--stop", "a"), "--stop"),
        (("talker", "--regex", "[a-"), "--regex"),
        (("talker", "--regex", "a", "--grammar", __file__), "not both"),
        (("talker", "--grammar", "nowhere.lark"), "nowhere.lark"),
        (("writer", "--regex", "%%"), "no token"),
        (("talker", "--prompt", "a", "--prompt-file", "b"), "not both"),
    ],
)
def test_what_can_not_be_done_is_said(cllm, flags, told):
    code, _, err = cllm("generate", *flags)
    assert code == 2
    assert told in err
    assert "Traceback" not in err


def test_a_schema_is_obeyed(cllm, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(
        '{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}'
    )
    for seed in range(3):
        arguments = ("--json-schema", schema, "--max-tokens", 200, "--seed", seed, "--json")
        result = last_json(cllm("generate", "talker", *arguments)[1])
        if result["finish"] != "length":
            assert isinstance(json.loads(result["text"])["a"], bool)


def test_a_form_that_is_cut_is_said(cllm):
    code, out, err = cllm(
        "generate", "talker", "--regex", "[a-z]{300}", "--max-tokens", 10, "--json"
    )
    result = last_json(out)
    assert (code, result["finish"]) == (0, "length")
    assert re.fullmatch("[a-z]+", result["text"])
    assert "cut at 10 tokens" in err


def test_log_probabilities_come_with_json(cllm):
    arguments = ("--temperature", 0, "--max-tokens", 6, "--logprobs", 2, "--json")
    result = last_json(cllm("generate", "talker", "--prompt", "Q: What", *arguments)[1])
    assert "".join(token["token"] for token in result["logprobs"]) == result["text"]
    for token in result["logprobs"]:
        # What is taken at temperature 0 is the likeliest.
        assert token["top"][0]["id"] == token["id"]
        assert token["top"][0]["logprob"] == pytest.approx(token["logprob"], abs=1e-6)
        assert token["logprob"] >= token["top"][1]["logprob"]


def test_beams_find_at_least_what_greedy_finds(cllm):
    arguments = ("generate", "talker", "--prompt", "Q: What", "--max-tokens", 10)
    code, out, _ = cllm(*arguments, "--beams", 4, "--length-penalty", 0, "--json")
    found = last_json(out)
    assert code == 0
    assert found["text"] == found["samples"][0]["text"]
    greedy = last_json(cllm(*arguments, "--temperature", 0, "--logprobs", 0, "--json")[1])
    total = sum(token["logprob"] for token in greedy["logprobs"])
    assert found["samples"][0]["log_probability"] >= total - 1e-3
    assert all(
        node["parent"] is None or node["parent"] < at for at, node in enumerate(found["nodes"])
    )
    assert cllm(*arguments, "--beams", 4, "--length-penalty", 0)[1] == found["text"] + "\n"


def test_a_damaged_model_names_the_file(cllm, trained_home):
    models = trained_home / "models"
    shutil.copytree(models / "writer", models / "broken")
    with (models / "broken" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    code, _, err = cllm("generate", "broken")
    shutil.rmtree(models / "broken")
    assert code == 2
    assert "model.safetensors" in err
    assert "checksum" in err


def test_chat_takes_turns_through_a_pipe(trained_home, tmp_path):
    saved = tmp_path / "talk.txt"
    lines = [
        "What is 4 and 5?",
        "/set temperature 0",
        "/set temprature 1",
        "/dance",
        "What is 1 and 1?",
        f"/save {saved}",
        f"/save {tmp_path}",
        "/quit",
        "never said",
    ]
    done = subprocess.run(
        [COMMAND, "chat", "talker", "--max-tokens", "30", "--json"],
        input="\n".join(lines),
        env={**os.environ, "CLLM_HOME": str(trained_home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    talk = last_json(done.stdout)
    assert talk["is_dialogue"] is True
    assert (talk["user"], talk["assistant"]) == ("Q", "A")
    said = [message["content"] for message in talk["messages"] if message["role"] == "user"]
    assert said == ["What is 4 and 5?", "What is 1 and 1?"]
    replies = [message["content"] for message in talk["messages"] if message["role"] == "assistant"]
    # It has learnt the form: one line, and no next question.
    assert not any("\n" in reply for reply in replies)
    assert replies[1].startswith("It is ")
    assert talk["settings"]["temperature"] == 0
    assert "Did you mean 'temperature'?" in done.stderr
    assert "no command /dance" in done.stderr
    assert "that is a folder" in done.stderr
    assert saved.read_text() == talk["text"]
    assert talk["text"].startswith(f"Q: What is 4 and 5?\nA: {replies[0]}\n\nQ: ")


def open_chat(home, model, **settings):
    notices = []
    talk = Chat(
        model,
        GenerateSettings(**settings),
        workspace=Workspace(home),
        on_notice=notices.append,
    )
    return talk, notices


def test_old_turns_drop_out_and_it_is_said_once(trained_home):
    talk, notices = open_chat(trained_home, "talker", max_tokens=8)
    for number in range(8):
        "".join(talk.say(f"What is {number} and {number}?"))
    assert len([notice for notice in notices if "oldest turns drop out" in notice]) == 1
    assert len(talk.messages) == 16
    talk.reset()
    assert talk.messages == []


def test_a_reply_that_is_given_up_stays_as_far_as_it_came(trained_home):
    talk, _ = open_chat(trained_home, "talker", temperature=0)
    reply = talk.say("What is 2 and 2?")
    first = next(reply)
    reply.close()
    assert [message["role"] for message in talk.messages] == ["user", "assistant"]
    assert talk.messages[1]["content"] == first.strip()


def test_without_dialogue_chat_goes_on_with_the_text(trained_home):
    talk, notices = open_chat(trained_home, "writer", max_tokens=5)
    first = "".join(talk.say("the river"))
    assert talk.text == "the river" + first
    second = "".join(talk.say("ran"))
    assert talk.text == "the river" + first + "\nran" + second
    # An empty line lets the model go on alone.
    third = "".join(talk.say(""))
    assert talk.text.endswith(second + third)
    assert not talk.transcript()["is_dialogue"]
    for _ in range(8):
        "".join(talk.say(""))
    assert len([notice for notice in notices if "32 tokens at once" in notice]) == 1


def test_a_conversation_is_saved_but_nothing_is_overwritten(trained_home, tmp_path):
    talk, _ = open_chat(trained_home, "talker", max_tokens=5)
    "".join(talk.say("What is 2 and 2?"))
    path = tmp_path / "talk.json"
    talk.save(path)
    talk.save(path)
    assert json.loads(path.read_text()) == json.loads(json.dumps(talk.transcript()))
    theirs = tmp_path / "theirs.txt"
    theirs.write_text("precious")
    with pytest.raises(ExistsError, match="already"):
        talk.save(theirs)
    assert theirs.read_text() == "precious"


def by_hand(home, model, text, stride):
    """Summed nats and scored tokens, each target alone from its own window."""
    folder = home / "models" / model
    transformer, tokenizer = load_model(folder), Tokenizer.load(folder)
    ids = [tokenizer.eos_id, *tokenizer.encode(text).tolist()]
    nats, count, done, start = 0.0, 0, 0, 0
    while done < len(ids) - 1:
        end = min(start + CONTEXT, len(ids) - 1)
        with torch.inference_mode():
            losses = -transformer(torch.tensor([ids[start:end]]))[0].double().log_softmax(-1)
        for target in range(done, end):
            if ids[target + 1] not in (tokenizer.eos_id, tokenizer.unk_id):
                nats += float(losses[target - start, ids[target + 1]])
                count += 1
        done, start = end, start + stride
    return nats, count, tokenizer.unknown_bytes(text)


@pytest.mark.parametrize("stride", [None, 5, 32])
def test_eval_scores_each_byte_once(cllm, trained_home, tmp_path, stride):
    text = questions(20, seed=9)
    path = tmp_path / "held-out.txt"
    path.write_text(text)
    flags = () if stride is None else ("--stride", stride)
    code, out, _ = cllm("eval", "talker", path, *flags, "--json")
    found = last_json(out)
    nats, count, _ = by_hand(trained_home, "talker", text, stride or CONTEXT // 2)
    assert code == 0
    assert found["tokens"] == count
    assert found["bytes"] == path.stat().st_size
    assert found["nats_per_token"] == pytest.approx(nats / count, rel=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-3)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text), rel=1e-4)


def test_unknown_words_and_removed_bytes_cost_eight_bits_each(cllm, trained_home, tmp_path):
    text = "the river ran past xylophones\nunder the old bridge.\n"
    path = tmp_path / "held-out.txt"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    found = last_json(cllm("eval", "writer", path, "--json")[1])
    nats, _, unknown = by_hand(trained_home, "writer", text, CONTEXT // 2)
    assert unknown == len("xylophones")
    assert found["charged_bytes"] == unknown + 2
    assert found["bytes"] == path.stat().st_size
    bits = nats / math.log(2) + 8 * (unknown + 2)
    assert found["bits_per_byte"] == pytest.approx(bits / path.stat().st_size, rel=1e-4)


def test_eval_tells_of_each_source(cllm, tmp_path):
    (tmp_path / "a.txt").write_text(questions(5, seed=3))
    (tmp_path / "b.txt").write_text(prose(5, seed=3))
    (tmp_path / "c.bin").write_bytes(bytes(range(256)) * 20)
    code, out, _ = cllm("eval", "talker", tmp_path, "--json")
    found = last_json(out)
    assert code == 0
    assert [score["source"].rpartition("/")[2] for score in found["sources"]] == ["a.txt", "b.txt"]
    assert sum(score["bytes"] for score in found["sources"]) == found["bytes"]
    assert sum(score["tokens"] for score in found["sources"]) == found["tokens"]
    assert found["sources"][0]["bits_per_byte"] < found["sources"][1]["bits_per_byte"]
    assert len(found["skipped"]) == 1
    _, shown, _ = cllm("eval", "talker", tmp_path)
    assert "a.txt" in shown
    assert "left out" in shown


def test_eval_refuses_what_it_can_not_measure(cllm, tmp_path):
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "some.txt").write_text(prose(3))
    for arguments, told in (
        ((tmp_path / "binary",), "nothing to measure"),
        ((tmp_path / "none.txt",), "none.txt"),
        ((), "say what to measure on"),
        ((tmp_path / "some.txt", "--stride", 0), "--stride"),
        ((tmp_path / "some.txt", "--stride", 33), "--stride"),
    ):
        code, _, err = cllm("eval", "talker", *arguments)
        assert code == 2
        assert told in err


def test_memorisation_sees_a_leak(cllm, trained_home, tmp_path):
    training = json.loads((trained_home / "models" / "writer" / "training.json").read_text())
    leaked = (Path(training["corpus"]) / "text.utf8").read_bytes()[:600].decode()
    (tmp_path / "leaked.txt").write_text(leaked)
    (tmp_path / "new.txt").write_text("Wholly other words stand here, unlike those. " * 5)
    code, out, _ = cllm("eval", "writer", tmp_path, "--memorisation", "--json")
    found = last_json(out)["memorisation"]
    assert code == 0
    shares = {text["name"].rpartition("/")[2]: text["share"] for text in found["sources"]}
    assert shares["leaked.txt"] > 0.5
    assert shares["new.txt"] == 0.0
    assert len(found["samples"]) >= 3
    assert 0 <= found["share"] <= 1


def test_memorisation_without_the_corpus_is_refused(cllm, trained_home, tmp_path):
    training = json.loads((trained_home / "models" / "writer" / "training.json").read_text())
    corpus = Path(training["corpus"])
    (tmp_path / "some.txt").write_text(prose(3))
    corpus.rename(corpus.with_name("away"))
    code, _, err = cllm("eval", "writer", tmp_path / "some.txt", "--memorisation")
    corpus.with_name("away").rename(corpus)
    assert code == 2
    assert "is gone" in err
