"""What a training run tells whoever watches it."""

from cllm.training.events import (
    Advised,
    Continued,
    Event,
    Finished,
    Observe,
    Paused,
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
    "Continued",
    "Event",
    "Finished",
    "Observe",
    "Paused",
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
