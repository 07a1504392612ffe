"""Beam search: the likeliest whole texts, found by following several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64

from cllm.errors import SettingsError
from cllm.infer import samplers
from cllm.infer.decoder import Feeds
from cllm.native.stream import Choice, Feed

# Of a group of n beams, at most this many times n tokens are looked at after each.
_LOOKED_AT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamSettings:
    """How many texts are followed, and which is the best.

    A text's score is its log-probability ÷ ((5 + tokens) / 6)^`length_penalty`. In groups, a
    token that n beams of earlier groups have just taken costs n · `diversity` nats in the choice,
    not in the score. `is_exhaustive` goes on until no text that is still followed can get a
    better score than those that are found; else each group ends when it has found its number.
    """

    beams: int = 4
    groups: int = 1
    length_penalty: float = 1.0
    diversity: float = 0.5
    is_exhaustive: bool = True
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise SettingsError(f"{self.beams} beams can't be followed", where="--beams")
        if self.groups < 1 or self.beams % self.groups:
            message = f"{self.beams} beams can't be dealt out to {self.groups} groups evenly"
            raise SettingsError(message, where="--beam-groups")


@dataclass(frozen=True, slots=True)
class Node:
    """A token of the tree: `parent` is the node before it, None after the prompt."""

    parent: int | None
    token_id: int
    log_probability: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that was found: its tokens without eos, log-probability (with it), score and end.

    `node` is its last token's, None for the empty text.
    """

    ids: tuple[int, ...]
    log_probability: float
    score: float
    finish: Literal["end of text", "length"]
    group: int
    node: int | None


@dataclass(frozen=True, slots=True)
class BeamTree:
    """All that was followed, and the texts found, best first."""

    nodes: list[Node]
    hypotheses: list[Hypothesis]


@dataclass(frozen=True, slots=True)
class _Beam:
    slot: int
    logits: Float64[np.ndarray, " V"]
    ids: tuple[int, ...] = ()
    log_probability: float = 0.0
    node: int | None = None


def search(
    decoder: Feeds,
    prompt_ids: Sequence[int],
    settings: BeamSettings,
    *,
    eos_id: int | None,
    choice: Choice | None = None,
) -> BeamTree:
    """The likeliest continuations of a prompt, of whose bias and penalties `choice` tells.

    The decoder has a slot for each beam, and nobody else uses these. Cost: `beams` tokens a step.
    Source: length normalisation: Wu et al. 2016, arXiv:1609.08144; groups: Vijayakumar et al.
    2016, arXiv:1610.02424.
    """
    assert decoder.num_slots >= settings.beams, "the caller opens one with enough slots"
    found = _Search(decoder, settings, eos_id, choice or Choice(), tuple(prompt_ids))
    return found.run()


