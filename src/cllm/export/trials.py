"""What an exported model is tried with: 1,000 texts, some ids to read, some prompts to go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cllm.export.opened import Trials

NUM_TEXTS = 1000
NUM_GREEDY_TOKENS = 64
# Lengths of what is read and of the prompts, in tokens; each is cut to what the context holds.
_READ_TOKENS = (1, 17, 256)
_PROMPT_TOKENS = (1, 2, 8, 32)

# First and last code points of letters of many scripts, and of signs.
_SCRIPTS = (
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x17F), (0x300, 0x36F), (0x391, 0x3C9), (0x410, 0x44F),
    (0x531, 0x556), (0x5D0, 0x5EA), (0x621, 0x64A), (0x904, 0x939), (0x993, 0x9B9), (0xB85, 0xBB9),
    (0xE01, 0xE3A), (0xF40, 0xF6A), (0x10D0, 0x10FA), (0x1200, 0x1248), (0x13A0, 0x13F4),
    (0x1780, 0x17B3), (0x1E00, 0x1EFF), (0x2070, 0x209C), (0x2150, 0x218B), (0x2200, 0x22FF),
    (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF01, 0xFF5E),
    (0x10330, 0x1034A), (0x1D400, 0x1D7FF), (0x20000, 0x2A6DF),
)  # fmt: skip
_BLANKS = (" ", "  ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u2003", "\u3000", "\u2028",
           "\u200b", "\u0085", "\x0b", "\x0c", "    ")  # fmt: skip
_EMOJI = ("😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇪🇺", "❤️", "☺", "🤷🏿‍♀️", "1️⃣", "🫠", "✂️", "©️")
_CONTROLS = (*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\ufeff", "\u200e", "\u202e",
             "\ufffd", "\uffff", "\ue000", "\U0010ffff", "\u00ad")  # fmt: skip
_CODE = ("def ", "f(x)", "    return ", "if (a<=b) {", "}\n", "// ", "x += 1;\n", "\t\tfor i in ",
         "0x1F", "3.14e-10", "==", "!=", "->", "#include <", "'a'", '"b"', "\\n", "{{", "[0]",
         "_id", "camelCase", "SQL", "http://a.b/c?d=e&f", "<|endoftext|>", "<unk>", "$HOME", "/**/",
         "@x", "1,000,000", "don't", "I'LL", "we've", "it's", "'S", "12345678")  # fmt: skip


def make_trials(
    spellings: Sequence[bytes],
    *,
    context: int,
    eos_id: int,
    special: Sequence[str] = (),
    seed: int = 0,
) -> Trials:
    """The trials of a model whose tokens read as `spellings`; the same seed gives the same.

    The texts are without the strings in `special`: some programs read them as text, some not.
    """
    random = np.random.default_rng(seed)
    vocab_size = len(spellings)

    def draw(length: int) -> list[int]:
        return [int(token) for token in random.integers(0, vocab_size, length)]

    sequences = [draw(min(length, context)) for length in _READ_TOKENS]
    prompts = [[eos_id], *(draw(length) for length in _PROMPT_TOKENS[1:])]
    texts = make_texts(spellings, random)
    for name in special:
        texts = [text.replace(name, "") for text in texts]
    return Trials(
        texts,
        sequences,
        [(ids, count) for ids, count in (_fit(ids, context) for ids in prompts) if count],
    )


def _fit(ids: list[int], context: int) -> tuple[list[int], int]:
    """A prompt and how far it is continued: together they fit the context."""
    kept = ids[: max(1, context - NUM_GREEDY_TOKENS)]
    return kept, min(NUM_GREEDY_TOKENS, context - len(kept))


def make_texts(spellings: Sequence[bytes], random: np.random.Generator) -> list[str]:
    """1,000 texts: of the vocabulary, many scripts, blanks, code, emoji, control characters."""
    tokens = [spelling.decode("utf-8", "ignore") for spelling in spellings]

    def pick(choices: Sequence[str], most: int) -> str:
        places = random.integers(0, len(choices), random.integers(1, most + 1))
        return "".join(choices[place] for place in places)

    def word() -> str:
        first, last = _SCRIPTS[random.integers(0, len(_SCRIPTS))]
        points = random.integers(first, last + 1, random.integers(1, 9))
        return "".join(map(chr, points))

    def words() -> str:
        return "".join(word() + pick(_BLANKS[:2], 1) for _ in range(random.integers(1, 6)))

    def mixed(*kinds: Sequence[str]) -> str:
        return "".join(pick(kinds[random.integers(0, len(kinds))], 3) for _ in range(6))

    texts = [""]
    texts += [pick(tokens, 12) for _ in range(299)]
    texts += [words() for _ in range(250)]
    texts += [mixed(_BLANKS, tokens) for _ in range(150)]
    texts += [pick(_CODE, 10) for _ in range(150)]
    texts += [mixed(_EMOJI, tokens, _BLANKS) for _ in range(75)]
    texts += [mixed(_CONTROLS, _CODE, tokens) for _ in range(75)]
    assert len(texts) == NUM_TEXTS
    return texts
