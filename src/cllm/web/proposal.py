"""What the planner proposes for a text and a budget: shown in words, and editable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, final

from nicegui import ui

from cllm.config import Settings, dotted_fields
from cllm.errors import CllmError, ExistsError
from cllm.jobs.mechanisms import set_records
from cllm.quantities import count, duration, short_count, size
from cllm.web.layout import text

# Minutes offered; a line of the budget's slider.
BUDGETS = (1, 2, 5, 10, 20, 30, 60, 120, 240, 480, 720)
_FIELDS = dict(dotted_fields(Settings))
_SIZES = {
    None: "As proposed",
    "tiny": "Tiny",
    "small": "Small",
    "base": "Base",
    "mid": "Middle",
    "large": "Large",
}
_TOKENIZERS = {
    None: "Pieces of words (BPE)",
    "unigram": "Pieces of words (unigram)",
    "wordpiece": "Pieces of words (WordPiece)",
    "words": "Words",
    "characters": "Characters",
    "bytes": "Bytes",
}
# Settings that are numbers, with the names people read.
_NUMBERS = (
    ("model.layers", "Layers"),
    ("model.width", "Width"),
    ("model.heads", "Heads"),
    ("model.context", "Context (tokens)"),
    ("text.vocab-size", "Vocabulary (tokens)"),
    ("train.batch-size", "Batch (windows)"),
    ("train.seed", "Seed"),
    ("train.steps", "Steps, instead of a time"),
)
_LABELS = {
    "model.preset": "Size",
    "text.tokenizer": "Tokens are",
    "model.mechanisms": "Mechanisms",
    **dict(_NUMBERS),
}
# Flags of the command line, and settings by their dotted names.
_SETTING = re.compile(r"(?<!\S)--((?:[a-z]+\.)?[a-z][a-z-]+)|\b((?:model|text|train)\.[a-z-]+)")
_OTHER_WAY = re.compile(r",? or give ((?:model|text|train)\.[a-z-]+)(?: too)?")
# How these are called within a sentence.
_SPOKEN = {"tokenizer": "tokens as", "vocab-size": "vocabulary"}
# Of cllm.training.advice: from 100,000 bytes a model starts to write by itself. A token that
# is a piece of a word has about three of them.
_ENOUGH_BYTES, _BYTES_PER_PIECE = 100_000, 3
# Some hundred words, the least that the planner asks for.
_LEAST_TOKENS = 1000


_WHOLE_ROW = "grid-column: 1 / -1"


@final
class Budget:
    """How long to train: a slider over minutes."""

    def __init__(self, minutes: int = 5) -> None:
        with ui.element("div").classes("cllm-budget"):
            with ui.element("div").classes("cllm-budget-top"):
                text("span", "Time to train")
                self._told = ui.label(duration(minutes * 60)).classes("cllm-budget-time")
            self.slider = ui.slider(min=0, max=len(BUDGETS) - 1, value=BUDGETS.index(minutes))
            self.slider.props('aria-label="Time to train" snap markers')
            self.slider.props["aria-valuetext"] = duration(minutes * 60)
            self.slider.on_value_change(self._tell)
        self._steps: float | None = None

    def give_way(self, steps: float | None) -> None:
        """Show that a number of steps counts instead of the time; None ends that."""
        self._steps = steps
        self.slider.set_enabled(steps is None)
        self._tell()

    def _tell(self) -> None:
        words = duration(self.minutes * 60)
        if self._steps is not None:
            words = f"{count(self._steps)} steps"
        self._told.set_text(words)
        self.slider.props["aria-valuetext"] = words

    @property
    def minutes(self) -> int:
        """The chosen time."""
        return BUDGETS[int(self.slider.value)]


@final
class Details:
    """The settings that most people leave to the planner."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        # Sizes and the vocabulary belong to the model that is gone on with.
        self._shape: list[Any] = []

    def draw(self) -> None:
        """Draw them, folded away."""
        with ui.expansion("Choose more yourself").classes("cllm-details w-full"):
            self._kept = ui.label().classes("cllm-hint")
            self._kept.set_visibility(False)
            with ui.element("div").classes("cllm-fields"):
                self._choice("text.tokenizer", _TOKENIZERS).style(_WHOLE_ROW)
                self._choice("model.preset", _SIZES)
                for name, label in _NUMBERS:
                    field = ui.number(label, precision=0, placeholder="As proposed")
                    field.props("outlined dense stack-label").classes("w-full")
                    field.tooltip(_FIELDS[name].description or "")
                    self.fields[name] = field
                self.fields["train.steps"].style(_WHOLE_ROW)
            options = {record["name"]: record["name"] for record in set_records()}
            chosen = ui.select({None: "As proposed", "none": "None", **options}, value=None)
            chosen.props('outlined dense stack-label label="Mechanisms"').classes("w-full")
            self.fields["model.mechanisms"] = chosen
            note = ui.label("Parts that are switched on besides the plain model.")
            note.classes("cllm-hint")
        shape = [field for name, field in self.fields.items() if _is_of_model(name)]
        self._shape = [*shape, note]

    def _choice(self, name: str, options: Mapping[str | None, str]) -> Any:
        field = ui.select(dict(options), value=None, label=_LABELS[name])
        self.fields[name] = field.props("outlined dense stack-label").classes("w-full")
        return field

    def go_on_with(self, model: str | None) -> None:
        """Hide what a model that is gone on with brings along; None shows it again."""
        for field in self._shape:
            field.set_visibility(model is None)
        self._kept.set_visibility(model is not None)
        self._kept.set_text(f"Size, tokens and mechanisms are those of {model}.")

    def settings(self, *, is_new: bool = True) -> dict[str, Any]:
        """What was chosen, by dotted name."""
        chosen: dict[str, Any] = {}
        for name, field in self.fields.items():
            value = field.value
            if value is None or (not is_new and _is_of_model(name)):
                continue
            if name == "model.mechanisms":
                value = (value,)
            chosen[name] = int(value) if isinstance(value, float) else value
        return chosen


