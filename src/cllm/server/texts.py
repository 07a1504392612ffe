"""The texts of one request: asked for, followed as they are written, given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import final

from starlette.requests import Request

from cllm.config import GenerateSettings
from cllm.errors import CllmError, InputError
from cllm.infer.constraints import Constraint, Grammar
from cllm.infer.passage import TokenScore, prompt_tokens
from cllm.infer.scheduler import Answer
from cllm.server.limits import Limits
from cllm.server.metrics import Metrics
from cllm.server.pool import Pool, ServedModel
from cllm.text.clean import clean_text

# Between two looks at what was written. The more are served, the more each look brings.
_LOOK_S, _LOOK_MORE_S, _MOST_LOOK_S = 0.004, 0.0008, 0.05
_GONE_S = 0.25
_SHORT_BYTES = 4096


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
    """What a text has grown by; `finish` only in its last piece, in OpenAI's words."""

    text: str
    scores: Sequence[TokenScore]
    finish: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """What routes need: the models, the bounds, the figures."""

    pool: Pool
    limits: Limits
    metrics: Metrics


def service_of(request: Request) -> Service:
    """The service that the application was made with."""
    service = request.app.state.service
    assert isinstance(service, Service), "the application sets it"
    return service


def is_short(request: Request) -> bool:
    """Whether a body is read by a tokeniser in less time than another thread takes to begin."""
    length = request.headers.get("content-length", "")
    return length.isdecimal() and int(length) < _SHORT_BYTES


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
        if len(order.prompts) * order.num_samples > service.limits.most_texts:
            message = f"more than {service.limits.most_texts} texts at once are not written"
            raise InputError(message, where="n", hint="Ask for fewer.")
        self.model = model
        self._service, self._endpoint, self._began = service, endpoint, began
        self._is_late, self._outcome = False, "given up"
        self._has_first = False
        self.answers: list[Answer] = []
        try:
            for prompt in order.prompts:
                for sample in range(order.num_samples):
                    self.answers.append(_submit(model, prompt, order, sample))
        except BaseException as error:
            is_theirs = isinstance(error, CllmError)
            service.metrics.requests.labels(endpoint, "refused" if is_theirs else "failed").inc()
            self._cancel()
            raise
        self._is_open = True
        service.metrics.running.inc()
        # Of several samples the prompt is read once.
        self._num_prompt_tokens = sum(map(len, order.prompts))
        service.metrics.prompt_tokens.inc(self._num_prompt_tokens)

    def finish_of(self, number: int) -> str:
        """Why a text ended, in OpenAI's words."""
        finish = self.answers[number].passage.finish
        return "length" if finish == "length" or finish == "cancelled" else "stop"

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Each text's new part as it comes, with its number. Raises: what ended a text."""
        sent, shown = [0] * len(self.answers), [0] * len(self.answers)
        open_numbers = list(range(len(self.answers)))
        while open_numbers:
            for number in list(open_numbers):
                passage = self.answers[number].passage
                is_over = passage.finish is not None
                if is_over:
                    await self._drain(number)
                    open_numbers.remove(number)
                text = passage.text
                if len(text) == sent[number] and not is_over:
                    continue
                scores = passage.scores[shown[number] :]
                new = text[sent[number] :]
                sent[number], shown[number] = len(text), shown[number] + len(scores)
                self._note_first(new)
                yield number, Piece(new, scores, self.finish_of(number) if is_over else None)
            if open_numbers:
                await self._look_again()
        self._outcome = "done"

    async def wait(self, request: Request) -> None:
        """Until all are written, or the client has gone. Raises: what ended a text."""
        looked = perf_counter()
        while any(answer.passage.finish is None for answer in self.answers):
            if any(answer.passage.text for answer in self.answers):
                self._note_first("text")
            await self._look_again()
            if perf_counter() - looked > _GONE_S:
                looked = perf_counter()
                if await request.is_disconnected():
                    self.close()
        for number in range(len(self.answers)):
            await self._drain(number)
        self._note_first("text")
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
        self._cancel()
        metrics = self._service.metrics
        metrics.running.dec()
        metrics.requests.labels(self._endpoint, self._outcome).inc()
        metrics.written_tokens.inc(self.num_written())
        metrics.duration.observe(perf_counter() - self._began)
        self._service.pool.give_back(self.model)

    async def _drain(self, number: int) -> None:
        """Until a text that has ended is whole: the decoder's thread may be at its last words."""
        try:
            await asyncio.to_thread(self.answers[number].text)
        except Exception:
            self._outcome = "failed"
            raise

    async def _look_again(self) -> None:
        if not self._is_late and perf_counter() - self._began > self._service.limits.most_seconds:
            self._is_late = True
            self._cancel()
        num_users = self.model.num_users
        seconds = min(_LOOK_S + _LOOK_MORE_S * (num_users - 1), _MOST_LOOK_S)
        await asyncio.sleep(seconds if self._has_first else seconds / 2)

    def _note_first(self, text: str) -> None:
        if text and not self._has_first:
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
        order = make_order(model) if is_quick else await asyncio.to_thread(make_order, model)
        return Writing(service, model, order, endpoint=endpoint, began=began)
    except BaseException:
        service.pool.give_back(model)
        raise


def _submit(model: ServedModel, prompt: Sequence[int], order: Order, sample: int) -> Answer:
    constraint: Constraint | None = order.grammar.begin() if order.grammar else None
    return model.scheduler.submit(
        prompt,
        order.settings,
        sample=sample,
        constraint=constraint,
        num_alternatives=order.num_alternatives,
        drafting=model.drafting,
    )
