"""Numbers in bfloat16 as safetensors: numpy has no such type, so the file is put together here."""

from __future__ import annotations

import json
from pathlib import Path

from cllm.export.stored_tensor import to_bfloat16
from cllm.model import Weights


def save_bfloat16(path: Path, tensors: Weights) -> None:
    """Write all tensors in bfloat16, one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, values in tensors.items():
        end = at + 2 * values.size
        shape = list(values.shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    # The numbers begin at a multiple of 8.
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            to_bfloat16(values).tofile(file)