class _Search:
    def __init__(
        self,
        decoder: Feeds,
        settings: BeamSettings,
        eos_id: int | None,
        choice: Choice,
        prompt_ids: tuple[int, ...],
    ) -> None:
        self._decoder, self._settings, self._eos_id = decoder, settings, eos_id
        self._choice, self._prompt = choice, prompt_ids[-decoder.context :]
        self._size = settings.beams // settings.groups
        self._nodes: list[Node] = []
        self._found: list[list[Hypothesis]] = [[] for _ in range(settings.groups)]

    def run(self) -> BeamTree:
        """Step by step until every group has ended."""
        decoder = self._decoder
        for slot in range(decoder.num_slots):
            decoder.truncate(slot, 0)
        [first] = decoder.feed([Feed(0, self._prompt)])
        logits = first.astype(np.float64)
        # Every group begins with the one beam there is; children get slots of their own.
        groups = [[_Beam(0, logits)] for _ in range(self._settings.groups)]
        for length in range(1, self._settings.max_tokens + 1):
            is_last = length == self._settings.max_tokens
            chosen = self._step(groups, is_last=is_last)
            if not any(chosen):
                break
            groups = self._feed(chosen)
        ranked = [hypothesis for found in self._found for hypothesis in found]
        ranked.sort(key=lambda hypothesis: -hypothesis.score)
        return BeamTree(self._nodes, ranked)

    def _step(self, groups: list[list[_Beam]], *, is_last: bool) -> list[list[_Beam]]:
        """The beams that each group follows on; they still have their parents' slots."""
        taken = np.zeros(self._decoder.vocab_size)
        chosen = []
        for number, beams in enumerate(groups):
            following = self._of_group(number, beams, taken) if beams else []
            for beam in following:
                taken[beam.ids[-1]] += 1
                if is_last:
                    self._keep(number, beam, "length")
            is_done = is_last or self._is_done(number, following)
            chosen.append([] if is_done else following)
        return chosen

    def _of_group(
        self,
        number: int,
        beams: list[_Beam],
        taken: Float64[np.ndarray, " V"],
    ) -> list[_Beam]:
        """The beams that follow in one group; those that end are kept."""
        following: list[_Beam] = []
        for rank, (beam, token_id, step) in enumerate(self._candidates(beams, taken)):
            total = beam.log_probability + step
            if token_id == self._eos_id:
                # As everywhere, an end that is not among the best of its group is none.
                if rank < self._size:
                    self._keep(number, replace(beam, log_probability=total), "end of text")
                continue
            self._nodes.append(Node(beam.node, token_id, step))
            child = replace(
                beam,
                ids=(*beam.ids, token_id),
                log_probability=total,
                node=len(self._nodes) - 1,
            )
            following.append(child)
            if len(following) == self._size:
                break
        return following

    def _candidates(
        self, beams: list[_Beam], taken: Float64[np.ndarray, " V"]
    ) -> list[tuple[_Beam, int, float]]:
        """(beam, token, its log-probability), the best by what it and its beam come to first."""
        steps = np.stack([self._log_probabilities(beam) for beam in beams])
        totals = steps + np.array([beam.log_probability for beam in beams])[:, None]
        ranked = (totals - self._settings.diversity * taken).ravel()
        # Of equals the earlier beam first, and of its tokens the lowest id.
        order = np.argsort(-ranked, kind="stable")[: _LOOKED_AT * self._size]
        places = [divmod(int(at), self._decoder.vocab_size) for at in order]
        return [
            (beams[row], token_id, float(steps[row, token_id]))
            for row, token_id in places
            if np.isfinite(ranked[row * self._decoder.vocab_size + token_id])
        ]

    def _log_probabilities(self, beam: _Beam) -> Float64[np.ndarray, " V"]:
        size = self._decoder.vocab_size
        written = np.bincount(np.array(beam.ids, np.int64), minlength=size)
        seen = written + np.bincount(np.array(self._prompt, np.int64), minlength=size)
        logits = samplers.add_bias(beam.logits, self._choice.bias)
        return samplers.log_softmax(
            samplers.penalise(logits, self._choice, seen=seen, written=written)
        )

    def _keep(self, group: int, beam: _Beam, finish: Literal["end of text", "length"]) -> None:
        """Count a text among the found, of which each group has at most its number of beams."""
        length = len(beam.ids) + (finish == "end of text")
        score = self._score(beam.log_probability, length)
        found = self._found[group]
        found.append(Hypothesis(beam.ids, beam.log_probability, score, finish, group, beam.node))
        found.sort(key=lambda hypothesis: -hypothesis.score)
        del found[self._size :]

    def _score(self, log_probability: float, length: int) -> float:
        return float(log_probability / ((5 + length) / 6) ** self._settings.length_penalty)

    def _is_done(self, number: int, following: list[_Beam]) -> bool:
        found = self._found[number]
        if not following or len(found) < self._size:
            return not following
        if not self._settings.is_exhaustive:
            return True
        # A log-probability only falls; what may still raise the score is the length.
        grows = self._settings.length_penalty > 0
        beam = max(following, key=lambda beam: beam.log_probability)
        length = self._settings.max_tokens if grows else len(beam.ids) + 1
        return self._score(beam.log_probability, length) <= found[-1].score

    def _feed(self, groups: list[list[_Beam]]) -> list[list[_Beam]]:
        """Give every beam a slot of its own, and feed it its last token."""
        decoder = self._decoder
        beams = [beam for group in groups for beam in group]
        parents = {beam.slot for beam in beams}
        free = [slot for slot in range(decoder.num_slots) if slot not in parents]
        unclaimed, slots = set(parents), []
        for beam in beams:
            # The first child goes on in its parent's slot, the others in copies of it.
            if beam.slot in unclaimed:
                unclaimed.remove(beam.slot)
                slots.append(beam.slot)
                continue
            slots.append(free.pop())
            was_copied = decoder.copy(beam.slot, slots[-1], decoder.length(beam.slot))
            assert was_copied, "all that a slot holds can be copied"
        logits = decoder.feed(
            [Feed(slot, beam.ids[-1:]) for slot, beam in zip(slots, beams, strict=True)]
        )
        fed = iter(
            replace(beam, slot=slot, logits=row.astype(np.float64))
            for slot, beam, row in zip(slots, beams, logits, strict=True)
        )
        return [[next(fed) for _ in group] for group in groups]
