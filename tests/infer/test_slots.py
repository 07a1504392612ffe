"""Which slot a text gets, and what need not be read again."""

import pytest

from cllm.infer.slots import Place, Slots
from cllm.native.stream import Feed


class Text:
    def __init__(self, ids):
        self.ids = ids

    def held(self):
        return list(self.ids)


@pytest.fixture
def opened(counting):
    """Slots of which the decoder has fed what each text holds."""

    def make(num_slots, context=1000):
        decoder = counting(num_slots=num_slots, context=context)
        slots = Slots(decoder)

        def begin(ids, **more):
            text = Text([])
            place = slots.take(ids, text, **more)
            if place is not None:
                decoder.feed([Feed(place.slot, ids[place.num_known :])])
                assert decoder.texts[place.slot] == ids
                text.ids = ids
            return text, place

        return slots, begin

    return make


def test_no_more_texts_than_slots(opened):
    slots, begin = opened(2)
    _, first = begin([1])
    text, second = begin([2])
    assert {first.slot, second.slot} == {0, 1}
    assert begin([3])[1] is None
    slots.give_back(second.slot, text)
    assert begin([3])[1].slot == second.slot


def test_the_free_slot_with_the_longest_common_beginning_is_taken(opened):
    slots, begin = opened(3)
    texts = [begin(ids) for ids in ([1, 2, 3, 4], [1, 2, 9], [5, 5])]
    for text, place in texts:
        slots.give_back(place.slot, text)
    _, place = begin([1, 2, 3, 7])
    assert place == Place(texts[0][1].slot, 3)
    # The last token is fed even where it is known: there would be no logits.
    assert begin([1, 2, 9])[1] == Place(texts[1][1].slot, 2)


def test_a_longer_beginning_in_a_taken_slot_is_copied(opened):
    _, begin = opened(2)
    _, first = begin([1, 2, 3, 4, 5])
    _, second = begin([1, 2, 3, 9])
    assert second == Place(1 - first.slot, 3)


def test_of_slots_that_know_nothing_the_longest_unused_is_taken(opened):
    slots, begin = opened(3)
    texts = [begin([10 * number]) for number in (1, 2, 3)]
    for number in (1, 0, 2):
        text, place = texts[number]
        slots.touch(place.slot)
        slots.give_back(place.slot, text)
    assert begin([77])[1].slot == texts[1][1].slot


def test_by_force_the_longest_idle_holder_loses_its_slot(opened):
    slots, begin = opened(2)
    one, first = begin([1])
    other, second = begin([2])
    slots.touch(first.slot)
    _, third = begin([3], by_force=True)
    assert third.slot == second.slot
    assert slots.has(first.slot, one)
    assert not slots.has(second.slot, other)
    # Who lost it gives nothing back.
    slots.give_back(second.slot, other)
    assert begin([4])[1] is None


def test_a_text_beyond_the_context_is_no_beginning(opened):
    slots, begin = opened(1, context=4)
    text, place = begin([1, 2, 3, 4, 5])
    slots.give_back(place.slot, text)
    assert begin([1, 2, 3])[1] == Place(0, 0)


def test_forgotten_slots_are_free_and_empty(opened):
    slots, begin = opened(1)
    begin([1, 2, 3])
    slots.forget()
    assert begin([1, 2, 3])[1] == Place(0, 0)
