"""Train, run and understand your own small language model on the machine you have.

```python
import cllm

model = cllm.train("my-texts", minutes=2)
print(model.generate("Once upon a time", max_tokens=100))
```

Everything heavy is imported when it is first used.
"""

from typing import TYPE_CHECKING

from cllm.errors import CllmError

if TYPE_CHECKING:
    from cllm.jobs.api import Model, load, train

__version__ = "0.1.0"
__all__ = ["CllmError", "Model", "__version__", "load", "train"]


def __getattr__(name: str) -> object:
    if name in ("Model", "load", "train"):
        from cllm.jobs import api

        return getattr(api, name)
    raise AttributeError(f"module 'cllm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
