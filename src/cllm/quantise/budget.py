"""Which matrix gets how many bits, when the file may have so many bytes."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """One way to store a matrix: its bytes, and by how much the loss is expected to rise."""

    num_bytes: int
    loss: float


def allocate(options: Mapping[str, Sequence[Option]], num_bytes: int) -> dict[str, int] | None:
    """The index of each matrix's option, within `num_bytes` together; None where that can't be.

    Greedy along each matrix's lower convex hull: step by step the option that lowers the loss
    most for each byte, which is the best choice but for what the last step leaves over.
    Source: Shoham and Gersho, Efficient bit allocation, IEEE Trans. ASSP 36, 1988.
    """
    hulls = {name: _hull(found) for name, found in options.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    left = num_bytes - sum(options[name][index].num_bytes for name, index in chosen.items())
    if left < 0:
        return None
    waiting: list[tuple[float, str, int]] = []

    def push(name: str, place: int) -> None:
        hull = hulls[name]
        if place < len(hull):
            heapq.heappush(
                waiting, (-_gain(options[name], hull[place - 1], hull[place]), name, place)
            )

    for name in hulls:
        push(name, 1)
    while waiting:
        _, name, place = heapq.heappop(waiting)
        old, new = hulls[name][place - 1], hulls[name][place]
        cost = options[name][new].num_bytes - options[name][old].num_bytes
        # One that is too dear is passed over with all that build on it.
        if cost <= left:
            left -= cost
            chosen[name] = new
            push(name, place + 1)
    return chosen


def least_bytes(options: Mapping[str, Sequence[Option]]) -> int:
    """The bytes of the smallest choice."""
    return sum(min(option.num_bytes for option in found) for found in options.values())


def _hull(found: Sequence[Option]) -> list[int]:
    """The options on the lower convex hull of loss over bytes, the smallest first."""
    order = sorted(range(len(found)), key=lambda i: (found[i].num_bytes, found[i].loss))
    hull: list[int] = []
    for index in order:
        if hull and found[index].loss >= found[hull[-1]].loss:
            continue
        while len(hull) > 1 and _gain(found, hull[-2], hull[-1]) <= _gain(found, hull[-2], index):
            hull.pop()
        hull.append(index)
    return hull


def _gain(found: Sequence[Option], old: int, new: int) -> float:
    """Loss that is saved for each byte."""
    return (found[old].loss - found[new].loss) / (found[new].num_bytes - found[old].num_bytes)
