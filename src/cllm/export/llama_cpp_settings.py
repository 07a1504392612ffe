"""How llama.cpp is told to open a file, so that it does on every processor."""

from __future__ import annotations

from typing import Any


def model_settings(library: Any) -> Any:
    """llama.cpp's default settings for a model; `library` is `llama_cpp.llama_cpp`.

    But where it would multiply with AMX, as on Intel's Xeons since Sapphire Rapids: there its
    version of 2026 ends with a segmentation fault as soon as it reads a matrix of 4 or 8 bits
    (ggml-org/llama.cpp, issue 20824). Without its extra buffers it multiplies with AVX-512.
    """
    settings = library.llama_model_default_params()
    if b"AMX_INT8 = 1" in library.llama_print_system_info():
        settings.use_extra_bufts = False
    return settings
