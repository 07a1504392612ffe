"""What the planner proposes for a text and a budget: shown in words, and editable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from nicegui import ui

from cllm.config import Settings, dotted_fields
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
    ("train.steps", "Steps, instead of a time"),
    ("train.seed", "Seed"),
)


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

    def _tell(self) -> None:
        words = duration(self.minutes * 60)
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
            with ui.element("div").classes("cllm-fields"):
                self._choice("model.preset", "Size", _SIZES)
                self._choice("text.tokenizer", "Tokens are", _TOKENIZERS)
                for name, label in _NUMBERS:
                    field = ui.number(label, precision=0, placeholder="As proposed")
                    field.props("outlined dense stack-label clearable").classes("w-full")
                    field.tooltip(_FIELDS[name].description or "")
                    self.fields[name] = field
            options = {record["name"]: record["name"] for record in set_records()}
            chosen = ui.select({None: "As proposed", "none": "None", **options}, value=None)
            chosen.props('outlined dense stack-label label="Mechanisms"').classes("w-full")
            self.fields["model.mechanisms"] = chosen
            ui.label("Parts that are switched on besides the plain model.").classes("cllm-hint")

    def _choice(self, name: str, label: str, options: Mapping[str | None, str]) -> None:
        field = ui.select(dict(options), value=None, label=label)
        field.props("outlined dense stack-label").classes("w-full")
        self.fields[name] = field

    def settings(self, *, is_new: bool = True) -> dict[str, Any]:
        """What was chosen, by dotted name."""
        chosen: dict[str, Any] = {}
        for name, field in self.fields.items():
            value = field.value
            if value is None or (not is_new and name.startswith(("model.", "text."))):
                continue
            if name == "model.mechanisms":
                value = (value,)
            chosen[name] = int(value) if isinstance(value, float) else value
        return chosen


def show_plan(told: Mapping[str, Any]) -> None:
    """A plan in words and figures."""
    plan = told["plan"]
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


def _vocabulary(plan: Mapping[str, Any]) -> str:
    return f"a vocabulary of {count(plan['vocab_size'])}, {count(plan['context'])} seen at once"


def _machine(plan: Mapping[str, Any]) -> str:
    threads = plan["threads"]
    return f"{plan['engine']} engine, {threads} thread{'s' if threads != 1 else ''}"
