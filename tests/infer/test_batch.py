"""Several texts at once: each is the same as alone."""

import threading

import numpy as np
import pytest
from tests.random_models import random_weights

from cllm.config import GenerateSettings
from cllm.errors import SettingsError
from cllm.infer.batch import Batch, write_all
from cllm.infer.completion import Completion
from cllm.infer.passage import Drafting, Passage
from cllm.infer.slots import Slots
from cllm.infer.torch_decoder import TorchDecoder
from cllm.model import ModelSpec, Transformer
from cllm.native import Decoder, Parts, load_library

SPEC = ModelSpec(
    vocab_size=257,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=8,
    mlp_width=64,
    context=24,
)


@pytest.fixture(scope="module", params=["compiled", "torch"])
def open_decoder(request, tmp_path_factory):
    """Make a decoder of the same random weights with so many slots."""
    weights = random_weights(SPEC)
    if request.param == "compiled":
        library = load_library(tmp_path_factory.mktemp("native"))
        return lambda slots: Decoder(library, SPEC, Parts(), weights, num_slots=slots)
    model = Transformer(SPEC).eval()
    model.load_weights(weights)
    return lambda slots: TorchDecoder(model, slots)


PROMPTS = [[1, 2, 3], [1, 2, 3, 4], [9], list(range(1, 41)), [1, 2]]
CHOSEN = [
    GenerateSettings(max_tokens=40, seed=3),
    GenerateSettings(max_tokens=7, temperature=0, stop=("a",)),
    GenerateSettings(max_tokens=30, top_p=0.9, frequency_penalty=0.5),
    GenerateSettings(max_tokens=20, typical_p=0.8, repetition_penalty=1.2),
    GenerateSettings(max_tokens=33, min_p=0.01, top_k=40, seed=9),
]


@pytest.mark.parametrize("most_drafted", [0, 8])
def test_a_text_is_the_same_in_a_batch_as_alone(open_decoder, tokenizer_of, most_drafted):
    """Some wait for a slot, some share a beginning, some pass the context's end."""
    tokenizer = tokenizer_of("bytes")
    slots = Slots(open_decoder(3))
    drafting = Drafting(most_drafted, cost=0.0)
    passages = [
        Passage(slots.decoder, tokenizer, prompt, chosen, drafting=drafting)
        for prompt, chosen in zip(PROMPTS, CHOSEN, strict=True)
    ]
    pieces = [""] * len(passages)
    for number, piece in write_all(slots, passages):
        pieces[number] += piece
    for prompt, chosen, passage, text in zip(PROMPTS, CHOSEN, passages, pieces, strict=True):
        alone = Completion(Slots(open_decoder(1)), tokenizer, prompt, chosen).run()
        assert passage.ids == alone.ids
        assert passage.text == text == alone.text
        assert passage.finish == alone.finish


def test_what_fails_in_one_text_leaves_the_others(counting, tokenizer_of):
    class Failing:
        """A constraint that fails at the third token."""

        is_complete = is_satisfied = False

        def __init__(self):
            self.num_left = 3

        def mask(self):
            self.num_left -= 1
            if not self.num_left:
                raise RuntimeError("no third token")
            return np.full(9, 0xFFFFFFFF, np.uint32)

        def advance(self, token_id):
            pass

    tokenizer, chosen = tokenizer_of("bytes"), GenerateSettings(temperature=0, max_tokens=5)
    slots = Slots(counting(257, num_slots=2))
    good, bad = (Passage(slots.decoder, tokenizer, [start], chosen) for start in (10, 50))
    object.__setattr__(bad, "constraint", Failing())
    batch = Batch(slots)
    assert batch.add(good) and batch.add(bad)
    while batch.going:
        batch.step()
    assert (bad.finish, str(bad.error), bad.ids) == ("error", "no third token", [51, 52])
    assert (good.finish, good.ids) == ("length", [11, 12, 13, 14, 15])


def test_a_text_for_which_no_token_is_left_ends_alone(open_decoder, tokenizer_of):
    tokenizer = tokenizer_of("bytes")
    slots = Slots(open_decoder(2))
    nothing = tuple(f"#{token}=-inf" for token in range(SPEC.vocab_size))
    settings = GenerateSettings(max_tokens=12, seed=1)
    stuck = Passage(
        slots.decoder, tokenizer, [1, 2], settings.model_copy(update={"logit_bias": nothing})
    )
    other = Passage(slots.decoder, tokenizer, [3, 4], settings)
    batch = Batch(slots)
    assert batch.add(stuck)
    assert batch.add(other)
    while batch.going:
        batch.step()
    assert stuck.finish == "error"
    assert isinstance(stuck.error, SettingsError)
    alone = Completion(Slots(open_decoder(1)), tokenizer, [3, 4], settings).run()
    assert other.text == alone.text


def test_a_failing_decoder_ends_all_and_forgets(counting, tokenizer_of):
    decoder = counting(257)
    slots = Slots(decoder)
    passage = Passage(decoder, tokenizer_of("bytes"), [10, 11], GenerateSettings(temperature=0))
    batch = Batch(slots)
    batch.add(passage)
    batch.step()

    def fail(*_, **__):
        raise MemoryError("none left")

    decoder.feed, was = fail, decoder.feed
    with pytest.raises(MemoryError):
        batch.step()
    assert batch.going == []
    decoder.feed = was
    again = GenerateSettings(temperature=0, max_tokens=2)
    done = Completion(slots, tokenizer_of("bytes"), [10, 11, 12], again).run()
    assert done.ids == [13, 14]
    assert decoder.texts[0] == [10, 11, 12, 13]


def test_an_endless_text_is_cancelled_from_another_thread(open_decoder, tokenizer_of):
    endless = GenerateSettings(max_tokens=10**9, logit_bias=("#0=-inf",))
    completion = Completion(Slots(open_decoder(1)), tokenizer_of("bytes"), [1], endless)
    timer = threading.Timer(0.2, completion.cancel)
    timer.start()
    completion.run()
    timer.join()
    assert completion.finish == "cancelled"
    assert len(completion.ids) > 0


@pytest.mark.parametrize("stops", [(), ("t. Ét",), ("sat", "zebra"), ("🙂 m",), ("no such",)])
def test_a_text_ends_at_the_same_token_however_many_come_at_once(reciting, tokenizer_of, stops):
    """Whole steps are taken together; token by token is how it is meant."""
    text = "The cat sat. Été 🙂 mat."
    settings = GenerateSettings(max_tokens=100, temperature=0, stop=stops)
    found = []
    for seconds in (0.0, 60.0):
        tokenizer = tokenizer_of("bytes")
        batch = Batch(Slots(reciting(tokenizer, text, 1)))
        passage = Passage(batch.slots.decoder, tokenizer, [1], settings)
        batch.add(passage)
        pieces = []
        while passage.finish is None:
            pieces += [piece for _, piece in batch.step(seconds)]
        assert "".join(pieces) == passage.text
        found.append((passage.text, passage.ids, passage.finish))
    assert found[0] == found[1]
    ends = [text.find(stop) for stop in stops if stop in text]
    assert found[0][0] == text[: min(ends, default=len(text))]
