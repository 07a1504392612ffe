"""Looking inside a model: what is shown is what `transformers` computes from the same folder."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import transformers

from cllm.errors import InputError, SettingsError
from cllm.files import write_manifest
from cllm.jobs.evaluate import evaluate
from cllm.jobs.inspect import MOST_TOKENS, inspect
from cllm.jobs.inspect_lens import open_head, summarise
from cllm.jobs.opening import open_model
from cllm.model import ModelSpec, Transformer, initial_weights, load_model, save_model
from cllm.model.mechanisms.choose import choose, with_mechanisms
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace

LINES = "\n".join(f"{n} boats left the harbour, and {n // 2} came back." for n in range(200))
SHORT = "She counted 12 boats; naïve, wasn't it?\n"


def make_model(workspace, name, *, kind="bpe", with_=(), **shape):
    """A model with random weights large enough that every part counts."""
    size = 280 if kind == "bpe" else None
    tokenizer = train_tokenizer(
        kind, lambda: iter([LINES]), vocab_size=size, num_characters=len(LINES)
    )
    sizes = {"width": 32, "layers": 3, "heads": 4, "kv_heads": 2, "head_width": 16}
    sizes |= {"mlp_width": 64, "context": 48} | shape
    plain = ModelSpec(vocab_size=tokenizer.vocab_size, **sizes)
    spec = with_mechanisms(plain, choose(with_ or ("none",)), None)
    random = np.random.default_rng(0)
    weights = {
        key: (value + 0.2 * random.standard_normal(value.shape)).astype(np.float32)
        for key, value in initial_weights(spec, 0).items()
    }
    folder = workspace.home / "models" / name
    folder.mkdir(parents=True)
    save_model(folder, spec, weights)
    tokenizer.save(folder, context=spec.context)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("inspect"))
    make_model(workspace, "plain")
    make_model(workspace, "letters", kind="characters", tied=False)
    make_model(workspace, "bytes", kind="bytes")
    return workspace


@pytest.fixture(scope="module")
def short(workspace):
    found, _ = inspect("plain", SHORT, workspace=workspace)
    return found


@pytest.fixture(scope="module")
def peer(workspace, short):
    """What transformers says of the same tokens, attention written out."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        workspace.home / "models/plain", attn_implementation="eager", dtype=torch.float32
    ).eval()
    ids = torch.tensor([[0, *short.ids.tolist()]])
    with torch.inference_mode():
        out = model(ids, output_attentions=True, output_hidden_states=True)
        lens = [model.lm_head(model.model.norm(state)) for state in out.hidden_states[:-1]]
    return out, torch.cat([*lens, out.logits]).numpy()


def test_attention_is_that_of_the_model(short, peer):
    ours, theirs = short.window.attention, torch.cat(peer[0].attentions).numpy()
    assert ours.shape == (3, 4, len(short.ids) + 1, len(short.ids) + 1)
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.abs(ours.sum(axis=-1) - 1).max() < 1e-5
    assert (ours[..., *np.triu_indices(ours.shape[-1], 1)] == 0).all()
    assert np.allclose(short.attention(2, 3), theirs[1, 2], atol=1e-5)
    assert np.allclose(short.attention(2), theirs[1].mean(axis=0), atol=1e-5)
    assert np.allclose(short.attention(head=4), theirs[:, 3].mean(axis=0), atol=1e-5)


def test_hidden_states_and_their_norms_are_those_of_the_model(short, peer):
    # The peer's last one is normalised already.
    theirs = torch.cat(peer[0].hidden_states[:-1]).numpy()
    assert np.abs(short.window.hidden[:-1] - theirs).max() < 1e-4
    rms = np.sqrt((theirs.astype(np.float64) ** 2).mean(axis=-1))
    assert np.allclose(short.window.norms[:-1], rms, rtol=1e-4)


