"""The token loop in compiled code: against its twin in Python, and however it is interrupted."""

import threading

import numpy as np
import pytest

from cllm.infer.writing import write as write_by_python
from cllm.model.spec import ModelSpec
from cllm.native import Decoder, named_views
from cllm.native.drafts import build_drafts
from cllm.native.stream import Choice, Feed, Stream

SPEC = ModelSpec(77, 40, 2, 4, 2, 10, 60, 50)
SIZE = SPEC.vocab_size
CHOICES = [
    Choice(temperature=0.0),
    Choice(temperature=0.5, repetition_penalty=1.2),
    Choice(temperature=0.8, top_k=20, top_p=0.9, bias={3: 1.0, 4: -np.inf}),
    Choice(min_p=0.05, typical_p=0.9, frequency_penalty=0.2, presence_penalty=0.1),
]


@pytest.fixture(scope="module")
def make_decoder(library, draw):
    weights = named_views(SPEC, draw.parameters(SPEC))

    def make(**options):
        return Decoder(library, SPEC, None, weights, **{"num_slots": 4, **options})

    return make


def make_stream(seed, **given):
    """A prompt of 1 to 30 tokens; together with the text more than the context holds."""
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, SIZE, rng.integers(1, 30)).tolist()
    values = {
        "slot": 0,
        "pending": prompt,
        "max_tokens": 40,
        "choice": CHOICES[seed % len(CHOICES)],
        "uniforms": rng.random(60),
        "seen": np.bincount(prompt, minlength=SIZE).astype(np.int32),
        "written": np.zeros(SIZE, np.int32),
    }
    return Stream(**{**values, **given})


def finish(decoder, streams, seconds=60.0):
    """Write until every stream has finished; how many steps it took."""
    steps = 0
    while any(stream.finish is None for stream in streams):
        steps += decoder.write(streams, max_seconds=seconds)
    return steps


def outcome(stream):
    listed = [(ids.tolist(), scores.tolist()) for ids, scores in stream.alternatives]
    return stream.ids, stream.finish, stream.pending, stream.logprobs, listed


@pytest.mark.parametrize("seed", range(12))
def test_the_text_is_that_of_the_loop_in_python(make_decoder, seed):
    eos_id = 11 if seed % 2 else None
    streams = [make_stream(seed, eos_id=eos_id, num_alternatives=3) for _ in range(2)]
    finish(make_decoder(), streams[:1])
    write_by_python(make_decoder(), streams[1:], max_seconds=60.0)
    ours, twins = streams
    assert (ours.ids, ours.finish, ours.pending) == (twins.ids, twins.finish, twins.pending)
    assert np.array_equal(ours.seen, twins.seen)
    assert np.array_equal(ours.written, twins.written)
    np.testing.assert_allclose(ours.logprobs, twins.logprobs, atol=1e-5)
    for one, other in zip(ours.alternatives, twins.alternatives, strict=True):
        assert one[0].tolist() == other[0].tolist()
        np.testing.assert_allclose(one[1], other[1], atol=1e-5)


def alone(make_decoder, seeds, **given):
    streams = [make_stream(seed, **given) for seed in seeds]
    for stream in streams:
        finish(make_decoder(), [stream])
    return [outcome(stream) for stream in streams]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cache", ["float32", "bfloat16", "int8"])
def test_a_batch_writes_what_each_would_alone(make_decoder, threads, cache):
    def make():
        return make_decoder(threads=threads, cache=cache)

    seeds, given = range(4), {"eos_id": 11, "num_alternatives": 2}
    expected = alone(make, seeds, **given)
    streams = [make_stream(seed, slot=seed, **given) for seed in seeds]
    finish(make(), streams)
    assert [outcome(stream) for stream in streams] == expected


@pytest.mark.parametrize("cost", [0.0, 0.3])
@pytest.mark.parametrize("source", ["wrong", "own"])
def test_guesses_change_no_text(make_decoder, cost, source):
    seeds, given = range(8), {"eos_id": 11, "num_alternatives": 2}
    expected = alone(make_decoder, seeds, **given)
    # What the model does not write, or exactly what it does.
    text = np.concatenate([np.tile(ids, 2) for ids, *_ in expected])
    if source == "wrong":
        text = np.random.default_rng(0).permutation(np.tile(text, 3))
    given |= {"most_drafted": 8, "draft_cost": cost}
    given["drafts"] = build_drafts(text.astype(np.int32), SIZE)
    for first in range(0, 8, 4):
        streams = [make_stream(seed, slot=seed % 4, **given) for seed in seeds[first : first + 4]]
        finish(make_decoder(), streams)
        assert [outcome(stream) for stream in streams] == expected[first : first + 4]
        assert sum(stream.num_drafted for stream in streams) > 0
        if source == "own":
            assert sum(stream.num_accepted for stream in streams) > 0


