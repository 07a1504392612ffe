"""Tokenisers whose work on a text has no bound are refused; those that models have are taken."""

import time

import pytest
from test_foreign_tokenizers import LLAMA3, QWEN, llama2, qwen
from tokenizers import Regex, normalizers
from tokenizers import pre_tokenizers as cuts

from cllm.errors import InputError
from cllm.export.foreign_tokenizer import make_tokenizer
from cllm.text.tokenizers.foreign import ForeignEncoder

ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
# As the files of the named models have them.
PATTERNS = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": LLAMA3,
    "Qwen 2": QWEN,
    "Qwen 3.5": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{BLANKS}",
    "GPT-4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "GPT-4o": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDS}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDS}|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{BLANKS}",
    "Mistral Nemo": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{BLANKS}",
    "DeepSeek V3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + BLANKS,
    "DeepSeek V3's digits": r"\p{N}{1,3}",
    "DeepSeek V3's Chinese": r"[一-龥\u3040-ゟ゠-ヿ]+",
    "Falcon": "[0-9][0-9][0-9]",
    "StarCoder 2": r"\p{N}",
}
HOSTILE = [
    r"(x+x+)+y",
    r"(x+)+",
    r"x*y",
    r"x+x+",
    r"(?:x|x)+y",
    r"(?:x|xx){1,20}y",
    "(?:x|x)" * 30 + "y",
    "x?" * 30 + "x" * 30,
    r"x{0,999}y",
    r"x{0,90}x{0,90}y",
    r"x+(?!\S)",
    r"\s*[\r\n]+",
    r"\s+(?!\S)|y",
    r"x+$",
    r"(x)+\1y",
    r"(?<n>x|x\g<n>)y",
    r"(?=x*y)x",
    r"(?<!x*)y",
    r"(?i)(x+)+y",
    r"x{1,3}+y",
    r"x++y",
    "a" * 5_000,
]


def taken(change):
    """A tokeniser as Qwen's, changed, is taken as that of a model."""
    backend = qwen()
    change(backend)
    size = backend.get_vocab_size()
    return make_tokenizer(backend, size, (backend.token_to_id("<|endoftext|>"),))


def cut_by(pattern):
    def change(backend):
        parts = [cuts.Split(Regex(pattern), "isolated"), cuts.ByteLevel(False, use_regex=False)]
        backend.pre_tokenizer = cuts.Sequence(parts)

    return change


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_of_models_are_taken_and_fast(name):
    tokenizer = taken(cut_by(PATTERNS[name]))
    assert tokenizer.kind == "foreign"
    start = time.monotonic()
    for text in (
        "x" * 20_000,
        "X" * 20_000,
        " " * 20_000,
        "一" * 20_000,
        "'" * 20_000,
        "\n " * 9_999,
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("pattern", HOSTILE)
def test_patterns_that_may_search_without_end_are_refused(pattern):
    with pytest.raises(InputError, match="pre_tokenizer has the pattern"):
        taken(cut_by(pattern))


def set_normalizer(*parts):
    def change(backend):
        backend.normalizer = normalizers.Sequence(list(parts))

    return change


def set_cuts(*parts):
    def change(backend):
        backend.pre_tokenizer = cuts.Sequence([*parts, cuts.ByteLevel(False, use_regex=False)])

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_normalizer(normalizers.Replace("!", "a" * 2_000_000)), "normalizer inserts 2,000,000"),
        (set_normalizer(normalizers.Prepend("a" * 9)), "normalizer inserts 9"),
        (set_normalizer(*[normalizers.Replace("a", "aa")] * 20), "characters of one"),
        (set_normalizer(*[normalizers.ByteLevel()] * 20), "characters of one"),
        (set_normalizer(normalizers.Replace("", "ab")), "empty pattern"),
        (set_normalizer(normalizers.Replace(Regex("(x+x+)+y"), "")), "normalizer has the pattern"),
        (set_normalizer(*[normalizers.NFC()] * 99), "100 parts"),
        (set_cuts(*[cuts.ByteLevel(True)] * 20), "characters of one"),
        (set_cuts(cuts.Split("", "isolated")), "empty pattern"),
        (set_cuts(cuts.FixedLength(5)), "a part of the type 'FixedLength'"),
    ],
)  # fmt: skip
def test_what_makes_much_of_little_is_refused(change, why):
    with pytest.raises(InputError, match=why):
        taken(change)


@pytest.mark.parametrize(
    "change",
    [
        set_normalizer(normalizers.NFKC(), normalizers.Lowercase(), normalizers.NFD()),
        set_normalizer(normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")),
        set_cuts(cuts.Digits(individual_digits=True), cuts.Punctuation()),
        set_cuts(cuts.Split(" ", "merged_with_previous"), cuts.Whitespace()),
        set_cuts(cuts.Metaspace()),
    ],
)
def test_usual_parts_are_taken(change):
    assert taken(change).kind == "foreign"


def test_a_tokeniser_without_pre_tokeniser_is_taken():
    backend = llama2()
    assert make_tokenizer(backend, backend.get_vocab_size(), (2,)).kind == "foreign"


def test_a_panic_of_the_library_is_told():
    backend = qwen()
    cut_by(r"(x+x+)+y")(backend)
    with pytest.raises(InputError, match="can't encode the text"):
        ForeignEncoder(backend, 0).encode([b"x" * 50], [False])
