"""Which names models, runs and corpora may have, so that none ever leaves its folder."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

from cllm.errors import InvalidNameError

MAX_LENGTH = 64
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Windows opens a device for these, whatever stands behind the dot.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(10)}


def check_name(name: str, what: str) -> str:
    """Return `name` if it may name a `what` ("model", "corpus", "run").

    Raises: InvalidNameError saying what is allowed, with a corrected name.
    """
    if is_name(name):
        return name
    rule = "Allowed are letters a–z, digits, '-', '_' and '.', at most 64, beginning with a letter"
    hint = f"{rule} or digit. For example: {slug(name, what)}"
    raise InvalidNameError(f"{name!r} can't be the name of a {what}", hint=hint)


def is_name(name: str) -> bool:
    """Whether `name` may name a model, run or corpus."""
    return (
        _ALLOWED.fullmatch(name) is not None
        and ".." not in name
        and not name.endswith(".")
        and name.split(".")[0].lower() not in _DEVICES
    )


def slug(text: str, what: str = "model") -> str:
    """An allowed name made from any text, such as a path's last part."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)
    plain = re.sub(r"\.{2,}", "-", plain)
    plain = re.sub(r"-{2,}", "-", plain).strip("-._")[:MAX_LENGTH].rstrip("-._")
    if not plain:
        return what
    return plain if is_name(plain) else f"{what}-{plain}"[:MAX_LENGTH].rstrip("-._")


def nearest_names(name: str, known: Iterable[str]) -> str:
    """A hint that names the most similar of the known names, or lists a few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    if not names:
        return "There is none yet."
    listed = ", ".join(names[:8])
    return f"There are: {listed}{', …' if len(names) > 8 else ''}."
