"""What all requests for text have in common: how tokens are chosen, and when to stop."""

from __future__ import annotations

import random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cllm.config import GenerateSettings, resolve
from cllm.errors import SettingsError

# To ask the system for each number takes longer than to write a token.
_random = random.Random()

# OpenAI allows four; more are only more to look for.
_MOST_STOPS = 16
_SEEDS = 2**63
# Below, logits divided by it are no numbers any more, and the likeliest token is certain anyway.
_LEAST_TEMPERATURE = 1e-4

Finite = Annotated[float, Field(allow_inf_nan=False)]
Texts = Annotated[int, Field(ge=1, le=128)]


def new_id() -> str:
    """What no other answer is called."""
    return f"{_random.getrandbits(128):032x}"


class Asking(BaseModel):
    """A body of which unknown fields are ignored, as OpenAI's clients expect."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class StreamOptions(Asking):
    """What a stream tells besides the text."""

    include_usage: bool | None = None


class Sampling(Asking):
    """Fields of completions and chat; those from `top_k` to `repetition_penalty` are ours."""

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[Finite, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[Finite, Field(ge=0.01, le=100)] | None = None
    frequency_penalty: Annotated[Finite, Field(ge=-100, le=100)] | None = None
    presence_penalty: Annotated[Finite, Field(ge=-100, le=100)] | None = None
    logit_bias: dict[str, Annotated[Finite, Field(ge=-100, le=100)]] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: Texts | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def has_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def stops(self) -> tuple[str, ...]:
        """The strings that end the text. Raises: SettingsError."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stops) > _MOST_STOPS:
            raise SettingsError(f"more than {_MOST_STOPS} are not taken", where="stop")
        # An empty one is what some clients send for none.
        return tuple(stop for stop in stops if stop)

    def settings(
        self,
        defaults: GenerateSettings,
        *,
        most_tokens: int,
        max_tokens: int | None,
        stops: tuple[str, ...] = (),
    ) -> GenerateSettings:
        """How to write: what is asked for, else the model's own defaults. Raises: SettingsError.

        Without a seed each request draws anew. `stops` are the format's own.
        """
        given: dict[str, Any] = {
            name: value
            for name in ("temperature", "min_p", "typical_p")
            if (value := getattr(self, name)) is not None
        }
        penalties = ("repetition_penalty", "frequency_penalty", "presence_penalty")
        given |= {name: value for name in penalties if (value := getattr(self, name)) is not None}
        if self.temperature is not None and self.temperature < _LEAST_TEMPERATURE:
            given["temperature"] = 0.0
        if self.top_k:
            given["top_k"] = self.top_k
        if self.top_p is not None:
            # 0 means as little as possible: the likeliest token is always kept.
            given["top_p"] = self.top_p or 1e-9
        if self.logit_bias:
            given["logit_bias"] = tuple(f"#{token}={add}" for token, add in self.logit_bias.items())
        seed = _random.randrange(_SEEDS) if self.seed is None else self.seed % _SEEDS
        wanted = defaults.max_tokens if max_tokens is None else max_tokens
        given |= {
            "seed": seed,
            "max_tokens": max(min(wanted, most_tokens), 1),
            "stop": (*stops, *(self.stops() or defaults.stop)),
        }
        known = defaults.model_dump(exclude_unset=True) | given
        try:
            return GenerateSettings.model_validate(known)
        except ValidationError:
            # Says what is wrong in our words.
            return resolve(GenerateSettings, known)
