"""The token loop over a Markov chain whose every probability is known."""

import numpy as np
import pytest

from cllm.infer.writing import write
from cllm.native.stream import Choice, Stream

EOS = 0
GREEDY = Choice(temperature=0.0)


def stream_of(decoder, prompt, *, max_tokens=5, choice=GREEDY, eos_id=EOS, slot=0, seed=0, **more):
    seen = np.bincount(prompt, minlength=decoder.vocab_size).astype(np.int32)
    return Stream(
        slot=slot,
        pending=list(prompt),
        max_tokens=max_tokens,
        choice=choice,
        uniforms=np.random.default_rng([seed, 0]).random(max_tokens),
        seen=seen,
        written=np.zeros(decoder.vocab_size, np.int32),
        eos_id=eos_id,
        **more,
    )


def finish(decoder, *streams):
    while not all(stream.finish for stream in streams):
        going = [stream for stream in streams if stream.finish is None]
        write(decoder, going, max_seconds=100.0)


def test_greedy_follows_the_likeliest_and_stops_at_the_number(counting):
    decoder = counting()
    stream = stream_of(decoder, [3])
    assert write(decoder, [stream], max_seconds=100.0) == 5
    assert (stream.ids, stream.finish) == ([4, 5, 6, 7, 8], "length")
    # What was chosen last is not fed yet.
    assert stream.pending == [8]
    assert decoder.texts[0] == [3, 4, 5, 6, 7]


def test_it_ends_before_the_end_of_text(counting):
    stream = stream_of(counting(10), [6], max_tokens=50)
    finish(counting(10), stream)
    assert (stream.ids, stream.finish) == ([7, 8, 9], "eos")
    endless = stream_of(counting(10), [6], max_tokens=50, eos_id=None)
    finish(counting(10), endless)
    assert len(endless.ids) == 50


def test_one_step_is_done_at_least_and_many_calls_are_one_long_call(counting):
    decoder = counting()
    stream = stream_of(decoder, [3, 4], max_tokens=6)
    for number in range(1, 6):
        assert write(decoder, [stream], max_seconds=0.0) == 1
        assert stream.ids == list(range(5, 5 + number))
        assert [*decoder.texts[0], *stream.pending] == [3, 4, *stream.ids]
    finish(decoder, stream)
    assert stream.ids == list(range(5, 11))


def test_it_returns_when_one_of_several_ends_and_the_others_go_on(counting):
    decoder = counting(num_slots=2)
    short, long = stream_of(decoder, [3], max_tokens=2), stream_of(decoder, [50], slot=1)
    assert write(decoder, [short, long], max_seconds=100.0) == 2
    assert (short.finish, long.finish) == ("length", None)
    assert long.ids == [51, 52]
    finish(decoder, short, long)
    assert long.ids == [51, 52, 53, 54, 55]


def test_a_non_zero_number_ends_it_within_a_token(counting):
    decoder = counting()
    stream = stream_of(decoder, [3], max_tokens=50)
    assert write(decoder, [stream], max_seconds=100.0, cancelled=np.ones(1, np.int32)) == 1
    assert (stream.ids, stream.finish) == ([4], None)


def test_written_tokens_follow_the_chain(by_table):
    table = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.25, 0.5, 0.25]])
    decoder = by_table(table)
    stream = stream_of(decoder, [0], choice=Choice(), eos_id=None, max_tokens=8_000)
    finish(decoder, stream)
    ids, counts = np.array([0, *stream.ids]), np.zeros((3, 3))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    expected = counts.sum(axis=1, keepdims=True) * table
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 22.46  # 0.999 quantile with six degrees of freedom


def test_token_i_is_drawn_with_uniform_i(by_table):
    decoder = by_table(np.full((10, 10), 0.1))
    stream = stream_of(decoder, [1], choice=Choice(), eos_id=None, max_tokens=30)
    write(decoder, [stream], max_seconds=0.0)
    finish(decoder, stream)
    # Ten equal chances: the running total passes u at token ⌊10u⌋.
    assert stream.ids == np.floor(stream.uniforms * 10).astype(int).tolist()


def test_a_presence_penalty_makes_greedy_writing_visit_every_token_once(by_table):
    decoder = by_table(np.tile([0.4, 0.3, 0.2, 0.1], (4, 1)))
    choice = Choice(temperature=0.0, presence_penalty=50.0)
    stream = stream_of(decoder, [0], choice=choice, eos_id=None, max_tokens=4)
    finish(decoder, stream)
    assert stream.ids == [0, 1, 2, 3]
    assert stream.written.tolist() == [1, 1, 1, 1]
    assert stream.seen.tolist() == [2, 1, 1, 1]


def test_a_repetition_penalty_counts_the_prompt(by_rule):
    decoder = by_rule(lambda ids: np.array([2.0, 1.9, 1.8]), 3)
    choice = Choice(temperature=0.0, repetition_penalty=1.5)
    stream = stream_of(decoder, [0], choice=choice, eos_id=None, max_tokens=3)
    finish(decoder, stream)
    assert stream.ids == [1, 2, 0]


@pytest.mark.parametrize("choice", [GREEDY, Choice()])
def test_only_tokens_of_the_mask_are_chosen(by_table, choice):
    decoder = by_table(np.full((70, 70), 1 / 70))
    mask = np.zeros(3, np.uint32)
    mask[33 >> 5], mask[64 >> 5] = 1 << (33 & 31), 1 << (64 & 31)
    stream = stream_of(decoder, [1], choice=choice, eos_id=None, max_tokens=20, mask=mask)
    finish(decoder, stream)
    assert set(stream.ids) <= {33, 64}


def test_log_probabilities_are_the_models_own(by_table):
    decoder = by_table([[0.5, 0.25, 0.125, 0.125]] * 4)
    choice = Choice(temperature=0.1, bias={3: 50.0})
    stream = stream_of(decoder, [0], choice=choice, eos_id=None, max_tokens=2, num_alternatives=2)
    finish(decoder, stream)
    assert stream.ids == [3, 3]
    np.testing.assert_allclose(stream.logprobs, np.log([0.125, 0.125]), rtol=1e-6)
    ids, scores = stream.alternatives[1]
    assert ids.tolist() == [0, 1]
    np.testing.assert_allclose(scores, np.log([0.5, 0.25]), rtol=1e-6)
