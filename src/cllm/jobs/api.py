"""CLLM from Python: train a model, load one, let it write, measure it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.config import GenerateSettings, Settings, resolve
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.infer.completion import Completion
    from cllm.jobs.beam import BeamResult
    from cllm.jobs.generate import Writer
    from cllm.jobs.inspect import Inspection
    from cllm.jobs.opening import CacheKind, Decoding, Speculate
    from cllm.training.events import Observe, TrainResult


class Model:
    """A model on this machine, loaded when it is first used; several threads may use it.

    `result` tells how its training went when it has just been trained, else None. `threads`,
    `cache` ("float32", "bfloat16", "int8") and `speculate` ("auto", "on", "off") say how it is
    run; the texts are the same with any threads, speculating or not.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        result: TrainResult | None = None,
        *,
        home: Path | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        self.name, self.folder, self.result = name, folder, result
        self._home = home or Workspace().home
        self._decoding = decoding
        self._writers: dict[int, Writer] = {}
        self._loaded: Any = None
        self._opening, self._scoring = threading.Lock(), threading.Lock()

    def __repr__(self) -> str:
        return f"<cllm.Model {self.name!r} in {self.folder}>"

    def generate(self, prompt: str = "", **settings: Any) -> str:
        """Continue a prompt; returns the continuation alone.

        `settings` are those of `GenerateSettings`: max_tokens, temperature, top_k, top_p,
        min_p, typical_p, repetition_penalty, frequency_penalty, presence_penalty, logit_bias,
        stop, seed. Raises: SettingsError, IntegrityError.
        """
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """Continue a prompt piece by piece. Raises: SettingsError, IntegrityError."""
        return iter(self.complete(prompt, **settings))

    def complete(
        self, prompt: str = "", *, logprobs: int | None = None, **settings: Any
    ) -> Completion:
        """A continuation to be iterated or `run()`, with its tokens and why it ended.

        With `logprobs` its `scores` are each token's log-probability and those of so many
        likeliest ones; `cancel()` ends it from another thread. Raises: as `generate`.
        """
        chosen = resolve(GenerateSettings, settings)
        return self._writer(1).complete(prompt, chosen, num_alternatives=logprobs)

    def batch(self, prompts: Sequence[str], **settings: Any) -> list[str]:
        """Continue several prompts together, which is faster; each text is the same as alone.

        Raises: as `generate`.
        """
        from cllm.infer.batch import write_all
        from cllm.jobs.generate import ONE_TEXT, slots_for

        chosen = resolve(GenerateSettings, settings)
        if not prompts:
            return []
        writer = self._writer(slots_for(len(prompts)))
        passages = writer.passages(list(prompts), chosen, ONE_TEXT)
        for _ in write_all(writer.slots, passages):
            pass
        return [passage.text for passage in passages]

    def beam(
        self,
        prompt: str = "",
        *,
        beams: int = 4,
        groups: int = 1,
        length_penalty: float = 1.0,
        max_tokens: int = 64,
        **settings: Any,
    ) -> BeamResult:
        """The likeliest continuations, best first, and the tree of all that was followed.

        Of the other settings, those of bias and penalties count. Raises: as `generate`.
        """
        from cllm.infer.beam import BeamSettings
        from cllm.jobs.beam import search_text

        chosen = resolve(GenerateSettings, settings)
        wanted = BeamSettings(
            beams=beams, groups=groups, length_penalty=length_penalty, max_tokens=max_tokens
        )
        writer = self._writer(beams)
        return search_text(self.name, writer.slots, writer.tokenizer, prompt, chosen, wanted)

    def inspect(self, text: str, *, window: int = 1) -> Inspection:
        """What the model expects at each token, its attention, hidden states and their lens.

        `window` chooses the part whose attention is kept, where the text is longer than the
        context. Raises: InputError, SettingsError, IntegrityError.
        """
        from cllm.jobs.inspect import inspect_text
        from cllm.jobs.inspect_lens import open_head
        from cllm.model.files import read_spec

        writer, head = self._writer(1), open_head(self.folder, read_spec(self.folder))
        opened, tokenizer = writer.opened, writer.tokenizer
        return inspect_text(self.name, opened, tokenizer, head, text, window=window)

    def _writer(self, num_texts: int) -> Writer:
        """The model opened with room for so many texts."""
        from cllm.jobs.generate import Writer
        from cllm.jobs.opening import DEFAULT

        with self._opening:
            found = self._writers.get(num_texts)
            if found is None:
                # One with more room than for one text is kept beside that for one.
                self._writers = {count: kept for count, kept in self._writers.items() if count == 1}
                found = Writer(
                    self.folder, self._home, self._decoding or DEFAULT, num_slots=num_texts
                )
                self._writers[num_texts] = found
            return found

    def bits_per_byte(self, text: str, *, stride: int | None = None) -> float:
        """Bits this model needs to write one byte of `text` (UTF-8) down; lower is better.

        Every token is scored once, in windows that overlap by half unless `stride` says
        otherwise. NaN for an empty text.
        """
        from cllm.training.scoring import ArrayTokens, bits_per_byte, score_tokens

        with self._scoring:
            scorer, tokenizer = self._load()
            score = score_tokens(
                scorer,
                ArrayTokens(tokenizer.encode(text)),
                eos_id=tokenizer.eos_id,
                unk_id=tokenizer.unk_id,
                stride=stride or max(1, scorer.context // 2),
            )
        return bits_per_byte(
            score,
            num_scored=score.num_tokens,
            num_bytes=len(text.encode()),
            charged_bytes=tokenizer.unknown_bytes(text),
        )

    def _load(self) -> Any:
        if self._loaded is None:
            from cllm.jobs.scorers import open_scorer
            from cllm.text.tokenizers import Tokenizer

            scorer = open_scorer(self.folder, self._home)
            self._loaded = (scorer, Tokenizer.load(self.folder))
        return self._loaded


def train(
    places: str | Path | Sequence[str | Path],
    *,
    name: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    overwrite: bool = False,
    observe: Observe | None = None,
    home: Path | None = None,
) -> Model:
    """Train a model on files, folders or globs, for some minutes or steps, and save it.

    `settings` are dotted names (`{"model.width": 96}`) or a whole `Settings`. Without a name
    the model is called after the first place. `observe` is told what happens. `home` is where
    models are kept (default: CLLM_HOME).
    Raises: CllmError; InterruptedRunError on Ctrl-C, with the state saved.
    """
    from cllm.jobs.train import train as run_training

    began = time.monotonic()
    workspace = Workspace(home)
    sources = [places] if isinstance(places, str | Path) else list(places)
    if not isinstance(settings, Settings):
        overrides = {**(settings or {}), "train.minutes": minutes, "train.steps": steps}
        settings = resolve(Settings, overrides)
    chosen = name or workspace.models.free_name(Path(sources[0]).stem or "model")
    result = run_training(
        sources,
        name=chosen,
        settings=settings,
        workspace=workspace,
        observe=observe or _ignore,
        overwrite=overwrite,
        began=began,
    )
    return Model(chosen, workspace.models.path(chosen), result, home=workspace.home)


def _ignore(event: object) -> None:
    del event


def load(
    name: str,
    *,
    home: Path | None = None,
    threads: int | None = None,
    cache: CacheKind = "float32",
    speculate: Speculate = "auto",
) -> Model:
    """The model of that name. Raises: NotFoundError with the nearest names."""
    from cllm.jobs.opening import Decoding

    workspace = Workspace(home)
    decoding = Decoding(threads=threads, cache=cache, speculate=speculate)
    return Model(name, workspace.models.path(name), home=workspace.home, decoding=decoding)
