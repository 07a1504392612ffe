"""A command in a process of its own: what it tells, how long it may take, what it leaves."""

import sys
import time

import pytest

from cllm.errors import CllmError, InputError
from cllm.jobs import child_process
from cllm.jobs.child_process import run_command


@pytest.fixture
def code(monkeypatch):
    """Let the command be a piece of Python."""

    def command_line(arguments):
        return [sys.executable, "-c", arguments[0]]

    monkeypatch.setattr(child_process, "command_line", command_line)


def test_the_last_line_is_the_answer_and_the_rest_is_told(code, tmp_path):
    heard = []
    words = "import sys; print('one …\\ntwo', file=sys.stderr); print('x'); print('{\"a\": 1}')"
    assert run_command([words], home=tmp_path, timeout_s=60.0, on_line=heard.append) == {"a": 1}
    assert heard == ["one …", "two"]


def test_its_own_words_are_the_error(code, tmp_path):
    words = "import sys; print('Error: no text\\nGive some.', file=sys.stderr); sys.exit(2)"
    with pytest.raises(InputError) as caught:
        run_command([words], home=tmp_path, timeout_s=60.0)
    assert (caught.value.message, caught.value.hint) == ("no text", "Give some.")


def test_what_takes_too_long_is_ended_with_those_that_it_started(code, tmp_path):
    inner = f"[{sys.executable!r}, '-c', 'import time; time.sleep(120)']"
    words = f"import subprocess, time; subprocess.Popen({inner}); time.sleep(120)"
    began = time.monotonic()
    with pytest.raises(CllmError, match="took longer than 2 s"):
        run_command([words], home=tmp_path, timeout_s=2.0)
    assert time.monotonic() - began < 60
