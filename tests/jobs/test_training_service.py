"""Trainings in processes of their own: watched, paused, stopped, killed, gone on with."""

import os
import random
import signal
import sys
import time

import psutil
import pytest

from cllm.config import Settings, resolve
from cllm.errors import (
    ExistsError,
    InputError,
    InvalidNameError,
    NoTextError,
    NotFoundError,
    SettingsError,
    StorageError,
)
from cllm.jobs import training_record as record
from cllm.jobs import training_service as service
from cllm.jobs.child_process import NICENESS
from cllm.jobs.training_service import TrainingRequest
from cllm.workspace.workspace import Workspace

QUICK = {
    "model.preset": "tiny",
    "model.context": 32,
    "train.batch_size": 4,
    "train.sample_tokens": 8,
    "train.precision": "float32",
    "train.checkpoint_seconds": 0.2,
}
LONG = QUICK | {"train.steps": 1_000_000}


def some_text(seed=0, lines=300):
    rng = random.Random(seed)
    nouns, verbs = ["river", "lantern", "fox", "mountain"], ["sings", "sleeps", "waits"]
    return "\n".join(
        f"The {rng.choice(nouns)} {rng.choice(verbs)} near the {rng.choice(nouns)} {number}."
        for number in range(lines)
    )


@pytest.fixture
def workspace(home):
    made = Workspace(home)
    yield made
    for run in made.runs.active():
        with made._database.read() as session:
            from cllm.workspace.database import RunRow

            pid = session.get_one(RunRow, run.id).pid
        os.kill(pid, signal.SIGKILL)


def pid_of(workspace, run):
    from cllm.workspace.database import RunRow

    with workspace._database.read() as session:
        return session.get_one(RunRow, run).pid


def wait_for(condition, what, seconds=120.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"it never came to that: {what}")


def start(workspace, name, **changed):
    settings = LONG | changed
    text = some_text()
    return service.start_training(
        workspace, TrainingRequest(name=name, text=text, settings=settings)
    ).id


def wait_for_steps(workspace, run):
    return wait_for(
        lambda: (status := service.training_status(workspace, run)).step and status, "a step"
    )


def wait_for_end(workspace, run):
    return wait_for(
        lambda: not (status := service.training_status(workspace, run)).is_active and status,
        "an end",
    )


def weights(workspace, name):
    return (workspace.models.path(name) / "model.safetensors").read_bytes()


def test_a_run_is_watched_from_beginning_to_end(workspace):
    began = time.time()
    request = TrainingRequest(name="m", text=some_text(), settings=QUICK | {"train.steps": 40})
    status = service.start_training(workspace, request)
    assert (status.state, status.model, status.is_active) == ("preparing", "m", True)
    assert psutil.Process(pid_of(workspace, status.id)).nice() == NICENESS
    told = list(record.events(workspace, status.id, poll_s=0.05))
    kinds = [event["event"] for event in told]
    for earlier, later in [
        ("preparing", "prepared"),
        ("prepared", "planned"),
        ("planned", "sampled"),
        ("sampled", "stepped"),
        ("stepped", "validated"),
        ("validated", "finished"),
        ("finished", "ended"),
    ]:
        assert kinds.index(earlier) < kinds.index(later)
    assert told[-1]["state"] == "finished" and kinds.count("ended") == 1
    steps = [event for event in told if event["event"] == "stepped"]
    assert steps[-1]["step"] == 40 and steps[-1]["progress"] == 1.0
    assert steps[-1]["memory_bytes"] > 1_000_000
    assert all(began <= event["at"] <= time.time() for event in told)
    middle = told[3]["offset"]
    assert list(record.events(workspace, status.id, offset=middle)) == told[4:]
    end = service.training_status(workspace, status.id)
    assert (end.state, end.step, end.progress, end.error) == ("finished", 40, 1.0, None)
    assert not end.can_continue and end.remaining_s is None
    folder = workspace.runs.get(status.id).folder
    result = record.read_result(folder)
    assert end.val_bits_per_byte == result["val_bits_per_byte"] > 0
    curve = record.read_curve(folder)
    assert [step for step, _ in curve.train] == list(range(1, 41))
    assert curve.train[-1][1] == pytest.approx(end.bits_per_byte)
    assert curve.val[-1][0] == 40
    assert [step for step, _ in record.read_curve(folder, after_step=30).train] == [*range(31, 41)]
    assert len(record.read_curve(folder, max_points=10).train) == 10
    assert record.read_samples(folder)[0]["step"] == 0
    assert "cllm generate m" in record.read_log(folder)
    assert end.to_json()["started"].startswith("20")
    with pytest.raises(ExistsError, match="finished"):
        service.continue_training(workspace, status.id)
    service.discard_training(workspace, status.id)
    assert workspace.models.exists("m") and not folder.exists()


