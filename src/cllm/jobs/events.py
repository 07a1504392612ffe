"""What a training run tells whoever watches it."""

from cllm.training.events import (
    Advised,
    Event,
    Finished,
    Observe,
    Plan,
    Planned,
    Prepared,
    Preparing,
    Profiled,
    Sampled,
    Saved,
    Stepped,
    TrainResult,
    Validated,
)

__all__ = [
    "Advised",
    "Event",
    "Finished",
    "Observe",
    "Plan",
    "Planned",
    "Prepared",
    "Preparing",
    "Profiled",
    "Sampled",
    "Saved",
    "Stepped",
    "TrainResult",
    "Validated",
]