def test_a_text_that_repeats_itself_takes_fewer_steps(make_decoder):
    # A bias that the model does not overcome writes one token for ever.
    given = {"choice": Choice(temperature=0.0, bias={5: 100.0}), "pending": [5], "max_tokens": 45}
    stream = make_stream(0, most_drafted=8, draft_cost=0.2, **given)
    steps = finish(make_decoder(), [stream])
    assert stream.ids == [5] * 45
    assert stream.num_accepted == 45 - steps
    assert steps < 25


def test_what_the_slot_holds_already_is_guessed_from(make_decoder):
    given = {"choice": Choice(temperature=0.0, bias={5: 100.0}), "pending": [5], "max_tokens": 20}
    steps = []
    for before in ([], [5] * 8):
        stream = make_stream(0, most_drafted=8, draft_cost=0.0, before=before, **given)
        steps.append(finish(make_decoder(), [stream]))
    assert steps[1] < steps[0]


@pytest.mark.parametrize("most_drafted", [0, 8])
def test_many_short_calls_write_what_one_does(make_decoder, most_drafted):
    expected = alone(make_decoder, range(4), num_alternatives=1, eos_id=11)
    streams = [
        make_stream(
            seed,
            slot=seed,
            num_alternatives=1,
            eos_id=11,
            most_drafted=most_drafted,
            draft_cost=0.0,
        )
        for seed in range(4)
    ]
    prompts, decoder = [list(stream.pending) for stream in streams], make_decoder()
    while any(stream.finish is None for stream in streams):
        decoder.write(streams, max_seconds=0.0)
        for stream, prompt in zip(streams, prompts, strict=True):
            # All tokens but the pending ones have been fed, and counted.
            text = prompt + stream.ids
            assert decoder.length(stream.slot) == len(text) - len(stream.pending)
            assert stream.pending == text[len(text) - len(stream.pending) :]
            assert stream.written.tolist() == np.bincount(stream.ids, minlength=SIZE).tolist()
            assert stream.seen.tolist() == np.bincount(text, minlength=SIZE).tolist()
    assert [outcome(stream) for stream in streams] == expected


def test_a_slot_goes_on_where_a_stream_ended(make_decoder):
    [(expected, *_)] = alone(make_decoder, [1], max_tokens=30)
    decoder, first = make_decoder(), make_stream(1, max_tokens=12, most_drafted=8, draft_cost=0.0)
    finish(decoder, [first])
    second = make_stream(1, pending=first.pending, max_tokens=18, uniforms=first.uniforms[12:])
    second.seen, second.written = first.seen, first.written
    finish(decoder, [second])
    assert first.ids + second.ids == expected


def test_prompts_are_fed_in_pieces_beside_those_that_write(library, draw):
    spec = ModelSpec(SIZE, 40, 2, 4, 2, 10, 60, 2000)
    weights = named_views(spec, draw.parameters(spec))
    decoder = Decoder(library, spec, None, weights, num_slots=3)
    writer = make_stream(0, max_tokens=60)
    decoder.write([writer], max_seconds=0.0)
    long = [make_stream(0, slot=slot, pending=[slot] * 700, max_tokens=60) for slot in (1, 2)]
    steps = 0
    while any(not stream.ids for stream in long):
        before = [len(writer.ids), *(len(stream.pending) for stream in long)]
        decoder.write([writer, *long], max_seconds=0.0)
        steps += 1
        assert len(writer.ids) == before[0] + 1
        assert all(
            len(stream.pending) < count or stream.ids
            for stream, count in zip(long, before[1:], strict=True)
        )
    assert steps > 2


