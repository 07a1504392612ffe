"""The texts of one request: asked for, followed as they are written, given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import final

from starlette.requests import Request

from cllm.config import GenerateSettings
from cllm.errors import CllmError, InputError
from cllm.infer.constraints import Constraint, Grammar
from cllm.infer.passage import TokenScore, prompt_tokens
from cllm.infer.scheduler import Answer, Progress
from cllm.server.limits import Limits
from cllm.server.metrics import Metrics
from cllm.server.news import Follower, News
from cllm.server.pool import Pool, ServedModel
from cllm.server.streaming import watching
from cllm.text.clean import clean_text

_SHORT_BYTES = 4096
_NOTHING = Progress(0, 0, is_over=False)


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: for each prompt, `num_samples` texts."""

    prompts: Sequence[Sequence[int]]
    settings: GenerateSettings
    num_samples: int = 1
    grammar: Grammar | None = None
    num_alternatives: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What a text has grown by.

    Only in its last piece: `finish`, in OpenAI's words, and `end`, of the token that ended it.
    """

    text: str
    scores: Sequence[TokenScore]
    finish: str | None
    end: TokenScore | None = None

    @property
    def chosen(self) -> Sequence[TokenScore]:
        """Every token that was chosen: those of the text, and the one that ended it."""
        return self.scores if self.end is None else [*self.scores, self.end]


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """What routes need: the models, the bounds, the figures, and word of what is written."""

    pool: Pool
    limits: Limits
    metrics: Metrics
    news: News = field(default_factory=News)


def service_in(request: Request) -> Service:
    """The service that the application was made with."""
    service = request.app.state.service
    assert isinstance(service, Service), "the application sets it"
    return service


# A coroutine, or each request would wait for a thread to run it.
async def service_of(request: Request) -> Service:
    """The same, for routes that depend on it."""
    return service_in(request)


def is_short(request: Request) -> bool:
    """Whether a body is read by a tokeniser in less time than another thread takes to begin."""
    length = request.headers.get("content-length", "")
    return length.isdecimal() and int(length) < _SHORT_BYTES


def check_number(limits: Limits, num_texts: int) -> None:
    """Raises: InputError for more texts than one request may ask for."""
    if num_texts > limits.most_texts:
        message = f"more than {limits.most_texts} texts at once are not written"
        raise InputError(message, where="n", hint="Ask for fewer.")


def usage(num_prompt: int, num_written: int) -> dict[str, int]:
    """Tokens, in OpenAI's form."""
    total = num_prompt + num_written
    return {"prompt_tokens": num_prompt, "completion_tokens": num_written, "total_tokens": total}


def ids_of(model: ServedModel, prompt: str, *, is_rendered: bool = False) -> list[int]:
    """The tokens of a prompt; `is_rendered`: a chat template made it."""
    return prompt_tokens(model.tokenizer, clean_text(prompt), is_rendered=is_rendered)


