"""Let a model continue a prompt."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cllm.config import GenerateSettings
from cllm.errors import SettingsError
from cllm.infer.batch import write_all
from cllm.infer.completion import Completion
from cllm.infer.constraints import Form, Grammar
from cllm.infer.passage import Passage, TokenScore, prompt_tokens
from cllm.jobs.opening import DEFAULT, Decoding, drafting_of, open_model
from cllm.text.clean import clean_text
from cllm.workspace.workspace import Workspace

OnText = Callable[[int, str], None]
Notice = Callable[[str], None]

_MOST_UNKNOWN_SHOWN = 8
# More texts at once bring no more tokens a second, but take memory.
_MOST_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class FormRequest:
    """The form that the text must have; `where` is the flag that errors name."""

    form: Form
    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written: how many texts, of which form, and with how many alternatives.

    `num_alternatives` asks for each token's log-probability and those of as many others.
    """

    num_samples: int = 1
    form: FormRequest | None = None
    num_alternatives: int | None = None


ONE_TEXT = Wanted()


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation; `finish` says why it ended; `scores` its tokens', if they were wanted."""

    text: str
    tokens: int
    finish: str
    scores: list[TokenScore] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        value: dict[str, Any] = {"text": self.text, "tokens": self.tokens, "finish": self.finish}
        return value | ({} if self.scores is None else {"logprobs": _plain(self.scores)})


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """What was written and how fast; the first sample stands for itself.

    `tokens` counts all samples; `seconds_to_first_token` begins when the model is loaded.
    `windowed`: the prompt is longer than the context, and only its end was seen. `unknown`:
    pieces of the prompt that the model has no word for.
    """

    model: str
    text: str
    tokens: int
    tokens_per_s: float
    seconds_to_first_token: float | None
    seconds_to_load: float
    finish: str
    prompt_tokens: int
    windowed: bool
    unknown: list[str]
    seed: int
    samples: list[Sample]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `samples` only when there are several."""
        value = {key: item for key, item in asdict(self).items() if key != "samples"}
        if len(self.samples) > 1:
            return value | {"samples": [sample.to_json() for sample in self.samples]}
        return value | self.samples[0].to_json()


def _plain(scores: Sequence[TokenScore]) -> list[dict[str, Any]]:
    return [
        {
            "id": score.token_id,
            "token": score.text,
            "logprob": score.log_probability,
            "top": [
                {"id": token_id, "token": text, "logprob": value}
                for token_id, text, value in score.alternatives
            ],
        }
        for score in scores
    ]


class Writer:
    """A model opened for writing; `notice` is a line where it runs the slower way.

    Raises: IntegrityError naming the file that is damaged, SettingsError.
    """

    def __init__(
        self, folder: Path, home: Path, decoding: Decoding = DEFAULT, *, num_slots: int = 1
    ) -> None:
        opened = open_model(
            folder, home, threads=decoding.threads, cache=decoding.cache, num_slots=num_slots
        )
        self.opened = opened
        self.tokenizer, self.slots, self.notice = opened.tokenizer, opened.slots, opened.notice
        self.drafting = drafting_of(opened, decoding.speculate)

    @property
    def context(self) -> int:
        """Tokens the model sees at once."""
        return self.slots.decoder.context

    def complete(
        self,
        prompt: str,
        settings: GenerateSettings,
        *,
        sample: int = 0,
        num_alternatives: int | None = None,
        is_rendered: bool = False,
    ) -> Completion:
        """The continuation of a prompt, to be iterated. Raises: SettingsError, InputError.

        `is_rendered`: a chat template made the prompt.
        """
        return Completion(
            self.slots,
            self.tokenizer,
            prompt_tokens(self.tokenizer, clean_text(prompt), is_rendered=is_rendered),
            settings,
            sample=sample,
            num_alternatives=num_alternatives,
            drafting=self.drafting,
        )

    def passages(
        self, prompts: Sequence[str], settings: GenerateSettings, wanted: Wanted
    ) -> list[Passage]:
        """`num_samples` texts for each prompt, yet to be written by `write_all`.

        Raises: SettingsError, InputError.
        """
        decoder = self.slots.decoder
        grammar = wanted.form and Grammar(
            self.tokenizer,
            wanted.form.form,
            wanted.form.text,
            vocab_size=decoder.vocab_size,
            where=wanted.form.where,
        )
        return [
            Passage(
                decoder,
                self.tokenizer,
                prompt_tokens(self.tokenizer, clean_text(prompt)),
                settings,
                sample=sample,
                constraint=grammar.begin() if grammar else None,
                num_alternatives=wanted.num_alternatives,
                drafting=self.drafting,
            )
            for prompt in prompts
            for sample in range(wanted.num_samples)
        ]

    def unknown_pieces(self, prompt: str) -> list[str]:
        """Words (or characters) of a prompt that the vocabulary lacks, each once."""
        tokenizer, prompt = self.tokenizer, clean_text(prompt)
        if not tokenizer.unknown_bytes(prompt):
            return []
        pieces = list(prompt) if tokenizer.kind == "characters" else _PIECE.findall(prompt)
        return [piece for piece in dict.fromkeys(pieces) if tokenizer.unknown_bytes(piece)]

    def notices(self, prompt: str) -> list[str]:
        """What the person should know of the model and of this prompt."""
        notices, unknown = [] if self.notice is None else [self.notice], self.unknown_pieces(prompt)
        if unknown:
            shown = ", ".join(repr(piece) for piece in unknown[:_MOST_UNKNOWN_SHOWN])
            more = len(unknown) - _MOST_UNKNOWN_SHOWN
            more_shown = f" and {more} more" if more > 0 else ""
            notices.append(f"The model has no token for {shown}{more_shown} of the prompt.")
        num_tokens = len(prompt_tokens(self.tokenizer, clean_text(prompt)))
        if num_tokens > self.context:
            notices.append(
                f"The prompt has {num_tokens:,} tokens, the model sees {self.context:,} at once: "
                "only its end counts."
            )
        return notices


_PIECE = re.compile(r"\w+|\n|[^\S\n]+|[^\w\s]")


def slots_for(num_texts: int) -> int:
    """How many of some texts are written at once."""
    return min(num_texts, _MOST_AT_ONCE)


def generate(
    model: str,
    prompt: str,
    settings: GenerateSettings,
    *,
    workspace: Workspace,
    wanted: Wanted = ONE_TEXT,
    decoding: Decoding = DEFAULT,
    on_text: OnText | None = None,
    on_notice: Notice | None = None,
) -> GenerateResult:
    """Write continuations together, each with a seed of its own made from `settings.seed`.

    `on_text` gets the number of the sample and each piece of text as it comes, one sample
    after another. Raises: NotFoundError, IntegrityError, SettingsError, InputError.
    """
    if wanted.num_samples < 1:
        raise SettingsError(f"{wanted.num_samples} continuations can't be written", where="-n")
    began = time.perf_counter()
    folder = workspace.models.path(model)
    num_slots = slots_for(wanted.num_samples)
    writer = Writer(folder, workspace.home, decoding, num_slots=num_slots)
    loaded = time.perf_counter()
    passages = writer.passages([prompt], settings, wanted)
    tell = on_notice or (lambda _: None)
    for notice in writer.notices(prompt):
        tell(notice)
    start, first = time.perf_counter(), None
    for number, piece in in_order(write_all(writer.slots, passages), passages):
        first = first or time.perf_counter()
        if on_text is not None:
            on_text(number, piece)
    seconds = time.perf_counter() - start
    if any(_is_cut(passage) for passage in passages):
        tell(f"The text was cut at {settings.max_tokens:,} tokens, before its form was complete.")
    samples = [
        Sample(
            passage.text,
            len(passage.ids),
            str(passage.finish),
            None if wanted.num_alternatives is None else passage.scores,
        )
        for passage in passages
    ]
    num_tokens = sum(sample.tokens for sample in samples)
    return GenerateResult(
        model=model,
        text=samples[0].text,
        tokens=num_tokens,
        tokens_per_s=num_tokens / max(seconds, 1e-9),
        seconds_to_first_token=first and first - start,
        seconds_to_load=loaded - began,
        finish=samples[0].finish,
        prompt_tokens=len(prompt_tokens(writer.tokenizer, clean_text(prompt))),
        windowed=passages[0].windowed,
        unknown=writer.unknown_pieces(prompt),
        seed=settings.seed,
        samples=samples,
    )


def _is_cut(passage: Passage) -> bool:
    """Whether a text ended before it had its form."""
    form = passage.constraint
    return form is not None and passage.finish == "length" and not form.is_satisfied


def in_order(
    pieces: Iterator[tuple[int, str]], passages: Sequence[Passage]
) -> Iterator[tuple[int, str]]:
    """Pieces of several texts as they come, but those of a text only when the last has ended."""
    held = [""] * len(passages)
    current = 0
    for number, piece in pieces:
        # Of one step, the pieces come in the order of the texts.
        while current < number and passages[current].finish is not None:
            current += 1
            if held[current]:
                yield current, held[current]
                held[current] = ""
        if number == current:
            yield number, piece
        else:
            held[number] += piece
    for number in range(current, len(passages)):
        if held[number]:
            yield number, held[number]
