"""Text that is being written, over real tokenisers and a decoder that recites a given text."""

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cllm.config import GenerateSettings
from cllm.errors import SettingsError
from cllm.infer.completion import Completion
from cllm.infer.passage import prompt_tokens
from cllm.infer.slots import Slots

SCRIPT = "\nBot: the cat sat 🙂 on the mat.\n\nUser: hello"


@pytest.fixture
def recite(reciting):
    def make(tokenizer, text, *, num_alternatives=None, **chosen):
        prompt = prompt_tokens(tokenizer, "The cat")
        slots = Slots(reciting(tokenizer, text, len(prompt)))
        chosen = GenerateSettings(**({"temperature": 0} | chosen))
        return Completion(slots, tokenizer, prompt, chosen, num_alternatives=num_alternatives)

    return make


def test_the_pieces_are_the_text_without_the_prompt(recite, tokenizer):
    completion = recite(tokenizer, SCRIPT)
    assert completion.finish is None
    pieces = list(completion)
    assert "".join(pieces) == completion.text == SCRIPT
    assert completion.finish == "end of text"
    assert completion.ids == tokenizer.encode(SCRIPT).tolist()
    assert 0 < completion.seconds_to_first_token <= completion.seconds
    # Whole characters only: no piece holds half of the smiley.
    assert not any("\ufffd" in piece for piece in pieces)


def test_it_ends_at_the_number_of_tokens(recite, tokenizer):
    completion = recite(tokenizer, SCRIPT, max_tokens=3).run()
    assert (len(completion.ids), completion.finish) == (3, "length")
    assert completion.text == tokenizer.decode(completion.ids)


def test_a_stop_string_across_tokens_is_neither_in_the_text_nor_streamed(recite, tokenizer):
    completion = recite(tokenizer, SCRIPT, stop=("\n\nUser:", "zebra"))
    assert "".join(completion) == "\nBot: the cat sat 🙂 on the mat."
    assert completion.finish == "stop string"
    assert tokenizer.decode(completion.ids).startswith(completion.text)


def test_what_might_have_become_a_stop_string_is_not_lost(recite, tokenizer):
    assert recite(tokenizer, SCRIPT, stop=("hello!",)).run().text == SCRIPT


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from([SCRIPT[a : a + n] for a in range(40) for n in (1, 2, 5)])))
def test_no_stop_string_gets_out(recite, tokenizer_of, stops):
    completion = recite(tokenizer_of("bytes"), SCRIPT, stop=tuple(stops)).run()
    ends = [SCRIPT.find(stop) + len(stop) for stop in stops]
    assert SCRIPT.startswith(completion.text)
    assert not any(stop in completion.text for stop in stops)
    assert len(completion.text) <= min(ends, default=len(SCRIPT))


def test_an_empty_prompt_begins_after_the_end_of_text(tokenizer):
    assert prompt_tokens(tokenizer, "") == [tokenizer.eos_id]


def test_a_long_prompt_is_said_to_be_windowed_and_its_end_is_seen(by_table, tokenizer_of):
    tokenizer = tokenizer_of("bytes")
    decoder = by_table([[1 / 257] * 257] * 257, context=4)
    chosen = GenerateSettings(max_tokens=1)
    completion = Completion(Slots(decoder), tokenizer, [1, 2, 3, 4, 5], chosen).run()
    assert completion.windowed
    assert decoder.fed[0] == (0, [2, 3, 4, 5])
    assert not Completion(Slots(decoder), tokenizer, [1, 2, 3, 4], chosen).windowed


def test_unknown_words_are_never_written(reciting, tokenizer_of):
    tokenizer = tokenizer_of("words")
    decoder = reciting(tokenizer, "unheardofword cat", 1)
    assert tokenizer.unk_id in tokenizer.encode("unheardofword cat")
    chosen = GenerateSettings(temperature=0, max_tokens=3)
    completion = Completion(Slots(decoder), tokenizer, [tokenizer.eos_id], chosen).run()
    assert tokenizer.unk_id not in completion.ids


def test_rows_beyond_the_tokens_are_never_written(by_table, tokenizer_of):
    """A model may have more rows than its tokeniser has tokens."""
    tokenizer = tokenizer_of("bytes")
    row = [1e-9] * 257 + [0.5, 0.5]
    completion = Completion(
        Slots(by_table([row] * 259)), tokenizer, [5], GenerateSettings(max_tokens=20)
    ).run()
    assert max(completion.ids, default=0) < 257


