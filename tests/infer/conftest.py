"""Decoders whose every logit is known: what comes next is a rule over the tokens of a slot."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cllm.infer import writing
from cllm.text.tokenizers import train_tokenizer

CORPUS = "The cat sat on the mat.\n\nUser: hello\nBot: héllo 🙂 wörld\n" * 30


class RuleDecoder:
    """A `Decoder` by a rule: the ids that a slot was fed → the logits of the next."""

    def __init__(self, rule, vocab_size, *, context=1000, num_slots=1):
        self.rule, self.vocab_size, self.context = rule, vocab_size, context
        self.num_slots = num_slots
        self.texts = [[] for _ in range(num_slots)]
        # What was fed, in order: (slot, ids).
        self.fed = []

    def feed(self, feeds, *, every=False):
        assert len({feed.slot for feed in feeds}) == len(feeds)
        rows = []
        for feed in feeds:
            assert len(feed.ids) > 0
            self.fed.append((feed.slot, list(feed.ids)))
            for place, token in enumerate(feed.ids, start=1):
                self.texts[feed.slot].append(int(token))
                if every or place == len(feed.ids):
                    rows.append(self.rule(self.texts[feed.slot]))
        return np.array(rows, np.float32).reshape(len(rows), self.vocab_size)

    def length(self, slot):
        return len(self.texts[slot])

    def truncate(self, slot, length):
        can = length == 0 or len(self.texts[slot]) <= self.context
        self.texts[slot] = self.texts[slot][: length if can else 0]
        return can

    def copy(self, source, target, length):
        self.texts[target] = self.texts[source][:length]
        return True

    def write(self, streams, *, max_seconds, cancelled=None):
        return writing.write(self, streams, max_seconds=max_seconds, cancelled=cancelled)

    def observe(self, ids):
        raise NotImplementedError


@pytest.fixture
def by_rule() -> Callable[..., RuleDecoder]:
    """Make a decoder: `by_rule(rule, vocab_size, context=…, num_slots=…)`."""
    return RuleDecoder


@pytest.fixture
def by_table() -> Callable[..., RuleDecoder]:
    """Make a decoder of a Markov chain: row t of the table are the chances after token t."""

    def make(table: Sequence[Sequence[float]], **sizes):
        chances = np.array(table, np.float64)
        with np.errstate(divide="ignore"):
            logs = np.log(chances)
        return RuleDecoder(lambda ids: logs[ids[-1]], len(chances), **sizes)

    return make


@pytest.fixture
def counting() -> Callable[..., RuleDecoder]:
    """Make a decoder that counts up by one."""

    def make(vocab_size=100, **sizes):
        rows = np.roll(np.eye(vocab_size), 1, axis=1) * 50
        return RuleDecoder(lambda ids: rows[ids[-1]], vocab_size, **sizes)

    return make


@pytest.fixture
def reciting() -> Callable[..., RuleDecoder]:
    """Make a decoder that recites a text after a prompt of some tokens, then ends."""

    def make(tokenizer, text, num_prompt_tokens, **sizes):
        script = [*map(int, tokenizer.encode(text)), tokenizer.eos_id]

        def rule(ids):
            logits = np.zeros(tokenizer.vocab_size)
            logits[script[min(len(ids) - num_prompt_tokens, len(script) - 1)]] = 50.0
            return logits

        return RuleDecoder(rule, tokenizer.vocab_size, **sizes)

    return make


@pytest.fixture(scope="session")
def tokenizer_of():
    """The tokeniser of a kind, trained on a few sentences."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = train_tokenizer(
                kind,
                lambda: iter([CORPUS]),
                vocab_size=None,
                num_characters=len(CORPUS),
                progress=None,
            )
        return made[kind]

    return make


@pytest.fixture(params=["bpe", "unigram", "wordpiece", "characters", "bytes"])
def tokenizer(request, tokenizer_of):
    return tokenizer_of(request.param)
