"""Many who ask at once: they join, leave, give up and fail, and none disturbs another."""

import threading

import numpy as np
import pytest

from cllm.config import GenerateSettings
from cllm.infer.scheduler import BusyError, Scheduler
from cllm.infer.slots import Slots

GREEDY = GenerateSettings(temperature=0, max_tokens=10)


class Gate:
    """Lets a decoder go on only so many tokens."""

    def __init__(self, decoder):
        self._tokens = threading.Semaphore(0)
        self._feed, self.started = decoder.feed, threading.Event()
        decoder.feed = self._wait

    def _wait(self, feeds, *, every=False):
        self.started.set()
        assert self._tokens.acquire(timeout=60)
        return self._feed(feeds, every=every)

    def open(self, num_tokens=10_000):
        self._tokens.release(num_tokens)


@pytest.fixture
def serve(counting, tokenizer_of):
    opened = []

    def make(num_slots=2, **more):
        decoder = counting(257, num_slots=num_slots)
        gate = Gate(decoder)
        scheduler = Scheduler(Slots(decoder), tokenizer_of("bytes"), **more)
        opened.append((scheduler, gate))
        return scheduler, gate, decoder

    yield make
    for scheduler, gate in opened:
        gate.open()
        scheduler.close()


def after(start, count=10):
    return list(range(start + 1, start + 1 + count))


def test_more_texts_than_slots_are_all_written(serve):
    scheduler, gate, _ = serve(num_slots=2)
    gate.open()
    answers = [scheduler.submit([start], GREEDY) for start in range(10, 90, 10)]
    for start, answer in zip(range(10, 90, 10), answers, strict=True):
        assert answer.text() == bytes(token - 1 for token in after(start)).decode()
        assert answer.passage.ids == after(start)


def test_who_comes_later_joins_between_tokens(serve):
    scheduler, gate, decoder = serve(num_slots=2)
    first = scheduler.submit([10], GenerateSettings(temperature=0, max_tokens=50))
    assert gate.started.wait(60)
    second = scheduler.submit([100], GREEDY)
    gate.open()
    second.text()
    first.text()
    [place] = [place for place, (_, ids) in enumerate(decoder.fed) if ids == [100]]
    # The first text was under way, and was far from its end.
    assert 1 <= place <= 4
    assert second.passage.ids == after(100)
    assert first.passage.ids == after(10, 50)


def test_who_asks_for_many_leaves_room_to_others(serve):
    """Of 8 slots one is left, and it goes to who has the fewest texts, not to who came first."""
    scheduler, gate, decoder = serve(num_slots=8)
    long = GenerateSettings(temperature=0, max_tokens=50)
    many = [scheduler.submit([n, n], long, owner="many") for n in range(1, 13)]
    two = [scheduler.submit([start, start], GREEDY, owner="two") for start in (100, 101)]
    one = scheduler.submit([120, 120], GREEDY)
    gate.open()
    for answer in (*many, *two, one):
        answer.text()
    begun = [ids[0] for _, ids in decoder.fed if len(ids) == 2]
    # First come, first served would have begun them as the 13th to the 15th.
    assert sum(start < 100 for start in begun[:8]) <= 7
    assert max(begun.index(start) for start in (100, 101, 120)) <= 9
    assert [start for start in begun if start < 100] == list(range(1, 13))
    assert one.passage.ids == after(120)
    assert [answer.passage.ids for answer in many] == [after(n, 50) for n in range(1, 13)]


def test_pieces_come_while_the_text_is_written(serve):
    scheduler, gate, _ = serve(num_slots=1)
    answer = scheduler.submit([64], GREEDY)
    pieces = iter(answer)
    gate.open(1)
    assert next(pieces) == "@"
    assert answer.passage.finish is None
    gate.open()
    assert "@" + "".join(pieces) == answer.passage.text


def test_the_queue_is_bounded(serve):
    scheduler, gate, _ = serve(num_slots=1, most_waiting=2)
    writing = scheduler.submit([10], GREEDY)
    assert gate.started.wait(60)
    waiting = [scheduler.submit([20], GREEDY) for _ in range(2)]
    with pytest.raises(BusyError, match="2 texts are waiting"):
        scheduler.submit([30], GREEDY)
    gate.open()
    for answer in (writing, *waiting):
        answer.text()
    assert scheduler.submit([30], GREEDY).text()


def test_a_text_is_given_up_while_it_is_written_or_waits(serve):
    scheduler, gate, _ = serve(num_slots=1)
    long = GenerateSettings(temperature=0, max_tokens=100_000)
    writing, waiting = scheduler.submit([10], long), scheduler.submit([20], long)
    assert gate.started.wait(60)
    waiting.cancel()
    writing.cancel()
    gate.open(1)
    for answer, most in ((writing, 1), (waiting, 0)):
        answer.text()
        assert answer.passage.finish == "cancelled"
        assert len(answer.passage.ids) <= most
    gate.open()
    assert scheduler.submit([30], GREEDY).text()


