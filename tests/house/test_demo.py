"""The demo, whole: from nothing to a model that writes."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess


def test_the_demo_makes_a_model_that_writes(
    cllm_command: Callable[..., CompletedProcess[str]], home: Path
) -> None:
    done = cllm_command("demo", "--minutes", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["model"] == "demo"
    assert result["steps"] > 0
    assert 0 < result["val_bits_per_byte"] < 8
    # What a person sees is on standard error when standard output is for a program.
    assert "Before and after" in done.stderr
    assert "cllm train FOLDER" in done.stderr
    again = cllm_command("generate", "demo", "--prompt", "open(", "--max-tokens", "8", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["tokens"] > 0