def test_the_lens_is_the_last_norm_and_the_head_on_each_layer(workspace, short, peer):
    folder = workspace.home / "models/plain"
    head = open_head(folder, load_model(folder).spec)
    for hidden, theirs in zip(short.window.hidden, peer[1], strict=True):
        assert np.abs(head(hidden) - theirs).max() < 1e-3
    assert np.abs(head(short.window.hidden[-1]) - short.window.logits).max() < 1e-4
    lens = short.window.lens
    assert (lens.ids[..., 0] == peer[1].argmax(axis=-1)).mean() > 0.97
    shares = torch.from_numpy(peer[1]).softmax(-1).amax(-1).numpy()
    assert np.allclose(lens.probabilities[..., 0], shares, atol=1e-3)
    # The last layer's are the model's own.
    assert (lens.ids[-1] == short.alternative_ids).all()
    assert np.allclose(lens.bits[-1, :-1], short.bits)


def test_the_lens_of_an_untied_head(workspace):
    folder = workspace.home / "models/letters"
    opened = open_model(folder, workspace.home)
    seen = opened.decoder.observe(np.arange(20, dtype=np.int32))
    head = open_head(folder, opened.spec)
    assert np.abs(head(seen.hidden[-1]) - seen.logits).max() < 1e-4


def test_the_lens_of_a_model_whose_mechanism_changes_the_logits(tmp_path):
    workspace = Workspace(tmp_path)
    folder = make_model(workspace, "own", with_=("mobius",))
    opened = open_model(folder, workspace.home)
    assert opened.spec.mechanisms
    seen = opened.decoder.observe(np.arange(20, dtype=np.int32))
    plain = dataclasses.replace(opened.spec, mechanisms=())
    apart = [
        np.abs(open_head(folder, spec)(seen.hidden[-1]) - seen.logits).max()
        for spec in (opened.spec, plain)
    ]
    assert apart[0] < 1e-4 < apart[1]


def test_bits_ranks_and_entropy_are_those_of_the_model(short, peer):
    logits = peer[1][-1].astype(np.float64)
    nats = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    of_text = nats[np.arange(len(short.ids)), short.ids]
    assert np.allclose(short.bits, -of_text / math.log(2), atol=1e-4)
    assert np.allclose(short.probabilities, np.exp(of_text), atol=1e-5)
    entropy = -(np.exp(nats) * nats).sum(axis=1) / math.log(2)
    assert np.allclose(short.entropy, entropy[:-1], atol=1e-4)
    above = (nats[:-1] > of_text[:, None] + 1e-6).sum(axis=1)
    assert (short.ranks == above + 1).all()
    assert len(short.alternative_ids) == len(short.ids) + 1


def test_a_hand_made_distribution():
    # 1/2, 1/4, 1/8, 1/8: entropy 1.75 bits; of equals the lower id comes first.
    logits = np.log(np.array([[0.125, 0.5, 0.125, 0.25]] * 4, np.float32))
    found = summarise(logits, np.array([0, 1, 2, -1], np.int32), 3)
    assert found.bits[:3] == pytest.approx([3, 1, 3])
    assert math.isnan(found.bits[3])
    assert found.entropy == pytest.approx([1.75] * 4)
    assert found.ranks.tolist() == [3, 1, 4, 0]
    assert found.ids[0].tolist() == [1, 3, 0]
    assert found.probabilities[0] == pytest.approx([0.5, 0.25, 0.125])


def test_what_a_distribution_rules_out_counts_as_nothing():
    logits = np.array([[0.0, 0.0, -np.inf]], np.float32)
    found = summarise(logits, np.array([1], np.int32), 5)
    assert found.entropy == pytest.approx([1.0])
    assert found.ids.shape == (1, 3)


@pytest.mark.parametrize("name", ["plain", "letters", "bytes"])
@pytest.mark.parametrize(
    "text",
    [SHORT, LINES[:2000], f"{LINES[:300]}\r\nÜber \x07 ∞ {LINES[:50]}"],
    ids=["short", "windows", "cleaned"],
)
def test_surprise_sums_to_what_eval_says(workspace, tmp_path, name, text):
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    measured = evaluate(name, [path], workspace=workspace).total
    found, _ = inspect(name, text, workspace=workspace)
    assert found.num_bytes == measured.bytes
    assert found.charged_bytes == measured.charged_bytes
    assert found.bits_per_byte == pytest.approx(measured.bits_per_byte, rel=1e-5)
    assert len(found.ids) == len(found.bits) == len(found.tokens)


