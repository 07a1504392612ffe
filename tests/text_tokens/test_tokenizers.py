"""One suite for every kind of tokeniser."""

import pydoc_data.topics
import random
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cllm.errors import InputError, IntegrityError, SettingsError
from cllm.text.tokenizers import Tokenizer, choose_vocab_size, train_tokenizer

KINDS = ["bpe", "wordpiece", "unigram", "words", "characters", "bytes"]
LOSSLESS = ["bpe", "wordpiece", "unigram", "bytes"]
TEXT = "\n\n".join(list(pydoc_data.topics.topics.values())[:25])
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
SPECIAL = st.sampled_from(
    [
        "<|endoftext|>",
        "<unk>",
        "‿",
        "##",
        "Ġ",
        "▁",
        "\0",
        "\r\n",
        "e\u0301",
        "👩‍👩‍👧",
        "\ufeff",
        "n't 've",
    ]
)
MIXED = st.lists(st.one_of(ANY_TEXT, SPECIAL), max_size=6).map("".join)


def train(kind, text=TEXT, vocab_size=None):
    return train_tokenizer(
        kind, lambda: iter([text]), vocab_size=vocab_size, num_characters=len(text)
    )


TOKENIZERS: dict[str, Tokenizer] = {}


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return trained(request.param)


def trained(kind):
    if kind not in TOKENIZERS:
        TOKENIZERS[kind] = train(kind)
    return TOKENIZERS[kind]


@pytest.mark.parametrize("kind", LOSSLESS)
@given(MIXED)
@example("<|endoftext|>")
@example("".join(map(chr, range(0x250))))
def test_decoding_gives_the_text_back(kind, text):
    tokenizer = trained(kind)
    assert tokenizer.is_lossless
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_id not in ids
    assert tokenizer.unknown_bytes(text) == 0


@pytest.mark.long
@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_character_comes_back(kind):
    every = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    assert trained(kind).decode(trained(kind).encode(every)) == every


@pytest.mark.parametrize("kind", ["words", "characters"])
@given(MIXED)
def test_what_is_unknown_is_counted(kind, text):
    tokenizer = trained(kind)
    assert not tokenizer.is_lossless
    ids = tokenizer.encode(text)
    unknown = tokenizer.unknown_bytes(text)
    assert (unknown > 0) == bool((ids == tokenizer.unk_id).any())
    known_bytes = sum(len(tokenizer.spellings[i]) for i in ids if i != tokenizer.unk_id)
    assert known_bytes + unknown == len(text.encode())
    if not unknown:
        assert tokenizer.decode(ids) == text


def test_words_and_characters_are_lossless_on_what_they_know():
    for kind in ("words", "characters"):
        text = "To be, or not to be.\n\tTo be, or not to be.\n\t"
        tokenizer = train(kind, text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
@given(MIXED)
def test_ids_are_those_of_the_tokenizers_library(kind, text):
    tokenizer = trained(kind)
    expected = tokenizer.backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text).tolist() == expected
    # However short a text is, many are encoded together.
    assert tokenizer.encode_utf8([text.encode()], [False]).ids.tolist() == expected


def test_several_threads_may_encode(tokenizer):
    """Texts full of new words, at once: each has the library's ids, then and later."""
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def words(number):
        return " ".join(
            "".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(number)
        )

    texts = [words(300) for _ in range(24)]
    expected = [tokenizer.backend.encode(text, add_special_tokens=False).ids for text in texts]
    shared = Tokenizer(tokenizer.kind, tokenizer.backend)
    with switching_often(), ThreadPoolExecutor(6) as pool:
        assert [ids.tolist() for ids in pool.map(shared.encode, texts)] == expected
    assert [shared.encode(text).tolist() for text in texts] == expected


@contextmanager
def switching_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_ids_of_a_whole_text_are_those_of_the_tokenizers_library(tokenizer):
    text = "\n\n".join(pydoc_data.topics.topics.values())
    expected = tokenizer.backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text).tolist() == expected
    # What training told of its pieces is what the model itself says.
    fresh = Tokenizer(tokenizer.kind, tokenizer.backend)
    assert fresh.encode(text).tolist() == expected


def test_texts_in_a_row_are_the_texts_alone(tokenizer):
    texts = ["One", "", " two\n", "\n\n'three", "'s four <|endoftext|>", " "]
    batch = tokenizer.encode_batch(texts)
    assert [ids.tolist() for ids in batch] == [tokenizer.encode(t).tolist() for t in texts]
    has_eos = [True, False, True, True, False, True]
    row = tokenizer.encode_utf8([text.encode() for text in texts], has_eos)
    expected = []
    for ids, eos in zip(batch, has_eos, strict=True):
        expected += [*ids.tolist(), *[tokenizer.eos_id] * eos]
    assert row.ids.tolist() == expected
    assert row.num_tokens.tolist() == [len(i) + e for i, e in zip(batch, has_eos, strict=True)]
    assert tokenizer.encode_batch([]) == []


def test_a_long_line_without_blanks(tokenizer):
    text = "ab" * 20_000 + "é" * 3_000
    ids = tokenizer.encode(text)
    if tokenizer.is_lossless:
        assert tokenizer.decode(ids) == text


