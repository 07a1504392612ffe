"""Check a model's gradients, part by part, against finite differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any


def check_gradients(items: Sequence[str] | None) -> list[dict[str, Any]]:
    """One record a parameter: name, shape, num_checked, largest_gradient, largest_error, is_right.

    `items` are written as after --with. Raises: SettingsError.
    """
    from cllm.model.gradient_check import check_gradients as check
    from cllm.model.mechanisms.choose import choose

    return [{**asdict(part), "is_right": part.is_right} for part in check(choose(items))]
