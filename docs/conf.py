"""How Sphinx builds the documentation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reference_pages

import cllm

project = "CLLM"
author = "The CLLM authors"
copyright = author
version = release = cllm.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

# Two rooms may each have an `Estimate`; signatures name them without their room.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = f"CLLM {version}"
html_static_path: list[str] = []

reference_pages.write(Path(__file__).parent / "reference" / "generated")
