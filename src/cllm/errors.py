"""What can go wrong through no fault of the program, as one tree of exceptions.

```
CllmError                 every error that a person can cause or meet; exit code 2
├─ SettingsError          a setting is unknown, malformed, or does not fit another
├─ InputError             a text, prompt or file can't be used as it is
│  └─ NoTextError         nothing readable was found in the given sources
├─ InvalidNameError       a name is not allowed for a model, run or corpus
├─ NotFoundError          no model, run or corpus has that name
├─ ExistsError            something of that name is there already
├─ IntegrityError         a stored file is truncated, altered or of another version
├─ StorageError           the disk is full or can't be written
├─ TrainingError          training can't go on (loss or gradients not finite)
├─ NativeError            the compiled engine is missing, damaged, off, or lacks a part
└─ InterruptedRunError    stopped by the person; state is saved; exit code 130
```

Each says what happened, where, and what to do. Anything else that escapes is our own
bug and ends with exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CllmError",
    "ExistsError",
    "InputError",
    "IntegrityError",
    "InterruptedRunError",
    "InvalidNameError",
    "NativeError",
    "NoTextError",
    "NotFoundError",
    "SettingsError",
    "StorageError",
    "TrainingError",
    "did_you_mean",
]


def did_you_mean(wrong: str, known: Iterable[str], *, otherwise: str, cutoff: float = 0.6) -> str:
    """A hint that names the known name most like a wrong one; `otherwise` where none is."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=cutoff)
    return f"Did you mean {close[0]!r}?" if close else otherwise


class CllmError(Exception):
    """An error that a person can understand and mend.

    `message` says what happened, `where` names the file or setting, `hint` what to do.
    """

    exit_code = 2

    def __init__(self, message: str, *, where: object = None, hint: str | None = None) -> None:
        self.message = message
        self.where = None if where is None else str(where)
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        text = self.message if self.where is None else f"{self.where}: {self.message}"
        return text if self.hint is None else f"{text}\n{self.hint}"


class SettingsError(CllmError):
    """A setting is unknown, malformed, or does not fit another."""


class InputError(CllmError):
    """A text, prompt or file can't be used as it is."""


class NoTextError(InputError):
    """Nothing readable was found in the given sources."""


class InvalidNameError(CllmError):
    """A name is not allowed for a model, run or corpus."""


class NotFoundError(CllmError):
    """No model, run or corpus has that name."""


class ExistsError(CllmError):
    """Something of that name is there already."""


class IntegrityError(CllmError):
    """A stored file is truncated, altered or of another version."""


class StorageError(CllmError):
    """The disk is full or can't be written."""


class TrainingError(CllmError):
    """Training can't go on."""


class NativeError(CllmError):
    """The compiled engine is missing, damaged, off, or lacks a part; torch can do its work."""


class InterruptedRunError(CllmError):
    """Stopped by the person; the state is saved and the run can be resumed."""

    exit_code = 130
