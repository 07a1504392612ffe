"""Is it copying? What a model writes, and what it is measured on, against its training text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.config import GenerateSettings, TextSettings
from cllm.errors import InputError
from cllm.jobs.model_folder import read_training
from cllm.text.copying import measure_copying
from cllm.text.intake import SkipFile, read_source
from cllm.text.sources import Source

if TYPE_CHECKING:
    from cllm.infer.slots import Slots
    from cllm.text.corpus import Corpus
    from cllm.text.tokenizers import Tokenizer

SAMPLE_TOKENS = 256
_NUM_PROMPTS, _PROMPT_CHARACTERS = 4, 32
# Enough to see a leak; a longer text's end is not compared.
_MOST_CHARACTERS = 4_000_000


@dataclass(frozen=True, slots=True)
class CopiedText:
    """A text and what of it stands verbatim in the training text.

    `share`: part of its characters within verbatim stretches of `min_characters` or more.
    `name`: the prompt of a sample, the source of a file.
    """

    name: str
    characters: int
    longest: str
    longest_characters: int
    share: float
    min_characters: int


@dataclass(frozen=True, slots=True)
class Memorisation:
    """Copying by the model (`samples`) and leaks of the measured files (`sources`)."""

    samples: list[CopiedText]
    sources: list[CopiedText]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the longest stretches and the shares over all."""
        return {
            "longest_characters": max(text.longest_characters for text in self.samples),
            "share": share_of(self.samples),
            "leaked_longest_characters": max(text.longest_characters for text in self.sources),
            "leaked_share": share_of(self.sources),
            **asdict(self),
        }


def share_of(texts: Sequence[CopiedText]) -> float:
    """The share over several texts, by their lengths."""
    total = sum(text.characters for text in texts)
    return sum(text.share * text.characters for text in texts) / total if total else 0.0


def open_training_corpus(folder: Path) -> Corpus:
    """The corpus that the model in `folder` was trained on.

    Raises: InputError when the model does not tell or the corpus is gone, IntegrityError.
    """
    from cllm.text.corpus import Corpus

    place = read_training(folder).get("corpus")
    if not place:
        raise InputError(
            "the model does not tell what it was trained on, so copying can't be measured",
            where=folder,
            hint="Leave out --memorisation.",
        )
    if not Path(place).is_dir():
        raise InputError(
            "the text that the model was trained on is gone, so copying can't be measured",
            where=place,
            hint="Leave out --memorisation, or train again and keep the run or corpus.",
        )
    return Corpus.open(Path(place), verify=False)


def measure_memorisation(
    slots: Slots,
    tokenizer: Tokenizer,
    corpus: Corpus,
    sources: Sequence[Source],
    settings: TextSettings,
) -> Memorisation:
    """Compare what the model writes, and the files, with the text it was trained on."""
    texts = {source.name: text for source in sources if (text := _read(source, settings))}
    prompts = ["", *_prompts(list(texts.values()))]
    return Memorisation(
        samples=[
            _compare(prompt, _sample(slots, tokenizer, prompt, number), corpus)
            for number, prompt in enumerate(prompts)
        ],
        sources=[_compare(name, text, corpus) for name, text in texts.items()],
    )


def _read(source: Source, settings: TextSettings) -> str:
    pieces: list[str] = []
    try:
        for document in read_source(source, settings):
            pieces.append(document.text)
            if sum(map(len, pieces)) >= _MOST_CHARACTERS:
                break
    except SkipFile:
        return ""
    return "".join(pieces)[:_MOST_CHARACTERS]


def _prompts(texts: Sequence[str]) -> list[str]:
    """Some words from line beginnings at places spread over the texts."""
    whole = "\n".join(text[: _MOST_CHARACTERS // len(texts)] for text in texts)
    prompts = []
    for number in range(_NUM_PROMPTS):
        start = len(whole) * number // _NUM_PROMPTS
        line = whole[0 if start == 0 else whole.find("\n", start) + 1 :][:400].lstrip()
        words = line[:_PROMPT_CHARACTERS]
        prompts.append(words.rsplit(" ", 1)[0] if " " in words else words)
    return list(dict.fromkeys(prompt for prompt in prompts if prompt))


def _sample(slots: Slots, tokenizer: Tokenizer, prompt: str, number: int) -> str:
    from cllm.infer.completion import Completion
    from cllm.infer.passage import prompt_tokens

    settings = GenerateSettings(max_tokens=SAMPLE_TOKENS)
    ids = prompt_tokens(tokenizer, prompt)
    return Completion(slots, tokenizer, ids, settings, sample=number).run().text


def _compare(name: str, text: str, corpus: Corpus) -> CopiedText:
    found = measure_copying(text, corpus)
    return CopiedText(
        name=name,
        characters=len(text),
        longest=found.longest,
        longest_characters=found.longest_characters,
        share=found.share,
        min_characters=found.min_characters,
    )