def test_the_command_is_one_that_a_person_can_type(workspace, cllm_command):
    settings = QUICK | {
        "train.steps": 5,
        "text.hidden": True,
        "text.gitignore": False,
        "model.mechanisms": ("schumann",),
        "train.sample_prompt": "-The fox",
    }
    request = TrainingRequest(name="a", text=some_text(), settings=settings)
    run = service.start_training(workspace, request)
    assert wait_for_end(workspace, run.id).state == "finished", record.read_log(
        workspace.runs.get(run.id).folder
    )
    words = [word if word != "a" else "b" for word in run.command[1:]]
    assert cllm_command(*words).returncode == 0
    assert weights(workspace, "a") == weights(workspace, "b")
    given = resolve(Settings, settings, environment=os.environ).model_dump(
        mode="json", exclude_unset=True
    )
    assert workspace.runs.get(run.id).settings == given


def test_paused_killed_and_gone_on_with_it_is_the_same_run(workspace):
    steps = {"train.steps": 900}
    whole = start(workspace, "whole", **steps)
    assert wait_for_end(workspace, whole).state == "finished"
    run = start(workspace, "steered", **steps)
    wait_for_steps(workspace, run)
    assert service.is_training(workspace)
    service.pause_training(workspace, run)
    status = wait_for(
        lambda: (s := service.training_status(workspace, run)).state == "paused" and s, "a pause"
    )
    assert (status.wanted, status.is_active) == ("pause", True)
    wait_for(lambda: not service.is_training(workspace), "the news of the pause")
    assert psutil.Process(pid_of(workspace, run)).cpu_percent(0.5) < 20
    assert service.training_status(workspace, run).step == status.step < 900
    with pytest.raises(ExistsError):
        start(workspace, "another")
    service.resume_training(workspace, run)
    wait_for(
        lambda: service.training_status(workspace, run).step > status.step, "steps after the pause"
    )
    os.kill(pid_of(workspace, run), signal.SIGKILL)
    status = wait_for_end(workspace, run)
    assert (status.state, status.has_crashed, status.can_continue) == ("interrupted", True, True)
    assert "killed" in status.error
    assert list(record.events(workspace, run))[-1]["state"] == "interrupted"
    wait_for(lambda: not service.is_training(workspace), "the news of the end")
    with pytest.raises(InputError, match="interrupted"):
        service.pause_training(workspace, run)
    continued = service.continue_training(workspace, run)
    assert continued.is_active and not continued.has_crashed
    end = wait_for_end(workspace, run)
    assert end.state == "finished"
    kinds = [event["event"] for event in record.events(workspace, run)]
    assert kinds.index("paused") < kinds.index("continued")
    assert weights(workspace, "steered") == weights(workspace, "whole")
    # Each life gives the same advice.
    assert len(set(end.advice)) == len(end.advice) > 0


def test_a_stop_keeps_what_was_reached_also_from_a_pause(workspace):
    run = start(workspace, "stopped")
    wait_for_steps(workspace, run)
    service.pause_training(workspace, run)
    wait_for(lambda: service.training_status(workspace, run).state == "paused", "a pause")
    service.stop_training(workspace, run)
    status = wait_for_end(workspace, run)
    assert (status.state, status.error) == ("finished", None)
    assert 1 <= status.step < 1_000_000
    result = record.read_result(workspace.runs.get(run).folder)
    assert result["state"] == "stopped"
    workspace.models.check("stopped")


def test_what_a_killed_run_has_reached_can_be_kept(workspace):
    run = start(workspace, "m")
    reached = wait_for_steps(workspace, run).step
    service.pause_training(workspace, run)
    wait_for(lambda: service.training_status(workspace, run).state == "paused", "a pause")
    os.kill(pid_of(workspace, run), signal.SIGKILL)
    assert wait_for_end(workspace, run).has_crashed
    service.stop_training(workspace, run)
    status = wait_for_end(workspace, run)
    assert status.state == "finished"
    assert status.step >= reached
    workspace.models.check("m")


