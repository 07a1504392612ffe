"""Text that is being written, over real tokenisers and a runner that writes a given text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.config import GenerateSettings
from cllm.infer.completion import Completion, prompt_tokens
from cllm.text.tokenizers import train_tokenizer

CORPUS = "The cat sat on the mat.\n\nUser: hello\nBot: héllo 🙂 wörld\n" * 30
SCRIPT = "\nBot: the cat sat 🙂 on the mat.\n\nUser: hello"


def tokenizer_of(kind):
    return train_tokenizer(
        kind, lambda: iter([CORPUS]), vocab_size=None, num_characters=len(CORPUS), progress=None
    )


@pytest.fixture(scope="module", params=["bpe", "unigram", "wordpiece", "characters", "bytes"])
def tokenizer(request):
    return tokenizer_of(request.param)


class Reciter:
    """A `Runner` that writes a text whatever the prompt, then the end of text."""

    def __init__(self, tokenizer, text, context=1000):
        self.script = [*tokenizer.encode(text).tolist(), tokenizer.eos_id]
        self.vocab_size, self.context = tokenizer.vocab_size, context
        self.place = 0

    def prefill(self, ids):
        return self._next()

    def decode(self, token_id):
        return self._next()

    def _next(self):
        logits = np.zeros(self.vocab_size)
        logits[self.script[min(self.place, len(self.script) - 1)]] = 50.0
        self.place += 1
        return logits


def recite(tokenizer, text, **settings):
    settings = GenerateSettings(**({"temperature": 0} | settings))
    prompt = prompt_tokens(tokenizer, "The cat")
    return Completion(Reciter(tokenizer, text), tokenizer, prompt, settings)


def test_the_pieces_are_the_text_without_the_prompt(tokenizer):
    completion = recite(tokenizer, SCRIPT)
    pieces = list(completion)
    assert "".join(pieces) == completion.text == SCRIPT
    assert completion.finish == "end of text"
    assert len(completion.ids) == len(tokenizer.encode(SCRIPT))
    assert 0 < completion.seconds_to_first_token <= completion.seconds
    # Whole characters only: no piece holds half of the smiley.
    assert not any("\ufffd" in piece for piece in pieces)


def test_it_ends_at_the_number_of_tokens(tokenizer):
    completion = recite(tokenizer, SCRIPT, max_tokens=3).run()
    assert (len(completion.ids), completion.finish) == (3, "length")
    assert completion.text == tokenizer.decode(completion.ids)


def test_a_stop_string_across_tokens_is_neither_in_the_text_nor_streamed(tokenizer):
    completion = recite(tokenizer, SCRIPT, stop=("\n\nUser:", "zebra"))
    assert "".join(completion) == "\nBot: the cat sat 🙂 on the mat."
    assert completion.finish == "stop string"


def test_what_might_have_become_a_stop_string_is_not_lost(tokenizer):
    completion = recite(tokenizer, SCRIPT, stop=("hello!",)).run()
    assert completion.text == SCRIPT


@given(st.sets(st.sampled_from([SCRIPT[a : a + n] for a in range(40) for n in (1, 2, 5)])))
def test_no_stop_string_gets_out(stops):
    completion = recite(BYTES, SCRIPT, stop=tuple(stops)).run()
    ends = [SCRIPT.find(stop) + len(stop) for stop in stops]
    assert SCRIPT.startswith(completion.text)
    assert not any(stop in completion.text for stop in stops)
    assert len(completion.text) <= min(ends, default=len(SCRIPT))


BYTES = tokenizer_of("bytes")


def test_an_empty_prompt_begins_after_the_end_of_text(tokenizer):
    assert prompt_tokens(tokenizer, "") == [tokenizer.eos_id]


def test_a_long_prompt_is_said_to_be_windowed(tokenizer):
    runner, settings = Reciter(tokenizer, "x", context=4), GenerateSettings(max_tokens=1)
    assert Completion(runner, tokenizer, [1] * 5, settings).windowed
    assert not Completion(runner, tokenizer, [1] * 4, settings).windowed


def test_unknown_words_are_never_written():
    tokenizer = tokenizer_of("words")
    runner = Reciter(tokenizer, "unheardofword cat")
    settings = GenerateSettings(temperature=0, max_tokens=3)
    completion = Completion(runner, tokenizer, [tokenizer.eos_id], settings).run()
    assert tokenizer.unk_id in runner.script
    assert tokenizer.unk_id not in completion.ids
