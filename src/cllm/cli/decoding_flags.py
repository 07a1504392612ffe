"""Flags of the commands that run a model: threads, cache, and guessing ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from cllm.jobs.opening import Decoding


@Parameter(name="*", help="How a model is run.")
@dataclass(frozen=True, slots=True)
class DecodingFlags:
    """How a model is run."""

    threads: Annotated[
        int | None,
        Parameter(name="--threads", help="Threads to compute with; chosen by the model's size."),
    ] = None
    cache: Annotated[
        Literal["float32", "bfloat16", "int8"],
        Parameter(name="--cache", help="Number format in which earlier tokens are remembered."),
    ] = "float32"
    speculate: Annotated[
        Literal["auto", "on", "off"],
        Parameter(
            name="--speculate",
            help="Guess tokens and verify them together: the same text, often sooner.",
        ),
    ] = "auto"

    def chosen(self) -> Decoding:
        """The same, as jobs take it. Raises: SettingsError."""
        from cllm.jobs.opening import Decoding

        return Decoding(self.threads, self.cache, self.speculate)


NO_FLAGS = DecodingFlags()