def test_a_wish_of_an_earlier_life_does_not_hold_in_a_terminal(workspace, cllm_command):
    run = start(workspace, "m", **{"train.steps": 300})
    service.pause_training(workspace, run)
    wait_for(lambda: service.training_status(workspace, run).state == "paused", "a pause")
    os.kill(pid_of(workspace, run), signal.SIGKILL)
    wait_for_end(workspace, run)
    done = cllm_command("runs", "resume", run, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert service.training_status(workspace, run).step == 300


def test_it_outlives_the_process_that_started_it(workspace, tmp_path):
    import subprocess

    (tmp_path / "text.txt").write_text(some_text())
    settings = QUICK | {"train.steps": 40}
    code = (
        "from cllm.jobs.training_service import *\n"
        "from cllm.jobs.training_service import TrainingRequest, start_training\n"
        "from cllm.jobs.workspace import open_workspace\n"
        f"request = TrainingRequest(name='m', folder={str(tmp_path / 'text.txt')!r},"
        f" settings={settings!r})\n"
        "print(start_training(open_workspace(), request).id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    run = done.stdout.strip()
    assert wait_for_end(workspace, run).state == "finished"
    assert workspace.models.exists("m")


def test_only_one_at_a_time_unless_asked(workspace):
    # For all that can be seen, this process is at work on it.
    first = workspace.runs.create("first", {}).id
    with pytest.raises(ExistsError, match="first"):
        start(workspace, "second")
    assert [status.id for status in service.list_trainings(workspace)] == [first]
    assert service.active_training(workspace).id == first
    request = TrainingRequest(name="second", text=some_text(), settings=QUICK | {"train.steps": 1})
    second = service.start_training(workspace, request, beside_others=True)
    assert wait_for_end(workspace, second.id).state == "finished"
    with pytest.raises(ExistsError, match="at work"):
        service.discard_training(workspace, first)
    with pytest.raises(ExistsError):
        service.continue_training(workspace, first)
    workspace.runs.update(first, state="finished")


def test_a_text_that_can_not_be_trained_on_says_why(workspace, tmp_path):
    (tmp_path / "empty").mkdir()
    request = TrainingRequest(name="m", folder=str(tmp_path / "empty"), settings=QUICK)
    run = service.start_training(workspace, request).id
    status = wait_for_end(workspace, run)
    assert (status.state, status.has_crashed) == ("failed", False)
    assert str(tmp_path / "empty") in status.error
    assert list(record.events(workspace, run))[-1]["error"] == status.error
    with pytest.raises(InputError) as caught:
        service.plan_training(workspace, request)
    assert str(tmp_path / "empty") in str(caught.value)
    assert [known.id for known in workspace.runs.list()] == [run]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"text": None}, NoTextError),
        ({"text": "  "}, NoTextError),
        ({"name": "../up"}, InvalidNameError),
        ({"settings": {"train.stepz": 3}}, SettingsError),
        ({"settings": {"train.steps": "many"}}, SettingsError),
        ({"settings": {"model.mechanisms": ("nothing",)}}, SettingsError),
        ({"uploads": ("../../etc",)}, NotFoundError),
        ({"text": None, "folder": "relative"}, InputError),
        ({"text": None, "folder": "/nowhere/at/all"}, NotFoundError),
        ({"text": None, "corpus": "none"}, NotFoundError),
        ({"from_model": "none"}, NotFoundError),
    ],
)
def test_what_is_plainly_wrong_starts_nothing(workspace, changed, error):
    values = {"name": "m", "text": some_text(), "settings": QUICK} | changed
    with pytest.raises(error):
        service.start_training(workspace, TrainingRequest(**values))
    assert list(workspace.runs.list()) == []


