"""What is seen of a pass through a model, compared."""

from __future__ import annotations

import numpy as np

from cllm.native.observation import Kept, Observation


def assert_only(kept: Kept, seen: Observation, whole: Observation) -> None:
    """Of `whole`, which has everything, `seen` has one kind alone."""
    for kind in ("hidden", "attention", "logits"):
        expected = getattr(whole, kind) if kind == kept else np.zeros(0)
        found = getattr(seen, kind)
        assert found.size == expected.size
        assert kind != kept or np.array_equal(found, expected)
    assert set(seen.inputs) == (set(whole.inputs) if kept == "inputs" else set())
    assert all(np.array_equal(rows, whole.inputs[name]) for name, rows in seen.inputs.items())