def test_the_same_seed_gives_the_same_text_and_another_does_not(by_table, tokenizer_of):
    def write(**chosen):
        sample = chosen.pop("sample", 0)
        chosen = GenerateSettings(**({"max_tokens": 40} | chosen))
        slots, tokenizer = Slots(by_table([[1 / 257] * 257] * 257)), tokenizer_of("bytes")
        return Completion(slots, tokenizer, [1], chosen, sample=sample).run().ids

    first = write(seed=5)
    assert first == write(seed=5)
    assert first != write(seed=6)
    assert first != write(seed=5, sample=1)


def test_a_text_longer_than_a_stretch_is_one_text(by_table, tokenizer_of, monkeypatch):
    def write():
        slots, tokenizer = Slots(by_table([[1 / 257] * 257] * 257)), tokenizer_of("bytes")
        chosen = GenerateSettings(max_tokens=40, frequency_penalty=1.0)
        return Completion(slots, tokenizer, [1], chosen, num_alternatives=1).run()

    whole = write()
    monkeypatch.setattr("cllm.infer.passage._STRETCH", 7)
    cut = write()
    assert cut.ids == whole.ids
    assert [score.token_id for score in cut.scores] == whole.ids


def test_each_tokens_scores_are_kept(recite, tokenizer_of):
    tokenizer = tokenizer_of("bpe")
    completion = recite(tokenizer, SCRIPT, num_alternatives=2, max_tokens=4).run()
    assert [score.token_id for score in completion.scores] == completion.ids
    assert "".join(score.text for score in completion.scores) == completion.text
    for score in completion.scores:
        # 50 above all others.
        assert score.log_probability == pytest.approx(0.0, abs=1e-9)
        assert score.alternatives[0][:2] == (score.token_id, score.text)
        assert score.alternatives[1][2] == pytest.approx(-50.0, abs=1e-4)


def test_it_is_cancelled_within_a_token_from_another_thread(by_rule, tokenizer_of):
    tokenizer = tokenizer_of("bytes")
    num_fed, cancelled_at = 0, []

    def rule(ids):
        nonlocal num_fed
        num_fed += 1
        if num_fed == 20:
            thread = threading.Thread(target=completion.cancel)
            thread.start()
            thread.join()
            cancelled_at.append(num_fed)
        logits = [0.0] * 257
        logits[98] = 9.0
        return logits

    slots = Slots(by_rule(rule, 257))
    chosen = GenerateSettings(temperature=0, max_tokens=1000)
    completion = Completion(slots, tokenizer, [1], chosen)
    completion.run()
    assert completion.finish == "cancelled"
    assert cancelled_at == [20]
    assert len(completion.ids) == 20
    assert completion.text == "a" * 20


def test_two_texts_in_turn_through_one_slot_are_the_same_as_alone(counting, tokenizer_of):
    tokenizer = tokenizer_of("bytes")
    slots = Slots(counting(257))
    chosen = GenerateSettings(temperature=0, max_tokens=30)
    one, other = (Completion(slots, tokenizer, prompt, chosen) for prompt in ([10], [100]))
    both = [iter(one), iter(other)]
    while any(next(text, None) for text in both):
        pass
    assert one.ids == list(range(11, 41))
    assert other.ids == list(range(101, 131))


def test_a_beginning_that_is_known_is_not_read_again(counting, tokenizer_of):
    tokenizer = tokenizer_of("bytes")
    decoder = counting(257)
    slots = Slots(decoder)
    chosen = GenerateSettings(temperature=0, max_tokens=2)
    Completion(slots, tokenizer, [10, 20, 30], chosen).run()
    decoder.fed.clear()
    Completion(slots, tokenizer, [10, 20, 30, 31, 50], chosen).run()
    assert decoder.fed[0] == (0, [50])
    Completion(slots, tokenizer, [10, 20, 40], chosen).run()
    assert decoder.texts[0][:3] == [10, 20, 40]


@pytest.mark.parametrize("item", ["", "a", "=1", "a=x", "a=nan", "a=inf", "#999=1", "cat sat on=1"])
def test_a_bias_that_means_nothing_is_refused(recite, tokenizer_of, item):
    with pytest.raises(SettingsError) as caught:
        recite(tokenizer_of("bpe"), SCRIPT, logit_bias=(item,))
    assert caught.value.where == "--logit-bias"


def test_a_bias_makes_tokens_likelier_or_impossible(recite, tokenizer_of):
    tokenizer = tokenizer_of("bytes")
    # Byte "e" is id 102; the script's own tokens are 50 above the rest.
    assert recite(tokenizer, SCRIPT, logit_bias=("e=60",), max_tokens=3).run().text == "eee"
    assert recite(tokenizer, SCRIPT, logit_bias=("#102=60",), max_tokens=3).run().text == "eee"
    chosen = {"logit_bias": ("e=-inf", "x=1"), "max_tokens": 3}
    assert recite(tokenizer, "eel", **chosen).run().text == "xxl"
