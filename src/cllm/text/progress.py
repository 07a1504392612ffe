"""How preparation tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

# Called with the stage ("reading", "tokenizer" or "encoding"), the bytes done, and their
# total (None when it is not known).
Progress = Callable[[str, int, int | None], None]