def test_the_tokens_read_as_the_text(workspace):
    for name in ("plain", "bytes"):
        found, _ = inspect(name, SHORT, workspace=workspace)
        assert "".join(found.tokens).replace("·", "") == SHORT
    # ï is two bytes: the first one completes no character.
    assert found.tokens[SHORT.index("ï")] == "·"
    assert found.spelled(int(found.ids[SHORT.index("ï")])) == "⟨c3⟩"
    assert found.spelled(0) == "⟨end of text⟩"


@pytest.mark.parametrize("window", [1, 2, 5])
def test_any_window_of_a_long_text_can_be_laid_open(workspace, window):
    text = LINES[:1200]
    whole, _ = inspect("plain", text, workspace=workspace)
    found, _ = inspect("plain", text, workspace=workspace, window=window)
    assert found.num_windows == whole.num_windows > 5
    # Whichever is shown, the figures of the text are the same.
    assert np.allclose(found.bits, whole.bits, atol=1e-4)
    assert found.window.first == (window - 1) * 24
    assert len(found.window.inputs) == 48
    read = [0, *whole.ids.tolist()][found.window.first :][:48]
    assert found.window.inputs.tolist() == read


@pytest.mark.parametrize("length", [20, 48, 49, 72, 100])
def test_what_would_come_after_the_text(workspace, length):
    """Whether or not the last window has room for its last token."""
    text = "".join(chr(97 + i % 26) for i in range(length))
    found, _ = inspect("bytes", text, workspace=workspace)
    assert len(found.ids) == length
    model = load_model(workspace.home / "models/bytes")
    seen = [0, *found.ids.tolist()]
    # With room the last window is the one of the text, begun at a multiple of half a context.
    start = found.num_windows * 24 - 24
    last = seen[start:] if length - start < 48 else seen[-48:]
    with torch.inference_mode():
        logits = model(torch.tensor([last]))[0, -1]
    assert found.alternative_ids[-1].tolist() == logits.topk(5).indices.tolist()
    assert found.alternative_probabilities[-1] == pytest.approx(
        logits.softmax(-1).topk(5).values.tolist(), abs=1e-4
    )


def test_numbers_as_plain_values(short):
    value = short.to_json(layer=1, head=2)
    assert value["bits_per_byte"] == pytest.approx(sum(t["bits"] for t in value["tokens"]) / 41)
    assert [token["id"] for token in value["tokens"]] == short.ids.tolist()
    assert len(value["lens"]) == len(value["hidden_norms"]) == 4
    assert value["attention"]["weights"] == short.window.attention[0, 1].tolist()
    assert "attention" not in short.to_json()
    assert len(value["next"]) == 5


@pytest.mark.parametrize(
    ("text", "window", "kind", "message"),
    [
        ("", 1, InputError, "no text"),
        ("\x07\r", 1, None, ""),
        ("\x07", 1, InputError, "no text"),
        (SHORT, 2, SettingsError, "no window 2"),
        (SHORT, 0, SettingsError, "no window 0"),
        ("a" * (MOST_TOKENS + 1), 1, InputError, "50,001 tokens"),
    ],
    ids=["empty", "newline", "controls", "far", "zero", "long"],
)
def test_what_can_not_be_looked_at_is_refused(workspace, text, window, kind, message):
    if kind is None:
        assert inspect("bytes", text, workspace=workspace, window=window)[0].text == "\n"
        return
    with pytest.raises(kind, match=message):
        inspect("bytes", text, workspace=workspace, window=window)


@pytest.mark.parametrize(("layer", "head"), [(0, None), (4, None), (None, 5), (1, -1)])
def test_a_layer_or_head_that_is_not_there_is_refused(short, layer, head):
    with pytest.raises(SettingsError, match="there is no"):
        short.attention(layer, head)


def test_without_a_compiler_it_is_the_same(workspace, short, monkeypatch):
    monkeypatch.setenv("CLLM_NATIVE", "off")
    found, notice = inspect("plain", SHORT, workspace=workspace)
    assert notice is not None
    assert isinstance(open_model(workspace.home / "models/plain", workspace.home).decoder.model,
                      Transformer)  # fmt: skip
    assert np.allclose(found.bits, short.bits, atol=1e-4)
    assert np.abs(found.window.attention - short.window.attention).max() < 1e-5