def test_the_plan_is_what_is_trained_then_and_gone_on_with(workspace):
    request = TrainingRequest(text=some_text(), settings=QUICK | {"train.steps": 3})
    stages = []
    proposed = service.plan_training(workspace, request, on_stage=stages.append)
    assert stages == [
        "Reading the text …",
        "Building the vocabulary …",
        "Turning text into tokens …",
    ]
    assert list(workspace.runs.list()) == []
    assert (proposed["name"], proposed["replaces"]) == ("pasted", None)
    assert proposed["plan"]["total_steps"] == 3
    uploads = tuple(proposed["uploads"])
    again = TrainingRequest(name=proposed["name"], uploads=uploads, settings=request.settings)
    run = service.start_training(workspace, again).id
    assert wait_for_end(workspace, run).state == "finished"
    [planned] = [e for e in record.events(workspace, run) if e["event"] == "planned"]
    measured = {"tokens_per_s", "expected_bits_per_byte"}
    differing = {key for key, value in planned["plan"].items() if proposed["plan"][key] != value}
    assert differing <= measured
    assert service.plan_training(workspace, again)["replaces"]["name"] == "pasted"
    on = TrainingRequest(
        name="pasted",
        text=some_text(1),
        settings={"train.steps": 5, "train.sample_tokens": 0},
        from_model="pasted",
        overwrite=True,
    )
    later = service.start_training(workspace, on).id
    assert wait_for_end(workspace, later).state == "finished"
    assert workspace.models.describe("pasted").run == later
    # What had the name is not lost.
    [entry] = workspace.trash.list()
    workspace.trash.take(entry.id, workspace.models.root / "before")
    assert workspace.models.describe("before").run == run
    workspace.models.check("before")


def test_a_run_that_can_not_be_begun_does_not_stand_in_the_way(workspace, monkeypatch):
    def full(*_, **__):
        raise StorageError("the disk is full")

    request = TrainingRequest(name="m", text=some_text(), settings=QUICK | {"train.steps": 1})
    with monkeypatch.context() as patch:
        # It got its row, but neither its files nor the removal of the row found room.
        patch.setattr(service.Request, "save", full)
        patch.setattr(type(workspace.runs), "remove", full)
        with pytest.raises(StorageError):
            service.start_training(workspace, request)
    assert service.list_trainings(workspace) == []
    assert workspace.runs.active() == []
    assert wait_for_end(workspace, service.start_training(workspace, request).id).step == 1


def test_a_run_that_is_gone_on_with_meanwhile_is_not_discarded(workspace, monkeypatch):
    run = workspace.runs.create("m", {})
    seen = workspace.runs.update(run.id, state="interrupted")
    workspace.runs.take_up(run.id)
    with monkeypatch.context() as patch:
        # It was looked at before somebody else took it up.
        patch.setattr(type(workspace.runs), "get", lambda *_: seen)
        with pytest.raises(ExistsError, match="at work") as caught:
            service.discard_training(workspace, run.id)
    assert caught.value.hint and run.folder.is_dir()
    workspace.runs.update(run.id, state="interrupted")
    service.discard_training(workspace, run.id)
    assert not run.folder.exists()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_process_that_can_not_be_noted_does_not_live_on(workspace, monkeypatch, is_new):
    def full(*_):
        raise StorageError("the disk is full")

    started = []

    def start_detached(*arguments, **named):
        started.append(psutil.Process(original(*arguments, **named)))
        return started[0].pid

    original = service.start_detached
    request = TrainingRequest(name="m", text=some_text(), settings=LONG)
    run = workspace.runs.create("m", {})
    workspace.runs.update(run.id, state="interrupted")
    with monkeypatch.context() as patch:
        patch.setattr(service, "start_detached", start_detached)
        patch.setattr(type(workspace.runs), "hand_over", full)
        with pytest.raises(StorageError):
            if is_new:
                service.start_training(workspace, request)
            else:
                service.continue_training(workspace, run.id)
    [child] = started
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert [(known.id, known.state) for known in workspace.runs.list()] == [(run.id, "interrupted")]
    assert [path.name for path in workspace.runs.root.iterdir()] == [run.id]


def test_a_corpus_is_one_of_the_workspace_whatever_lies_beside(workspace, tmp_path, monkeypatch):
    from cllm.config import TextSettings
    from cllm.jobs.corpora import add_corpus

    (tmp_path / "text.txt").write_text(some_text())
    # Named as a file that lies in the folder of every run.
    name = record.LOG
    chosen = TextSettings(tokenizer="characters")
    add_corpus(workspace, name, [str(tmp_path / "text.txt")], chosen)
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("something that is nobody else's\n" * 100)
    request = TrainingRequest(name="m", corpus=name, settings=QUICK | {"train.steps": 1})
    planned = service.plan_training(workspace, request)
    assert planned["plan"]["vocab_size"] == workspace_vocabulary(workspace, name)
    run = service.start_training(workspace, request)
    assert wait_for_end(workspace, run.id).state == "finished"
    asked = service.Request.load(workspace.runs.get(run.id).folder)
    assert (asked.corpus, asked.places) == (name, ())


def workspace_vocabulary(workspace, name):
    from cllm.text.corpus import Corpus

    return Corpus.open(workspace.corpora.path(name)).tokenizer.vocab_size
