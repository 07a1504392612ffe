"""The likeliest continuations of a prompt, by beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32

from cllm.config import GenerateSettings
from cllm.errors import SettingsError
from cllm.infer.beam import BeamSettings, BeamTree, search
from cllm.infer.choices import make_choice
from cllm.infer.passage import prompt_tokens
from cllm.infer.scheduler import BusyError
from cllm.infer.slots import Slots
from cllm.jobs.generate import Notice, Writer
from cllm.jobs.opening import DEFAULT, Decoding, OpenModel, open_model
from cllm.native.stream import Feed
from cllm.text.clean import clean_text
from cllm.text.tokenizers import Tokenizer
from cllm.workspace.workspace import Workspace

__all__ = [
    "BeamNode",
    "BeamResult",
    "BeamSettings",
    "BeamText",
    "find_beams",
    "find_beams_open",
    "search_text",
]

# Tokens of a prompt that are read before others have their turn.
_PART = 64


@dataclass(frozen=True, slots=True)
class BeamText:
    """A text that was found; `node` is its last token's place in `nodes`."""

    text: str
    tokens: int
    log_probability: float
    score: float
    finish: str
    group: int
    node: int | None


@dataclass(frozen=True, slots=True)
class BeamNode:
    """A token that was followed; `parent` is the place of the one before it."""

    parent: int | None
    id: int
    token: str
    log_probability: float


@dataclass(frozen=True, slots=True)
class BeamResult:
    """The texts found, best first, and the tree of all tokens that were followed."""

    model: str
    text: str
    samples: list[BeamText]
    nodes: list[BeamNode]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "text": self.text,
            "samples": [_record(sample) for sample in self.samples],
            "nodes": [_record(node) for node in self.nodes],
        }


def _record(item: BeamText | BeamNode) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__slots__}


def find_beams(
    model: str,
    prompt: str,
    settings: GenerateSettings,
    beams: BeamSettings,
    *,
    workspace: Workspace,
    decoding: Decoding = DEFAULT,
    on_notice: Notice | None = None,
) -> BeamResult:
    """Follow `beams` texts at once; of `settings` bias and penalties count.

    Raises: NotFoundError, IntegrityError, SettingsError, InputError.
    """
    if settings.stop:
        message = "stop strings do not go together with beams"
        raise SettingsError(message, where="--stop", hint="Leave one of the two out.")
    folder = workspace.models.path(model)
    writer = Writer(folder, workspace.home, decoding, num_slots=beams.beams)
    if on_notice is not None:
        for notice in writer.notices(prompt):
            on_notice(notice)
    return search_text(model, writer.slots, writer.tokenizer, prompt, settings, beams)


def find_beams_open(
    model: str,
    opened: OpenModel,
    prompt: str,
    settings: GenerateSettings,
    beams: BeamSettings,
    *,
    folder: Path,
    home: Path,
) -> BeamResult:
    """The same with a model that is open already, and that may write for others meanwhile.

    Only where it has no slot more than `beams` is it read again, from `folder`, for this one
    search: one slot always stays for others. Raises: SettingsError, BusyError, IntegrityError.
    """
    if opened.decoder.num_slots <= beams.beams:
        with opened.searching:
            own = open_model(folder, home, num_slots=beams.beams)
            try:
                return search_text(model, own.slots, own.tokenizer, prompt, settings, beams)
            finally:
                own.close()
    tokenizer = opened.tokenizer
    ids = prompt_tokens(tokenizer, clean_text(prompt))
    choice = make_choice(settings, tokenizer, opened.decoder.vocab_size)
    # Two searches at once could take all slots, and texts would wait for both.
    with opened.searching, _Share(opened.slots, beams.beams) as share:
        return _result(
            model, tokenizer, search(share, ids, beams, eos_id=tokenizer.eos_id, choice=choice)
        )


@final
class _Share:
    """Some slots of a decoder that others use, too, as a decoder of their own.

    It has the decoder from the first call of a step on until tokens are fed; in between others
    have their turn. Entering raises BusyError where too few are free.
    """

    def __init__(self, slots: Slots, count: int) -> None:
        self._slots, self._count = slots, count
        self._mine: list[int] = []
        self._has_lock = False

    def __enter__(self) -> _Share:
        with self._slots.lock:
            while len(self._mine) < self._count:
                place = self._slots.take([], self)
                if place is None:
                    self._give_back()
                    hint = "Ask again in a while."
                    raise BusyError("the model is writing too many texts at once", hint=hint)
                self._mine.append(place.slot)
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()
        self._give_back()

    def _give_back(self) -> None:
        for slot in self._mine:
            self._slots.give_back(slot, self)

    def held(self) -> list[int]:
        """Nothing that somebody could go on from."""
        return []

    @property
    def context(self) -> int:
        """Most tokens that a slot holds."""
        return self._slots.decoder.context

    @property
    def vocab_size(self) -> int:
        """V."""
        return self._slots.decoder.vocab_size

    @property
    def num_slots(self) -> int:
        """How many texts it can remember at once."""
        return self._count

    def feed(self, feeds: Sequence[Feed], *, every: bool = False) -> Float32[np.ndarray, "R V"]:
        """As the decoder's; a long text in parts."""
        real = [Feed(self._mine[feed.slot], feed.ids) for feed in feeds]
        while len(real) == 1 and len(real[0].ids) > _PART and not every:
            self._hold()
            self._slots.decoder.feed([Feed(real[0].slot, real[0].ids[:_PART])])
            self._let_go()
            real = [Feed(real[0].slot, real[0].ids[_PART:])]
        self._hold()
        try:
            return self._slots.decoder.feed(real, every=every)
        finally:
            self._let_go()

    def length(self, slot: int) -> int:
        """As the decoder's."""
        self._hold()
        return self._slots.decoder.length(self._mine[slot])

    def truncate(self, slot: int, length: int) -> bool:
        """As the decoder's."""
        self._hold()
        return self._slots.decoder.truncate(self._mine[slot], length)

    def copy(self, source: int, target: int, length: int) -> bool:
        """As the decoder's."""
        self._hold()
        return self._slots.decoder.copy(self._mine[source], self._mine[target], length)

    def _hold(self) -> None:
        if not self._has_lock:
            self._slots.lock.acquire()
            self._has_lock = True

    def _let_go(self) -> None:
        if self._has_lock:
            self._has_lock = False
            self._slots.lock.release()


def search_text(
    model: str,
    slots: Slots,
    tokenizer: Tokenizer,
    prompt: str,
    settings: GenerateSettings,
    beams: BeamSettings,
) -> BeamResult:
    """The search in slots that nobody else uses at the time; they remember nothing after it."""
    ids = prompt_tokens(tokenizer, clean_text(prompt))
    choice = make_choice(settings, tokenizer, slots.decoder.vocab_size)
    with slots.lock:
        slots.forget()
        tree = search(slots.decoder, ids, beams, eos_id=tokenizer.eos_id, choice=choice)
    return _result(model, tokenizer, tree)


def _result(model: str, tokenizer: Tokenizer, tree: BeamTree) -> BeamResult:
    def decode(ids: Sequence[int]) -> str:
        return tokenizer.decode(list(ids))

    samples = [
        BeamText(
            decode(found.ids),
            len(found.ids),
            found.log_probability,
            found.score,
            found.finish,
            found.group,
            found.node,
        )
        for found in tree.hypotheses
    ]
    nodes = [
        BeamNode(node.parent, node.token_id, decode([node.token_id]), node.log_probability)
        for node in tree.nodes
    ]
    return BeamResult(model, samples[0].text, samples, nodes)
