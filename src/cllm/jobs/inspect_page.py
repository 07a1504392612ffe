"""An inspection as a page of its own: one HTML file that asks nobody for anything."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from cllm.errors import InputError
from cllm.files import write_atomic
from cllm.jobs.inspect import Inspection
from cllm.jobs.inspect_pictures import read_names

_TEMPLATES = Path(__file__).parent / "templates"


def check_page_path(path: Path) -> None:
    """Refuse, before any work, a path that no page can be written to. Raises: InputError."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError("pages are HTML files", where=path, hint="Let the name end in .html.")
    if path.is_dir():
        raise InputError("this is a folder", where=path, hint="Name a file in it.")


def write_page(
    path: Path, found: Inspection, *, layer: int | None = None, head: int | None = None
) -> None:
    """Write the page; `layer` and `head` (from 1) are chosen when it opens.

    The window that is laid open is shown, with the square root of its attention in steps of 1/255.
    Raises: SettingsError, StorageError.
    """
    found.attention(layer, head)
    write_atomic(path, page(found, layer=layer, head=head))


def page(found: Inspection, *, layer: int | None = None, head: int | None = None) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    data = page_data(found) | {"layer": (layer or 1) - 1, "head": (head or 1) - 1}
    # Inside a script element only "<" could end it.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    window = found.window
    return environment.get_template("inspect.html").render(
        model=found.model,
        bits_per_byte=f"{found.bits_per_byte:.3f}",
        num_tokens=f"{len(found.ids):,}",
        num_bytes=f"{found.num_bytes:,}",
        num_layers=window.attention.shape[0],
        num_heads=window.attention.shape[1],
        part=None if found.num_windows == 1 else f"{found.window_number} of {found.num_windows}",
        first=f"{window.first + 1:,}",
        last=f"{min(window.first + len(window.inputs), len(found.ids)):,}",
        data=text,
    )


def page_data(found: Inspection) -> dict[str, Any]:
    """What the page's script reads: one entry for each position of the window."""
    window = found.window
    return {
        "layers": window.attention.shape[0],
        "heads": window.attention.shape[1],
        "vocabulary": len(found.spellings),
        "read": read_names(found),
        "tokens": [_token(found, position) for position in range(len(window.inputs))],
        "norms": np.round(window.norms, 4).tolist(),
        "attention": packed_attention(window.attention),
    }


def _token(found: Inspection, position: int) -> dict[str, Any]:
    window = found.window
    place = window.first + position
    is_there = place < len(found.ids)
    lens = window.lens
    return {
        "text": found.tokens[place] if is_there else None,
        "bits": _rounded(found.bits[place]) if is_there else None,
        "rank": int(found.ranks[place]) if is_there else None,
        "entropy": _rounded(found.entropy[place]) if is_there else None,
        "alternatives": _named(
            found, found.alternative_ids[place], found.alternative_probabilities[place]
        ),
        "lens": [
            [
                *_named(found, lens.ids[row, position, :1], lens.probabilities[row, position, :1]),
                _rounded(lens.bits[row, position]),
                int(lens.ranks[row, position]),
            ]
            for row in range(len(lens.bits))
        ],
    }


def _named(found: Inspection, ids: Any, probabilities: Any) -> list[list[Any]]:
    pairs = zip(ids, probabilities, strict=True)
    return [[found.spelled(int(i)), round(float(p), 6)] for i, p in pairs]


def _rounded(value: Any) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def packed_attention(attention: Float32[np.ndarray, "L H T T"]) -> str:
    """The lower triangles row by row, a byte (255·√) a weight, in base64."""
    rows, columns = np.tril_indices(attention.shape[-1])
    steps: UInt8[np.ndarray, "L H N"] = np.rint(
        np.sqrt(attention[..., rows, columns]) * 255
    ).astype(np.uint8)
    return base64.b64encode(steps.tobytes()).decode("ascii")
