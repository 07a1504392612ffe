"""What `import cllm` offers: a name added or dropped here is a change for every user."""

import subprocess
import sys

import pytest

import cllm

NAMES = ["CllmError", "Model", "__version__", "load", "train"]


def test_the_package_offers_these_names_and_no_others() -> None:
    assert sorted(cllm.__all__) == NAMES
    assert dir(cllm) == NAMES
    # In a fresh interpreter, where no test has imported a room as an attribute of the package.
    code = "from cllm import *; print(sorted(name for name in dir() if not name.startswith('__')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([name for name in NAMES if name != "__version__"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_each_name_is_there_and_explained(name: str) -> None:
    assert getattr(cllm, name).__doc__


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        cllm.nonsense  # noqa: B018  reading it is the test
