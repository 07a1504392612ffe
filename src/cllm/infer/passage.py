"""A text that is being written: tokens become characters, stop strings and forms end it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int32

from cllm.config import GenerateSettings
from cllm.errors import SettingsError
from cllm.infer.choices import make_choice
from cllm.infer.constraints import Constraint
from cllm.infer.decoder import Decoder
from cllm.infer.slots import Place
from cllm.infer.stop_strings import StopStrings
from cllm.native.drafts import Drafts
from cllm.native.stream import Stream
from cllm.text.tokenizers import Tokenizer

Finish = Literal["length", "end of text", "stop string", "form", "cancelled", "error"]

# Random numbers are drawn, and tokens counted, in stretches of this many.
_STRETCH = 4096


def prompt_tokens(tokenizer: Tokenizer, prompt: str, *, is_rendered: bool = False) -> list[int]:
    """The ids of a prompt; an empty one begins after the end-of-text token.

    `is_rendered`: a chat template made it, which may have written special tokens.
    """
    ids = tokenizer.encode_rendered(prompt) if is_rendered else tokenizer.encode(prompt)
    found, begin = [int(token) for token in ids], list(tokenizer.begin_ids)
    if is_rendered and found[: len(begin)] == begin:
        begin = []
    return [*begin, *found] or [tokenizer.eos_id]


@dataclass(frozen=True, slots=True, eq=False)
class Drafting:
    """How far tokens are guessed ahead; see `Stream`. It changes the time alone."""

    most: int = 0
    drafts: Drafts | None = None
    cost: float = 0.2


NO_DRAFTING = Drafting()


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A written token: its log-probability under the model, and those of the likeliest.

    In nats, before temperature and whatever else decides the choice.
    """

    token_id: int
    text: str
    log_probability: float
    alternatives: tuple[tuple[int, str, float], ...]