def show_plan(told: Mapping[str, Any]) -> None:
    """A plan in words and figures."""
    plan = told["plan"]
    warning = _little_text(told)
    if warning is not None:
        ui.label(warning).classes("cllm-advice")
    expected, spread = plan["expected_bits_per_byte"], plan["expected_spread"]
    end = f"{count(plan['total_steps'])} steps"
    if plan["total_steps"] is None:
        end = duration((plan["minutes"] or 0) * 60)
    shape = f"{plan['layers']} layers, {plan['width']} wide, {plan['heads']} heads"
    facts = [
        ("Parameters", short_count(plan["num_parameters"]), shape),
        ("Text", f"{short_count(plan['train_tokens'])} tokens", _vocabulary(plan)),
        ("Ends after", end, f"about {short_count(plan['tokens_per_s'])} tokens/s"),
        ("Memory", size(plan["expected_memory_bytes"]), _machine(plan)),
    ]
    if expected is not None:
        between = f"{expected * (1 - spread):.2f} to {expected * (1 + spread):.2f}"
        facts.append(("Expected", between, "bits per byte on text it has not seen"))
    with ui.element("dl").classes("cllm-facts cllm-plan"):
        for name, value, note in facts:
            with ui.element("div"):
                text("dt", name)
                text("dd", value)
                text("dd", note, "cllm-hint")
    if plan["mechanisms"]:
        words = "Switched on: " + ", ".join(plan["mechanisms"]) + "."
        ui.label(words if plan["opens_elsewhere"] else f"{words} Opens in CLLM alone.").classes(
            "cllm-hint"
        )


def _little_text(told: Mapping[str, Any]) -> str | None:
    """A warning where the text is too small to learn from."""
    num_tokens: int = told["plan"]["train_tokens"]
    kind = told["settings"].get("text", {}).get("tokenizer")
    enough = _ENOUGH_BYTES
    if kind not in ("bytes", "characters"):
        enough //= _BYTES_PER_PIECE
    if num_tokens >= enough:
        return None
    will = "mostly learn it by heart"
    if num_tokens < _LEAST_TOKENS:
        will = "only repeat parts of it"
    return (
        f"This is too little text to learn to write from: the model will {will}. "
        "About 100,000 characters are enough for a start, and a million do well."
    )


def in_page_words(error: CllmError) -> CllmError:
    """The same error without what no page has: flags, and settings by their dotted names."""
    hint = error.hint
    if isinstance(error, ExistsError) and hint and "--" in hint:
        hint = "Choose another name."
    message, where = page_words(error.message), error.where
    if where is not None and _SETTING.match(where):
        label = _label(where.removeprefix("--").partition(" ")[0])
        is_named = label is None or label.partition(" ")[0].lower() in message.lower()
        message, where = message if is_named else f"{label}: {message}", None
    return CllmError(message, where=where, hint=None if hint is None else page_words(hint))


def page_words(told: str) -> str:
    """A sentence for people, with plain words for settings."""
    told = _OTHER_WAY.sub(lambda found: "" if _label(found[1]) is None else found[0], told)
    return _SETTING.sub(_in_words, told)


def _in_words(found: re.Match[str]) -> str:
    if found[2] is not None and found[2] not in _FIELDS:
        # A file such as model.safetensors.
        return found[0]
    name = str(found[1] or found[2]).rpartition(".")[2]
    return _SPOKEN.get(name, name.replace("-", " "))


def _label(setting: str) -> str | None:
    """What the form calls a setting, which may lack its first part; None where it has it not."""
    if setting == "with":
        return _LABELS["model.mechanisms"]
    fits = (label for name, label in _LABELS.items() if f".{name}".endswith(f".{setting}"))
    return next(fits, None)


def _is_of_model(setting: str) -> bool:
    return setting.startswith(("model.", "text."))


def _vocabulary(plan: Mapping[str, Any]) -> str:
    return f"a vocabulary of {count(plan['vocab_size'])}, {count(plan['context'])} seen at once"


def _machine(plan: Mapping[str, Any]) -> str:
    threads = plan["threads"]
    return f"{plan['engine']} engine, {threads} thread{'s' if threads != 1 else ''}"