def test_a_text_that_waits_is_given_up_at_once(serve):
    scheduler, gate, _ = serve(num_slots=1, most_waiting=1)
    writing = scheduler.submit([10], GREEDY)
    assert gate.started.wait(60)
    waiting = scheduler.submit([20], GREEDY)
    waiting.cancel()
    # Though the decoder has not moved: and its place is free.
    assert waiting.text() == ""
    assert waiting.passage.finish == "cancelled"
    next_one = scheduler.submit([30], GREEDY)
    gate.open()
    writing.text()
    next_one.text()
    assert (writing.passage.ids, next_one.passage.ids) == (after(10), after(30))


def test_nobody_who_asks_waits_for_the_slots(counting, tokenizer_of):
    slots = Slots(counting(257, num_slots=2))
    with Scheduler(slots, tokenizer_of("bytes")) as scheduler:
        answers = []

        def ask():
            answers.extend(scheduler.submit([start], GREEDY) for start in (10, 50))
            answers[1].cancel()

        thread = threading.Thread(target=ask)
        with slots.lock:
            thread.start()
            thread.join(60)
            assert not thread.is_alive()
        for answer in answers:
            answer.text()
        assert answers[0].passage.ids == after(10)


def test_who_looks_finds_the_text_as_far_as_it_is_whole(serve):
    scheduler, gate, _ = serve(num_slots=1)
    looks = []
    asked = threading.Event()

    def look(is_over):
        assert asked.wait(60)
        looks.append((answer.progress, is_over))

    answer = scheduler.submit([64], GREEDY, num_alternatives=0, on_news=look)
    asked.set()
    gate.open()
    assert answer.text() == "".join(chr(63 + place) for place in range(1, 11))
    lengths = [progress.num_characters for progress, _ in looks]
    assert lengths == sorted(set(lengths))
    assert [progress.num_scores for progress, _ in looks] == lengths
    assert lengths[-1] == len(answer.passage.text) == 10
    assert [is_over for _, is_over in looks] == [False] * (len(looks) - 1) + [True]
    assert [progress.is_over for progress, _ in looks] == [is_over for _, is_over in looks]


def test_who_fails_is_told_and_the_others_go_on(serve):
    scheduler, gate, _ = serve(num_slots=2)

    class Failing:
        is_complete = is_satisfied = False

        def mask(self):
            raise RuntimeError("no token")

    good, bad = scheduler.submit([10], GREEDY), scheduler.submit([50], GREEDY)
    object.__setattr__(bad.passage, "constraint", Failing())
    gate.open()
    with pytest.raises(RuntimeError, match="no token"):
        list(bad)
    good.text()
    assert good.passage.ids == after(10)


def test_after_a_failure_of_the_decoder_it_still_serves(serve):
    scheduler, gate, decoder = serve(num_slots=1)
    gate.open()
    rule, decoder.rule = decoder.rule, lambda ids: np.zeros(3)
    with pytest.raises(ValueError, match="reshape"):
        list(scheduler.submit([10], GREEDY))
    decoder.rule = rule
    answer = scheduler.submit([20], GREEDY)
    answer.text()
    assert answer.passage.ids == after(20)


def test_a_shared_prompt_is_read_once(serve):
    scheduler, gate, decoder = serve(num_slots=3)
    gate.open()
    prompt = list(range(10, 60))
    scheduler.submit(prompt, GREEDY).text()
    answers = [scheduler.submit([*prompt, last], GREEDY) for last in (100, 150, 200)]
    for answer, last in zip(answers, (100, 150, 200), strict=True):
        answer.text()
        assert answer.passage.ids == after(last)
    assert [ids for _, ids in decoder.fed if len(ids) > 2] == [prompt]


def test_closing_ends_what_is_written_and_takes_no_more(serve):
    scheduler, gate, _ = serve(num_slots=1)
    long = GenerateSettings(temperature=0, max_tokens=100_000)
    answers = [scheduler.submit([10], long), scheduler.submit([20], long)]
    assert gate.started.wait(60)
    gate.open()
    scheduler.close()
    for answer in answers:
        answer.text()
        assert answer.passage.finish == "cancelled"
    with pytest.raises(BusyError):
        scheduler.submit([10], GREEDY)


def test_many_threads_ask_at_once(serve):
    scheduler, gate, _ = serve(num_slots=4)
    gate.open(1_000_000)
    found = {}

    def ask(start):
        answer = scheduler.submit([start], GREEDY)
        found[start] = (answer.text(), answer.passage.ids)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(1, 41)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {start: ids for start, (_, ids) in found.items()} == {
        start: after(start) for start in range(1, 41)
    }
