"""Texts that are being written: they go on when a page is left, and are kept as they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, Protocol, final, runtime_checkable

from cllm.errors import CllmError, NotFoundError
from cllm.web.token_text import TokenFact

# Between two looks of a page, and between two writes to the database.
LOOK_S, _SAVE_S = 0.05, 1.0
# Who deletes a conversation can take it back for ten seconds; then it is written for nobody.
_GONE_S = 15.0

Save = Callable[["RunningText"], None]


@runtime_checkable
class Pieces(Protocol):
    """A text as it comes: pieces, and what is known of it."""

    passage: Any

    def __iter__(self) -> Any:
        """The pieces; blocks until the next."""
        ...

    def cancel(self) -> None:
        """End it within a token."""
        ...


@final
class RunningText:
    """A text that a model writes for a message; `follow` reads it in a thread of its own.

    `text` only grows; `facts` are its tokens' as far as they are wanted. `save` is called about
    once a second and at the end, in that thread; then `on_end`. A save that fails is made good by
    the next; what the last one raises is in `error`.
    """

    def __init__(
        self,
        answer: Pieces,
        save: Save,
        on_end: Callable[[], None] = lambda: None,
        *,
        is_reply: bool = False,
    ) -> None:
        self.text = ""
        self.is_done = False
        self.error: CllmError | None = None
        self.finish: str | None = None
        self.seconds = 0.0
        self.first_token_s: float | None = None
        self._answer, self._save, self._on_end = answer, save, on_end
        self._is_reply = is_reply
        self._began = perf_counter()
        self._num_first = 0
        self._facts: list[TokenFact] = []
        # Pages and the text's own thread ask for them.
        self._reading = threading.Lock()
        self._gone_since: float | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens written so far."""
        return len(self._answer.passage.ids)

    @property
    def tokens_per_s(self) -> float:
        """Tokens by the second since the first look at some; over all where none came after."""
        since = self.seconds - (self.first_token_s or 0.0)
        later = self.num_tokens - self._num_first
        if later > 0 and since > 0:
            return later / since
        return self.num_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def facts(self) -> list[TokenFact]:
        """What is known of each token so far."""
        with self._reading:
            scores = self._answer.passage.scores
            for score in scores[len(self._facts) :]:
                others = tuple((text, value) for _, text, value in score.alternatives)
                self._facts.append(TokenFact(score.text, score.log_probability, others))
            return list(self._facts)

    def stop(self) -> None:
        """End it within a token; what is written stays."""
        self._answer.cancel()

    def begin(self) -> None:
        """Read it in a thread."""
        threading.Thread(target=self._follow, name="cllm-text", daemon=True).start()

    def _follow(self) -> None:
        try:
            self._read()
        except CllmError as error:
            self.error = error
        finally:
            # Whatever ended the reading, nobody is there for more.
            self._answer.cancel()
            self._close()

    def _read(self) -> None:
        tried = perf_counter()
        for piece in self._answer:
            self._take(piece)
            if perf_counter() - tried > _SAVE_S:
                self._try_to_save()
                tried = perf_counter()

    def _try_to_save(self) -> None:
        try:
            self._save(self)
            self._gone_since = None
        except NotFoundError:
            self._gone_since = self._gone_since or perf_counter()
            if perf_counter() - self._gone_since > _GONE_S:
                self.stop()
        except CllmError:
            # Room may be found on the disk before the end.
            pass

    def _close(self) -> None:
        self.seconds = perf_counter() - self._began
        self.finish = self._answer.passage.finish or "error"
        if self._is_reply:
            self.text = self.text.rstrip()
        try:
            self._save(self)
        except CllmError as error:
            self.error = self.error or error
        finally:
            self._on_end()
            self.is_done = True

    def _take(self, piece: str) -> None:
        self.seconds = perf_counter() - self._began
        if self.first_token_s is None:
            self.first_token_s, self._num_first = self.seconds, self.num_tokens
        # The blank after "Name:" belongs to a chat's format, not to what is said.
        self.text += piece.lstrip() if self._is_reply and not self.text else piece


@final
class RunningTexts:
    """The texts being written now, by message: a page that comes back finds its own again."""

    def __init__(self) -> None:
        # By message: the conversation that it is in, and the text.
        self._texts: dict[int, tuple[str, RunningText]] = {}
        self._lock = threading.Lock()

    def add(self, conversation: str, message: int, text: RunningText) -> None:
        """Let it begin, and keep it while it runs."""
        text.begin()
        with self._lock:
            going = {key: held for key, held in self._texts.items() if not held[1].is_done}
            self._texts = {**going, message: (conversation, text)}

    def get(self, message: int) -> RunningText | None:
        """The text of a message if it is still being written."""
        _, found = self._texts.get(message, ("", None))
        return None if found is None or found.is_done else found

    def stop(self, messages: Iterable[int]) -> None:
        """End those of some messages."""
        for message in messages:
            found = self.get(message)
            if found is not None:
                found.stop()

    def end(self, conversation: str) -> None:
        """End those of a conversation, and block until what they have is kept."""
        messages = [key for key, (held, _) in self._texts.items() if held == conversation]
        self.stop(messages)
        for message in messages:
            self.wait(message)

    def wait(self, message: int, *, timeout_s: float = 60.0) -> None:
        """Block until a message is written."""
        end = time.monotonic() + timeout_s
        while self.get(message) is not None and time.monotonic() < end:
            time.sleep(LOOK_S)
