"""Lets the tests import what stands beside them: the models that they are made with."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
