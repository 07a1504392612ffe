"""Which mechanisms the compiled engine has, and how it is told of them."""

from __future__ import annotations

from collections.abc import Sequence

from cllm.model.mechanisms.mechanism import Mechanism


def uncompiled(mechanisms: Sequence[Mechanism]) -> list[str]:
    """Names of those that only torch can compute."""
    return [part.name for part in mechanisms if part.name not in ("golden", "einstein")]
