"""The likeliest continuations of a prompt, by beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cllm.config import GenerateSettings
from cllm.errors import SettingsError
from cllm.infer.beam import BeamSettings, BeamTree, search
from cllm.infer.choices import make_choice
from cllm.infer.passage import prompt_tokens
from cllm.infer.slots import Slots
from cllm.jobs.generate import Notice, Writer
from cllm.jobs.opening import DEFAULT, Decoding
from cllm.text.clean import clean_text
from cllm.text.tokenizers import Tokenizer
from cllm.workspace.workspace import Workspace

__all__ = ["BeamNode", "BeamResult", "BeamSettings", "BeamText", "find_beams", "search_text"]


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
