"""Stop strings end the text wherever the stream is cut, and none of them gets out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import SettingsError
from cllm.infer.stop_strings import StopStrings

letters = st.text(alphabet="abé\n", max_size=30)
stop_sets = st.lists(st.text(alphabet="abé\n", min_size=1, max_size=5), max_size=4)


def earliest_end(text, stops):
    """The text before the stop string that a reader, letter by letter, completes first."""
    for end in range(len(text) + 1):
        complete = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: min(complete)], True
    return text, False


def cut(text, places):
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@given(letters, stop_sets, st.lists(st.integers(0, 1000), max_size=30))
def test_any_cut_gives_the_text_before_the_first_stop(text, stops, places):
    stream, out = StopStrings(stops), ""
    expected, is_stopped = earliest_end(text, stops)
    for piece in cut(text, places):
        out += stream.push(piece)
        # What has been streamed must never need to be taken back.
        assert expected.startswith(out)
    out += stream.finish()
    assert out == expected
    assert (stream.found is not None) == is_stopped
    assert not any(stop in out for stop in stops)


def test_text_that_can_not_become_a_stop_is_passed_on_at_once():
    stream = StopStrings(["\nUser:"])
    assert stream.push("Hello.") == "Hello."
    assert stream.push("\nUs") == ""
    assert stream.push("e it") == "\nUse it"


def test_nothing_comes_after_the_end():
    stream = StopStrings(["END"])
    assert stream.push("a END b") == "a "
    assert (stream.push("c"), stream.finish(), stream.found) == ("", "", "END")


def test_an_empty_stop_string_is_refused():
    with pytest.raises(SettingsError, match="empty stop string"):
        StopStrings(["x", ""])
