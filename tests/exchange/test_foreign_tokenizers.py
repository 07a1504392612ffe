"""Tokenisers as Llama 3, Qwen and Llama 2 have them, small; transformers is the measure."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import transformers
from model_folders import TEXT, make_spec, make_weights
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as cuts

from cllm.errors import InputError, IntegrityError
from cllm.export.gguf_reader import read_gguf
from cllm.export.gguf_writer import write_gguf
from cllm.export.huggingface_reader import read_huggingface
from cllm.files import read_json, write_json
from cllm.model import save_model
from cllm.text.tokenizers import Tokenizer as OurTokenizer

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}"
QWEN = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}"
TEXTS = [
    "",
    "The quick fox",
    " don't  DON'T\n\n\n  12345 x_1==2\t",
    "日本語 naïve façade e\u0301 \U0001f600\r\n",
    "<|im_start|>user<|eot_id|></s>",
    "the the  th",
    "\x00\x7f\xa0\u3000",
]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "<|eot_id|>{% endfor %}"
)


def byte_level(pattern: str, specials: list[str], *, ignores_merges: bool, nfc: bool) -> Tokenizer:
    backend = Tokenizer(models.BPE(ignore_merges=ignores_merges))
    backend.pre_tokenizer = cuts.Sequence(
        [cuts.Split(Regex(pattern), "isolated"), cuts.ByteLevel(False, use_regex=False)]
    )
    alphabet = cuts.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([TEXT], trainer)
    backend.decoder = decoders.ByteLevel()
    if nfc:
        backend.normalizer = normalizers.NFC()
    backend.add_special_tokens([AddedToken(name, special=True) for name in specials])
    return backend


def llama3() -> Tokenizer:
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|user|>", "<|assistant|>"]
    backend = byte_level(LLAMA3, specials, ignores_merges=True, nfc=False)
    begin = ("<|begin_of_text|>", backend.token_to_id("<|begin_of_text|>"))
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="$A $B", special_tokens=[begin]
    )
    backend.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), template]
    )
    return backend


def qwen() -> Tokenizer:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return byte_level(QWEN, specials, ignores_merges=False, nfc=True)


def llama2() -> Tokenizer:
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = ["▁", "t", "h", "e", "q", "th", "the", "▁the"]
    vocabulary = {token: number for number, token in enumerate([*names, *pieces])}
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1),
        ]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="$A $B", special_tokens=[("<s>", 1)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return backend


KINDS = {
    "llama3": (llama3, "llama", "<|begin_of_text|>", "<|end_of_text|>"),
    "qwen": (qwen, "qwen3", None, "<|endoftext|>"),
    "llama2": (llama2, "llama", "<s>", "</s>"),
}


def make_folder(folder: Path, kind: str, *, num_rows: int | None = None) -> Tokenizer:
    """A folder with such a tokeniser; the model may have more rows than it has tokens."""
    make, shape, bos, eos = KINDS[kind]
    backend = make()
    size = num_rows or backend.get_vocab_size()
    folder.mkdir()
    spec = make_spec(size, shape)
    save_model(folder, spec, make_weights(spec))
    backend.save(str(folder / "tokenizer.json"))
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"eos_token_id": backend.token_to_id(eos)})
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "bos_token": bos}
    write_json(folder / "tokenizer_config.json", words)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return backend


@pytest.mark.parametrize("kind", KINDS)
def test_texts_become_the_tokens_that_the_file_asks_for(kind, tmp_path):
    backend = make_folder(tmp_path / "theirs", kind)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    found = read_huggingface(tmp_path / "theirs")
    ours = found.tokenizer
    assert ours.kind == "foreign"
    assert ours.eos_id == found.spec.eos_id == backend.token_to_id(KINDS[kind][3])
    for text in TEXTS:
        wanted = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ours.encode(text).tolist() == wanted, text
        whole = [*ours.begin_ids, *ours.encode(text).tolist()]
        assert theirs(text, split_special_tokens=True)["input_ids"] == whole, text
    encoded = ours.encode_utf8([text.encode() for text in TEXTS], [True] * len(TEXTS))
    parts = np.split(encoded.ids, np.cumsum(encoded.num_tokens)[:-1])
    assert [part.tolist() for part in parts] == [
        [*ours.encode(text).tolist(), ours.eos_id] for text in TEXTS
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_read_as_their_text(kind, tmp_path):
    make_folder(tmp_path / "theirs", kind)
    ours = read_huggingface(tmp_path / "theirs").tokenizer
    for text in TEXTS[1:4]:
        read = ours.decode(ours.encode(text))
        # Llama 2's begins each text with a blank; Qwen's composes characters.
        wanted = {"llama2": f" {text}", "qwen": text.replace("e\u0301", "é")}.get(kind, text)
        assert read == wanted
        stream = ours.stream()
        pieces = [stream.push(int(token)) for token in ours.encode(text)]
        assert "".join(pieces) + stream.finish() == read
    assert ours.decode([ours.eos_id]) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_template_made_keeps_its_special_tokens(kind, tmp_path):
    make_folder(tmp_path / "theirs", kind)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    ours = read_huggingface(tmp_path / "theirs").tokenizer
    text = f"<|user|>the fox{KINDS[kind][3]}<|eot_id|> the"
    wanted = theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.encode_rendered(text).tolist() == wanted
    assert ours.eos_id in wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokeniser_is_kept_and_opened_again(kind, tmp_path):
    make_folder(tmp_path / "theirs", kind, num_rows=512)
    found = read_huggingface(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    found.tokenizer.save(tmp_path / "ours", chat_template=found.chat_template)
    again = OurTokenizer.load(tmp_path / "ours")
    assert again.about == found.tokenizer.about
    assert again.vocab_size == len(again.spellings) == 512
    assert again.spellings == found.tokenizer.spellings
    assert found.chat_template == TEMPLATE
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    for text in TEXTS[:4]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == again.encode(text).tolist()


@pytest.mark.parametrize(("kind", "pre"), [("llama3", "llama-bpe"), ("qwen", "qwen2")])
def test_byte_level_ones_go_through_gguf(kind, pre, tmp_path):
    make_folder(tmp_path / "theirs", kind, num_rows=352)
    found = read_huggingface(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    save_model(tmp_path / "ours", found.spec, found.read_weights())
    found.tokenizer.save(tmp_path / "ours", chat_template=TEMPLATE)
    write_gguf(tmp_path / "ours", tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    assert reader.get_field("tokenizer.ggml.pre").contents() == pre
    kinds = reader.get_field("tokenizer.ggml.token_type").contents()
    assert kinds[found.tokenizer.eos_id] == gguf.TokenType.CONTROL
    assert kinds[351] == gguf.TokenType.UNUSED
    again = read_gguf(tmp_path / "m.gguf")
    assert again.spec == found.spec
    assert again.chat_template == TEMPLATE
    assert again.tokenizer.begin_ids == found.tokenizer.begin_ids
    for text in [one for one in TEXTS if "\u0301" not in one]:
        assert again.tokenizer.encode(text).tolist() == found.tokenizer.encode(text).tolist()
    rendered = "<|user|>the<|eot_id|><|im_end|>"
    wanted = found.tokenizer.encode_rendered(rendered).tolist()
    assert again.tokenizer.encode_rendered(rendered).tolist() == wanted


def test_others_are_refused_for_gguf(tmp_path):
    make_folder(tmp_path / "theirs", "llama2")
    found = read_huggingface(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    save_model(tmp_path / "ours", found.spec, found.read_weights())
    found.tokenizer.save(tmp_path / "ours")
    with pytest.raises(InputError, match=r"llama\.cpp has no pre-tokeniser"):
        write_gguf(tmp_path / "ours", tmp_path / "m.gguf")


def test_a_tokeniser_of_ours_is_believed_only_where_it_is_one(tmp_path):
    """`cllm_kind` in a folder from elsewhere is a claim."""
    make_folder(tmp_path / "theirs", "qwen")
    words = read_json(tmp_path / "theirs" / "tokenizer_config.json")
    for claim in ("bytes", "bpe", "wordpiece", "foreign", 7):
        config = words | {"cllm_kind": claim}
        write_json(tmp_path / "theirs" / "tokenizer_config.json", config)
        assert read_huggingface(tmp_path / "theirs").tokenizer.kind == "foreign"


def test_more_tokens_than_rows_are_refused(tmp_path):
    make_folder(tmp_path / "theirs", "qwen")
    backend = Tokenizer.from_file(str(tmp_path / "theirs" / "tokenizer.json"))
    backend.add_tokens(["one more"])
    backend.save(str(tmp_path / "theirs" / "tokenizer.json"))
    with pytest.raises(IntegrityError, match="rows"):
        read_huggingface(tmp_path / "theirs")