def test_a_call_ends_with_the_first_stream_that_does(make_decoder):
    short, long = make_stream(0, max_tokens=3), make_stream(1, slot=1, max_tokens=30)
    decoder = make_decoder()
    assert decoder.write([short, long], max_seconds=60.0) == 3
    assert (short.finish, len(short.ids), long.finish, len(long.ids)) == ("length", 3, None, 3)
    # What has finished is passed over.
    assert decoder.write([short, long], max_seconds=60.0) == 27
    assert (len(short.ids), long.finish) == (3, "length")
    assert decoder.write([short, long], max_seconds=60.0) == 0


def test_the_end_is_not_part_of_the_text(make_decoder):
    [(whole, *_)] = alone(make_decoder, [2], max_tokens=40)
    place = next(i for i in range(5, 40) if whole[i] not in whole[:i])
    decoder = make_decoder()
    stream = make_stream(2, eos_id=whole[place], num_alternatives=0)
    prompt = list(stream.pending)
    finish(decoder, [stream])
    assert (stream.ids, stream.finish, stream.pending) == (whole[:place], "eos", [])
    assert decoder.length(0) == len(prompt) + place
    # The last is that of the end.
    assert len(stream.logprobs) == len(stream.alternatives) == place + 1
    logits = make_decoder().feed([Feed(0, [*prompt, *whole[:place]])])[0]
    expected = logits[whole[place]] - np.logaddexp.reduce(logits.astype(np.float64))
    assert stream.logprobs[-1] == pytest.approx(expected, abs=1e-5)


def test_a_mask_holds_for_one_token(make_decoder):
    stream = make_stream(3, max_tokens=12, most_drafted=8, draft_cost=0.0)
    decoder, allowed = make_decoder(), [7, 40, 76]
    for k in range(12):
        stream.mask = np.zeros(3, np.uint32)
        stream.mask[allowed[k % 3] // 32] = 1 << allowed[k % 3] % 32
        assert decoder.write([stream], max_seconds=60.0) == 1
    assert stream.ids == allowed * 4


def test_it_stops_within_a_token_when_cancelled(make_decoder):
    decoder, cancelled = make_decoder(), np.zeros(1, np.int32)
    stream = make_stream(0, max_tokens=10**6, uniforms=np.zeros(10**6))
    timer = threading.Timer(0.05, cancelled.fill, [1])
    timer.start()
    while not cancelled[0]:
        decoder.write([stream], max_seconds=60.0, cancelled=cancelled)
    count = len(stream.ids)
    assert 0 < count < 10**6
    # One more call, which begins cancelled, does one step.
    assert decoder.write([stream], max_seconds=60.0, cancelled=cancelled) == 1
    assert len(stream.ids) == count + 1
    timer.join()


@pytest.mark.parametrize(
    "given",
    [
        {"slot": 4},
        {"slot": -1},
        {"pending": []},
        {"pending": [1, SIZE]},
        {"pending": [-1]},
        {"ids": [1] * 40},
        {"uniforms": np.zeros(39), "choice": Choice()},
        {"uniforms": np.zeros(80)[::2], "choice": Choice()},
        {"seen": np.zeros(SIZE - 1, np.int32), "written": np.zeros(SIZE - 1, np.int32)},
        {"written": np.zeros(2 * SIZE, np.int32)[::2]},
        {"mask": np.ones(2, np.uint32)},
        {"num_alternatives": -1},
        {"num_alternatives": SIZE + 1},
        {"choice": Choice(bias={SIZE: 1.0})},
        {"most_drafted": 3, "before": [SIZE]},
        {"most_drafted": 3, "drafts": build_drafts(np.zeros(9, np.int32), SIZE + 1)},
    ],
)
def test_what_would_leave_memory_is_refused_before_anything_is_fed(make_decoder, given):
    decoder = make_decoder()
    with pytest.raises(ValueError, match=r"\w"):
        decoder.write([make_stream(0, slot=1), make_stream(0, **given)], max_seconds=0.0)
    assert decoder.length(1) == 0


def test_streams_of_one_slot_are_refused(make_decoder):
    with pytest.raises(ValueError, match="slot each"):
        make_decoder().write([make_stream(0), make_stream(1)], max_seconds=0.0)


def test_where_nothing_may_come_next_others_go_on(make_decoder):
    stuck = make_stream(0, mask=np.zeros(3, np.uint32))
    other = make_stream(1, slot=1)
    make_decoder().write([stuck, other], max_seconds=60.0)
    assert (stuck.finish, stuck.ids, len(other.ids)) == ("stuck", [], 1)
    assert other.finish is None
