"""What cuts words first must come out alike, whatever else runs in the process."""

from __future__ import annotations

import random
import sys
import threading

from cllm.text.roots.baseline import Baseline


def test_what_other_threads_draw_changes_nothing() -> None:
    stems = ("walk", "talk", "jump", "hand", "land", "sand", "band", "turn", "burn", "lift")
    ends = ("", "s", "ed", "ing", "er", "ers", "able", "less", "ful")
    counts = {stem + end: 1 for stem in stems for end in ends}
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            random.random()

    def cuts() -> list[tuple[list[str], float]]:
        model = Baseline(counts, weight=0.5, max_epochs=6)
        return [model.cut(word) for word in counts]

    alone = cuts()
    other = threading.Thread(target=draw)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    other.start()
    try:
        assert all(cuts() == alone for _ in range(5))
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        other.join()