@given(MIXED)
def test_a_stream_gives_whole_characters(text):
    for kind in ("bpe", "bytes"):
        tokenizer = trained(kind)
        stream = tokenizer.stream()
        parts = [stream.push(int(i)) for i in tokenizer.encode(text)]
        assert "".join(parts) + stream.finish() == text
        assert "\ufffd" in text or not any("\ufffd" in part for part in parts)


@given(MIXED, st.integers(0, 20))
def test_a_stream_takes_several_ids_at_once_and_can_be_copied(text, cut):
    tokenizer = trained("bytes")
    ids = [int(token) for token in tokenizer.encode(text)]
    one = tokenizer.stream()
    begun = one.push_all(ids[:cut])
    for stream in (one.copy(), one):
        assert begun + stream.push_all(ids[cut:]) + stream.finish() == text


def test_a_stream_shows_a_broken_character_at_the_end():
    tokenizer = trained("bytes")
    stream = tokenizer.stream()
    assert [stream.push(int(i)) for i in tokenizer.encode("é")[:1]] == [""]
    assert stream.finish() == "\ufffd"


@pytest.mark.parametrize("kind", LOSSLESS)
@given(st.data())
def test_any_ids_decode_as_the_library_decodes_them(kind, data):
    tokenizer = trained(kind)
    number = st.integers(0, tokenizer.vocab_size - 1)
    ids = data.draw(st.lists(number, max_size=20))
    assert tokenizer.decode(ids) == tokenizer.backend.decode(ids, skip_special_tokens=True)


def test_saving_and_loading(tokenizer, tmp_path):
    tokenizer.save(tmp_path, chat_template="{{ messages }}", context=256)
    loaded = Tokenizer.load(tmp_path)
    text = TEXT[:3000] + "<|endoftext|> naïve"
    assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert (loaded.kind, loaded.vocab_size) == (tokenizer.kind, tokenizer.vocab_size)
    assert (loaded.eos_id, loaded.unk_id) == (0, tokenizer.unk_id)


def test_transformers_reads_it_and_gives_the_same_ids(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path, chat_template="{% for m in messages %}{{ m.content }}{% endfor %}")
    for cls in (transformers.PreTrainedTokenizerFast, transformers.AutoTokenizer):
        peer = cls.from_pretrained(tmp_path)
        for text in (TEXT[:5000], " don't <|endoftext|> é😀\n\n x ", ""):
            ids = tokenizer.encode(text).tolist()
            assert peer.encode(text, add_special_tokens=False) == ids
            assert peer.decode(ids) == tokenizer.decode(ids)
        assert peer.eos_token_id == tokenizer.eos_id
        assert len(peer) == tokenizer.vocab_size
        message = [{"role": "user", "content": "hello"}]
        assert peer.apply_chat_template(message, tokenize=False) == "hello"


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", [b"", b"{}", b'{"cllm_kind": 3}', b"\xff\xfe"])
def test_damage_is_an_integrity_error(name, damage, tmp_path):
    trained("bpe").save(tmp_path)
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(IntegrityError, match=name):
        Tokenizer.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_larger_than_the_text_supports(kind):
    with pytest.raises(SettingsError) as caught:
        train(kind, "to be or not to be, that is the question: to be or not to be", 100_000)
    if kind != "bytes":
        supported = int(caught.value.hint.split("supports ")[1].split()[0].replace(",", ""))
        text = "to be or not to be, that is the question: to be or not to be"
        assert train(kind, text, supported).vocab_size == supported
    assert train(kind, "to be or not to be").vocab_size < 1000


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "bytes"])
def test_a_vocabulary_too_small_for_the_bytes(kind):
    with pytest.raises(SettingsError, match="needs"):
        train(kind, TEXT, 200)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "words", "characters"])
def test_a_vocabulary_of_the_size_asked_for(kind):
    size = 60 if kind == "characters" else 700
    tokenizer = train(kind, TEXT, size)
    assert tokenizer.vocab_size == size
    ids = tokenizer.encode(TEXT)
    assert ids.max() < size and ids.dtype == np.uint32


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_the_same(kind):
    assert train(kind).backend.to_str() == train(kind).backend.to_str()


@pytest.mark.parametrize("kind", KINDS)
def test_training_on_text_of_any_script(kind):
    text = "Съешь же ещё этих мягких французских булок. 天地玄黃,宇宙洪荒。 नमस्ते दुनिया 🙂\n" * 20
    tokenizer = train(kind, text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_size_grows_with_the_text():
    sizes = [choose_vocab_size("bpe", 10**n) for n in range(5, 11)]
    assert sizes == [512, 1024, 4096, 8192, 16384, 16384]
    assert choose_vocab_size("bytes", 10**6) == 257


def test_half_a_character_is_an_input_error(tokenizer):
    with pytest.raises(InputError, match="surrogate"):
        tokenizer.encode("a\ud800b")


def test_a_kind_keeps_every_character_of_its_training_text():
    text = "".join(chr(p) for p in range(32, 0x3000) if unicodedata.category(chr(p)) != "Cs")
    tokenizer = train("characters", text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(text) + 2