@final
class Writing:
    """The texts of one order, numbered by prompt and sample. To be closed.

    The decoder never waits for whoever reads them: a text is kept whole, and each look at it
    brings all that is new. `began` is when the request arrived.
    Raises: SettingsError, BusyError; then nothing is being written.
    """

    def __init__(
        self, service: Service, model: ServedModel, order: Order, *, endpoint: str, began: float
    ) -> None:
        check_number(service.limits, len(order.prompts) * order.num_samples)
        self.model = model
        self._service, self._endpoint, self._began = service, endpoint, began
        self.prompts = order.prompts
        self._outcome, self._has_first = "given up", False
        self.answers: list[Answer] = []
        self._follower = service.news.follow()
        try:
            for prompt in order.prompts:
                for sample in range(order.num_samples):
                    self.answers.append(_submit(model, prompt, order, sample, self._follower))
        except BaseException as error:
            is_theirs = isinstance(error, CllmError)
            service.metrics.requests.labels(endpoint, "refused" if is_theirs else "failed").inc()
            self._follower.close()
            self._cancel()
            raise
        self._is_open = True
        left = service.limits.most_seconds - (perf_counter() - began)
        self._timer = self._follower.loop.call_later(left, self._cancel)
        service.metrics.running.inc()
        # Of several samples the prompt is read once, of a long one the end alone.
        self._num_prompt_tokens = sum(min(len(ids), model.context) for ids in order.prompts)
        service.metrics.prompt_tokens.inc(self._num_prompt_tokens)

    def finish_of(self, number: int) -> str:
        """Why a text ended, in OpenAI's words."""
        finish = self.answers[number].passage.finish
        return "length" if finish == "length" or finish == "cancelled" else "stop"

    async def pieces(self) -> AsyncIterator[tuple[list[tuple[int, Piece]], bool]]:
        """What the texts have grown by, with their numbers, and whether that was the last.

        Raises: what ended a text.
        """
        known = [_NOTHING] * len(self.answers)
        is_last = False
        while not is_last:
            found: list[tuple[int, Piece]] = []
            error: Exception | None = None
            for number, answer in enumerate(self.answers):
                before, now = known[number], answer.progress
                # Tokens may have come that are no whole character yet.
                if now.num_characters == before.num_characters and now.is_over == before.is_over:
                    continue
                known[number] = now
                error = error or answer.passage.error
                found.append((number, self._piece(number, before, now)))
            if error is not None:
                self._outcome = "failed"
                raise error
            is_last = all(progress.is_over for progress in known)
            if is_last:
                self._outcome = "done"
            if found:
                self._note_first()
                yield found, is_last
            if not is_last:
                await self._follower.wait()

    def piece_of(self, number: int) -> Piece:
        """A whole text as one piece."""
        return self._piece(number, _NOTHING, self.answers[number].progress)

    def _piece(self, number: int, before: Progress, now: Progress) -> Piece:
        passage = self.answers[number].passage
        return Piece(
            passage.text[before.num_characters : now.num_characters],
            passage.scores[before.num_scores : now.num_scores],
            self.finish_of(number) if now.is_over else None,
            passage.end_score if now.is_over else None,
        )

    async def wait(self, request: Request) -> None:
        """Until all are written; a client that goes ends them. Raises: what ended a text."""
        async with watching(request.receive, self.close):
            while not all(answer.progress.is_over for answer in self.answers):
                await self._follower.wait()
                self._note_first()
        # A short text may have been whole before anybody waited.
        self._note_first()
        for answer in self.answers:
            if answer.passage.error is not None:
                self._outcome = "failed"
                raise answer.passage.error
        self._outcome = "done"

    def usage(self) -> dict[str, int]:
        """What was read and written, in OpenAI's form."""
        return usage(self._num_prompt_tokens, self.num_written())

    def num_written(self) -> int:
        """Tokens written so far, of all texts."""
        return sum(len(answer.passage.ids) for answer in self.answers)

    def close(self) -> None:
        """Give up what is not written yet, and the model. Once or more often."""
        if not self._is_open:
            return
        self._is_open = False
        self._timer.cancel()
        self._follower.close()
        self._cancel()
        metrics = self._service.metrics
        metrics.running.dec()
        metrics.requests.labels(self._endpoint, self._outcome).inc()
        metrics.written_tokens.inc(self.num_written())
        metrics.duration.observe(perf_counter() - self._began)
        self._service.pool.give_back(self.model)

    def _note_first(self) -> None:
        if not self._has_first and any(answer.progress.num_characters for answer in self.answers):
            self._has_first = True
            self._service.metrics.first_token.observe(perf_counter() - self._began)

    def _cancel(self) -> None:
        for answer in self.answers:
            if answer.passage.finish is None:
                answer.cancel()


async def begin(
    service: Service,
    model_name: str | None,
    make_order: Callable[[ServedModel], Order],
    *,
    endpoint: str,
    began: float,
    is_quick: bool = False,
) -> Writing:
    """Ask a model for texts; `make_order` runs in a thread of its own unless it `is_quick`.

    Raises: CllmError, as HTTP tells it before anything is sent.
    """
    model = await service.pool.take(model_name)
    try:
        # How long a tokeniser from elsewhere takes, nobody knows.
        if is_quick and model.tokenizer.about is None:
            order = make_order(model)
        else:
            order = await asyncio.to_thread(make_order, model)
        return Writing(service, model, order, endpoint=endpoint, began=began)
    except BaseException:
        service.pool.give_back(model)
        raise


def _submit(
    model: ServedModel,
    prompt: Sequence[int],
    order: Order,
    sample: int,
    follower: Follower,
) -> Answer:
    constraint: Constraint | None = order.grammar.begin() if order.grammar else None
    return model.scheduler.submit(
        prompt,
        order.settings,
        sample=sample,
        constraint=constraint,
        num_alternatives=order.num_alternatives,
        drafting=model.drafting,
        on_news=follower.note,
        owner=follower,
    )