class Passage:
    """What follows a prompt, as far as it is written.

    Of a prompt longer than the context only the end is seen (`windowed`). `text` holds whole
    characters only, without the prompt and without the stop string that may have ended it;
    `ids` its tokens; `scores` each token's, when `num_alternatives` is given, and `end_score` that
    of the end-of-text token, where one was chosen. `finish` is None until it ends: by max_tokens,
    the end-of-text token, a stop string, because its `constraint` lets nothing follow, by
    `cancel`, or by `error`. The same seed and `sample` give the same text, whatever else is
    written at the time. Raises: SettingsError.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        settings: GenerateSettings,
        *,
        sample: int = 0,
        constraint: Constraint | None = None,
        num_alternatives: int | None = None,
        drafting: Drafting = NO_DRAFTING,
    ) -> None:
        self.text = ""
        self.ids: list[int] = []
        self.scores: list[TokenScore] = []
        self.end_score: TokenScore | None = None
        self.finish: Finish | None = None
        self.error: Exception | None = None
        self.windowed = len(prompt_ids) > decoder.context
        self.is_cancelled = False
        self.constraint = constraint
        self.stream: Stream | None = None
        self._tokenizer, self._max_tokens = tokenizer, settings.max_tokens
        self._num_alternatives = (
            None if num_alternatives is None else min(num_alternatives, decoder.vocab_size)
        )
        # What comes next is not known before the token is: a form is checked token by token.
        self._drafting = drafting if constraint is None else NO_DRAFTING
        self._choice = make_choice(settings, tokenizer, decoder.vocab_size)
        self._stop = StopStrings(settings.stop)
        self._decoded = tokenizer.stream()
        self._random = np.random.default_rng([settings.seed, sample])
        self._all = [int(token) for token in prompt_ids[-decoder.context :]]
        self._num_taken, self._num_chosen = 0, 0
        # Of those alone that are seen: a prompt may be a book.
        counts = np.bincount(np.asarray(self._all, np.int64), minlength=decoder.vocab_size)
        self._seen = counts.astype(np.int32)
        self._written: Int32[np.ndarray, " V"] = np.zeros(decoder.vocab_size, np.int32)

    @property
    def goes_step_by_step(self) -> bool:
        """Whether it must be looked at after each token."""
        return self.constraint is not None

    def held(self) -> list[int]:
        """The tokens that its slot was fed, from the first."""
        if self.stream is None:
            return []
        return self._all[: len(self._all) - len(self.stream.pending)]

    def beginning(self) -> list[int]:
        """All tokens so far: what a slot must have been fed before the next one is chosen."""
        return list(self._all)

    def put(self, place: Place) -> None:
        """Go on in a slot that remembers some of the first tokens."""
        self._begin_stretch(place.slot, self._all[place.num_known :])

    def _begin_stretch(self, slot: int, pending: list[int]) -> None:
        uniforms: Float64[np.ndarray, " N"] = np.empty(0)
        if self.stream is not None:
            uniforms = self.stream.uniforms[len(self.stream.ids) :]
        length = min(self._max_tokens - self._num_chosen, _STRETCH)
        missing = max(length - len(uniforms), 0)
        self._num_taken = 0
        self.stream = Stream(
            slot=slot,
            pending=pending,
            max_tokens=length,
            choice=self._choice,
            uniforms=np.concatenate((uniforms, self._random.random(missing))),
            seen=self._seen,
            written=self._written,
            eos_id=self._tokenizer.eos_id,
            num_alternatives=self._num_alternatives,
            most_drafted=self._drafting.most,
            before=self._all[: len(self._all) - len(pending)] if self._drafting.most else (),
            drafts=self._drafting.drafts,
            draft_cost=self._drafting.cost,
        )

    def prepare(self) -> None:
        """Before each call of the decoder. Raises: InputError when no token can come next."""
        if self.constraint is not None:
            assert self.stream is not None
            self.stream.mask = self.constraint.mask()

    def collect(self) -> str:
        """Take what the decoder has chosen since; returns the text that is certain by now."""
        stream = self.stream
        assert stream is not None and self.finish is None
        new = stream.ids[self._num_taken :]
        # Also what comes after a stop string: the slot holds it.
        self._all += new
        self._num_chosen += len(new)
        if self.constraint is not None or (piece := self._take_together(new, stream)) is None:
            piece = ""
            for place, token_id in enumerate(new, start=self._num_taken):
                piece += self._take(token_id, stream, place)
                if self.finish is not None:
                    break
        self._num_taken = len(stream.ids)
        if self.finish is None:
            piece += self._look_for_the_end(stream)
        self.text += piece
        return piece

    def _take_together(self, new: list[int], stream: Stream) -> str | None:
        """Take what no stop string ends; None where one does, at a token still to be found."""
        decoded = self._decoded.copy()
        text = decoded.push_all(new)
        if self._stop.is_in(text):
            return None
        self._decoded = decoded
        self.ids += new
        if self._num_alternatives is not None:
            places = enumerate(new, start=self._num_taken)
            self.scores += [self._score(token_id, stream, place) for place, token_id in places]
        return self._stop.push(text)

    def _take(self, token_id: int, stream: Stream, place: int) -> str:
        self.ids.append(token_id)
        if self._num_alternatives is not None:
            self.scores.append(self._score(token_id, stream, place))
        piece = self._stop.push(self._decoded.push(token_id))
        if self._stop.found is not None:
            self.finish = "stop string"
        elif self.constraint is not None:
            self.constraint.advance(token_id)
            if self.constraint.is_complete:
                piece += self._end("form")
        return piece

    def _score(self, token_id: int, stream: Stream, place: int) -> TokenScore:
        ids, scores = stream.alternatives[place]
        decode = self._tokenizer.decode
        # A model may have more rows than its tokeniser has tokens.
        known = [
            (
                int(other),
                decode([other]) if other < self._tokenizer.vocab_size else "",
                float(score),
            )
            for other, score in zip(ids.tolist(), scores.tolist(), strict=True)
        ]
        # As exact as those of the likeliest, so that a token has one log-probability.
        value = float(np.float32(stream.logprobs[place]))
        return TokenScore(token_id, decode([token_id]), value, tuple(known))

    def _look_for_the_end(self, stream: Stream) -> str:
        if self.is_cancelled:
            return self._end("cancelled")
        if stream.finish == "eos":
            if self._num_alternatives is not None:
                eos_id = self._tokenizer.eos_id
                self.end_score = self._score(eos_id, stream, len(stream.ids))
            return self._end("end of text")
        if stream.finish == "stuck":
            hint = "Take back some of the bias and penalties; else train the model anew."
            message = "no token may come next, or what the model computes is not finite"
            raise SettingsError(message, hint=hint)
        if stream.finish == "length":
            if self._num_chosen == self._max_tokens:
                return self._end("length")
            self._begin_stretch(stream.slot, list(stream.pending))
        return ""

    def _end(self, finish: Finish) -> str:
        """End it, and give what was withheld."""
        self.finish = finish
        piece = self._stop.push(self._decoded.finish())
        if self._stop.found is not None:
            self.finish = "stop string"
        return piece + self._stop.finish()

    def fail(self, error: Exception) -> None:
        """End it because something went wrong."""
        self.finish, self.error = "error", error
