"""Every GGUF that we write, opened by llama.cpp: the same tokens, logits and greedy text."""

import unicodedata

import gguf
import numpy as np
import pytest
import torch
from model_folders import SHAPES, make_model
from test_foreign_tokenizers import make_folder

from cllm.export.gguf_reader import read_gguf
from cllm.export.gguf_writer import GGUF_DTYPES, write_gguf
from cllm.export.huggingface_reader import read_huggingface
from cllm.export.opened import Answers, Trials, ask_other
from cllm.export.trials import make_trials
from cllm.model import Transformer, load_model, save_model
from cllm.text.tokenizers import Tokenizer

pytestmark = pytest.mark.long
# Of the largest logit. In f32 both sum in float32; blocks are read by llama.cpp with activations
# rounded to 8 bits.
TOLERANCE = {"f32": 1e-3, "f16": 1e-2, "bf16": 3e-2}


def check(model: Transformer, tokenizer: Tokenizer, trials: Trials, found: Answers) -> float:
    """Compare tokens and greedy texts; the largest difference of logits, as a share."""
    wanted = [ids.tolist() for ids in tokenizer.encode_batch(trials.texts)]
    wrong = [
        (text, ours, theirs)
        for text, ours, theirs in zip(trials.texts, wanted, found.tokens, strict=True)
        if ours != theirs
    ]
    assert len(trials.texts) == 1000
    assert wrong == []
    share = 0.0
    with torch.inference_mode():
        for ids, theirs in zip(trials.sequences, found.logits, strict=True):
            ours = model(torch.tensor([ids]))[0].numpy()
            share = max(share, float(np.abs(ours - theirs).max() / np.abs(ours).max()))
    return share


def greedy(model: Transformer, ids: list[int], count: int) -> list[int]:
    made = list(ids)
    with torch.inference_mode():
        for _ in range(count):
            made.append(int(model(torch.tensor([made]))[0, -1].argmax()))
    return made[len(ids) :]


@pytest.mark.parametrize("kind", ["bpe", "bytes"])
@pytest.mark.parametrize("shape", SHAPES)
def test_llama_cpp_computes_the_same(shape, kind, tmp_path):
    tokenizer = make_model(tmp_path / "model", shape=shape, kind=kind)
    write_gguf(tmp_path / "model", tmp_path / "m.gguf")
    model = load_model(tmp_path / "model")
    trials = make_trials(tokenizer.spellings, context=model.context, eos_id=tokenizer.eos_id)
    found = ask_other("gguf", tmp_path / "m.gguf", trials)
    assert check(model, tokenizer, trials, found) < TOLERANCE["f32"]
    for (ids, count), theirs in zip(trials.prompts, found.greedy, strict=True):
        assert count == 64
        assert theirs == greedy(model, ids, count)


@pytest.mark.parametrize("dtype", GGUF_DTYPES)
def test_llama_cpp_opens_every_number_format(dtype, tmp_path):
    """Against our float32 model with the very numbers that the file holds."""
    tokenizer = make_model(tmp_path / "model", shape="llama")
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", dtype=dtype)
    again = read_gguf(tmp_path / "m.gguf")
    model = Transformer(again.spec).eval()
    model.load_weights(again.read_weights())
    trials = make_trials(tokenizer.spellings, context=model.context, eos_id=0)
    found = ask_other("gguf", tmp_path / "m.gguf", trials)
    assert check(model, tokenizer, trials, found) < TOLERANCE.get(dtype, 0.1)
    kind = gguf.GGUFReader(tmp_path / "m.gguf").get_field("general.file_type").contents()
    names = {"F32": "ALL_F32"}
    wanted = names.get(dtype.upper(), f"MOSTLY_{dtype.upper()}")
    assert gguf.LlamaFileType(kind).name == wanted


@pytest.mark.parametrize("kind", ["llama3", "qwen"])
def test_llama_cpp_splits_text_as_imported_tokenisers_do(kind, tmp_path):
    make_folder(tmp_path / "theirs", kind, num_rows=352)
    found = read_huggingface(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    save_model(tmp_path / "ours", found.spec, found.read_weights())
    found.tokenizer.save(tmp_path / "ours")
    write_gguf(tmp_path / "ours", tmp_path / "m.gguf")
    model = load_model(tmp_path / "ours")
    trials = make_trials(found.tokenizer.spellings, context=128, eos_id=found.tokenizer.eos_id)
    if kind == "qwen":
        # llama.cpp leaves text as it is; Qwen's tokeniser composes characters first.
        texts = [unicodedata.normalize("NFC", text) for text in trials.texts]
        trials = Trials(texts, trials.sequences, trials.prompts)
    answers = ask_other("gguf", tmp_path / "m.gguf", trials)
    assert check(model, found.tokenizer, trials, answers) < TOLERANCE["f32"]
