"""Runs in real processes: every way to end, kill -9, locks and re-attachment."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bitnet_core import process
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run
from bitnet_core.runs.worker import NICENESS
from bitnet_core.settings.resolve import from_values
from tests.builders import events_of, followed
from tests.runs.real import Starter, eventually, history_of, pid_of, wait

CANARY = "sk-canary-51c0ffee"


def test_a_run_that_succeeds(start: Starter) -> None:
    run = start(what="done")
    events = followed(run)
    assert [events[0]["kind"], events[-1]["kind"]] == ["run_started", "run_finished"]
    assert run.state() == "succeeded"
    assert run.record().summary == {"answer": 42}
    assert run.record().exit_code == 0


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("fail", "The moon is in the wrong phase; wait a week."),
        ("full", "The disk is full at"),
        ("memory", "Memory ran out; choose a smaller"),
        ("bug", "The stage failed because of a bug in bitnet-tui (ValueError:"),
    ],
)
def test_a_failure_is_one_sentence_in_the_record_and_in_an_event(start: Starter, what: str, sentence: str) -> None:
    run = start(what=what)
    last = followed(run)[-1]
    assert (run.state(), last["state"], last["exit_code"]) == ("failed", "failed", 1)
    assert last["error"].startswith(sentence)
    assert run.record().error == last["error"]
    assert "\n" not in last["error"]


def test_a_stopped_run_is_cancelled_with_exit_130(start: Starter) -> None:
    run = start(what="wait")
    assert run.state() == "running"
    assert run.stop() == "cancelled"
    assert run.record().exit_code == 130
    assert followed(run)[-1]["state"] == "cancelled"


def test_a_stage_that_ignores_a_stop_is_killed_and_recorded(start: Starter) -> None:
    run = start(what="deaf")
    assert run.stop(seconds=0.3) == "cancelled"
    assert process.identify(pid_of(run)) is None
    assert [event["kind"] for event in followed(run)].count("run_finished") == 1


def test_kill_9_of_a_stage_shows_as_interrupted_and_frees_the_stage(start: Starter) -> None:
    run = start(what="wait")
    eventually(lambda: any(e["kind"] == "artifact" for e in events_of(run.events_path)))
    os.killpg(pid_of(run), signal.SIGKILL)
    assert wait(run, "interrupted") == "interrupted"
    assert history_of(run).status("train").state == "interrupted"
    made = run.path.parents[1] / "checkpoints" / "mini_bitnet_step_000.pt"
    assert json.loads(made.read_text()) == {"made by": run.id}
    again = start(what="done")
    assert wait(again, "succeeded") == "succeeded"


def test_kill_9_of_the_launcher_leaves_the_run_alive(start: Starter, tmp_path: Path) -> None:
    """The app or the command line dies with its process group and session; the stage continues."""
    code = (
        "import sys, time\nfrom bitnet_core.settings.resolve import from_values\n"
        "from bitnet_core.runs.launch import launch\n"
        "run = launch(from_values({'DRIVE_ROOT': sys.argv[1]}), 'train')\n"
        "print(run.path, flush=True)\ntime.sleep(60)\n"
    )
    environment = os.environ | {"FAKE_TRAIN": "wait"}
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "exp")],
        stdout=subprocess.PIPE, env=environment, text=True, start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    run = Run(Path(parent.stdout.readline().strip()))
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    time.sleep(0.2)
    assert wait(run, "running") == "running"
    assert run.stop() == "cancelled"


def test_a_stage_lets_the_app_go_first_also_below_a_pipeline(start: Starter) -> None:
    """A machine that a training keeps busy must answer keys; a pipeline makes its stages no slower."""
    wanted = min(19, os.nice(0) + NICENESS)

    def niceness(stage: Run) -> int:
        wait(stage, "running")
        return int(psutil.Process(pid_of(stage)).nice())

    alone = start("teacher", "wait")
    assert niceness(alone) == wanted > os.nice(0)
    assert alone.stop() == "cancelled"
    pipeline = start("pipeline")
    assert niceness(eventually(lambda: history_of(pipeline).active("teacher"))) == wanted
    assert pipeline.stop() == "cancelled"


def test_one_run_of_a_stage_at_a_time(start: Starter) -> None:
    run = start(what="wait")
    with pytest.raises(UsageError, match=f"already running.*bitnet --root .* stop {run.id}"):
        start(what="done")
    other = start("dryrun", "done")
    assert wait(other, "succeeded") == "succeeded"
    run.stop()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGBUS, signal.SIGRTMIN + 3]
)
def test_a_worker_killed_while_it_starts_is_said_to_be_killed(start: Starter, number: int) -> None:
    """Its module's import kills it before it can take over; a real process, with nothing in its output."""
    run = start("train", f"die on import {number:d}")
    record = run.record()
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    assert (record.state, record.exit_code) == ("failed", 128 + number)
    assert record.error is not None
    assert record.error.startswith(f"train did not start: its process was killed by {name}")
    assert record.error.endswith("; it wrote nothing; start it again.")
    assert ("memory runs out" in record.error) == (number == signal.SIGKILL)
    assert followed(run)[-1]["error"] == record.error


@pytest.mark.parametrize(
    ("code", "words"), [(3, ""), (0, ""), (1, "no module named moon"), (1, "bitnet: The disk is full.\n")]
)
def test_a_worker_that_ends_while_it_starts_says_where_its_output_is(start: Starter, code: int, words: str) -> None:
    run = start("train", f"exit on import {code} {words}")
    record = run.record()
    assert (record.state, record.exit_code) == ("failed", code or 1)
    end = f"{run.output_path} has its output." if words else "it wrote nothing; start it again."
    if words.startswith("bitnet: "):
        end = "it said: The disk is full."
    assert record.error == f"train did not start: its process ended with exit code {code}; {end}"


def test_a_process_that_cannot_be_created_is_said_and_recorded(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("bitnet_core.runs.launch.start_with_secrets", refused)
    with pytest.raises(BitnetError, match=r"train did not start: its process can't be created \(Resource"):
        start("train")
    monkeypatch.undo()


def test_a_reused_pid_is_not_mistaken_for_the_run(start: Starter) -> None:
    run = start(what="wait")
    record = run.record()
    identity = record.process
    assert identity is not None
    assert process.is_alive(identity)
    assert not process.is_alive(
        process.ProcessIdentity(identity.pid, identity.start - 1, identity.boot_id, identity.host)
    )
    assert not process.is_alive(process.ProcessIdentity(identity.pid, identity.start, "another boot", identity.host))
    run.stop()


def test_a_key_reaches_the_stage_and_nothing_else(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    run = start("train", "wait", {"OPENAI_API_KEY": CANARY})
    proc = Path(f"/proc/{pid_of(run)}")
    if proc.exists():
        assert CANARY.encode() not in (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes()
    run.stop()
    leaky = start("dryrun", "leak", {"OPENAI_API_KEY": CANARY})
    assert "unexpected reply" in str(followed(leaky)[-1]["error"])
    files = [path for path in run.path.parents[1].rglob("*") if path.is_file()]
    assert any("key=•••" in path.read_text(errors="replace") for path in files)
    assert not [path for path in files if CANARY in path.read_text(errors="replace")]


def test_status_notices_changed_settings_and_missing_files(start: Starter) -> None:
    run = start("dryrun", "done")
    wait(run, "succeeded")
    root = run.path.parents[1]

    def status(**values: str) -> str:
        experiment = Experiment.from_settings(from_values({"DRIVE_ROOT": str(root), **values}))
        return History.read(experiment).status("dryrun").state

    assert status() == "done"
    assert status(KD_TAU="2") == "done"
    assert status(DRYRUN_LAYERS="8") == "outdated"
    (root / "reports" / "dryrun_7b_memory.json").unlink()
    assert status() == "outdated"


def test_a_host_that_changed_its_name_still_knows_its_runs(start: Starter) -> None:
    """While the process lives it is known by pid, start time and boot; once it is gone, by its silence."""
    run = start(what="wait")
    run.write(dataclasses.replace(run.record(), host="before-dhcp"))
    assert run.state() == "running"
    os.killpg(pid_of(run), signal.SIGKILL)
    eventually(lambda: process.identify(pid_of(run)) is None)
    assert run.state() == "running"  # it might run on another machine
    os.utime(run.events_path, (time.time() - 3600, time.time() - 3600))
    assert run.state() == "interrupted"


def test_a_copy_of_a_running_experiment_does_not_touch_the_original(start: Starter, tmp_path: Path) -> None:
    run = start(what="wait")
    root = run.path.parents[1]
    (tmp_path / "link").symlink_to(root)
    for name in ("copy", "exp/inside", "again"):
        shutil.copytree(root, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("inside"))
        copy = Run(tmp_path / name / "logs" / run.id)
        assert (copy.state(), history_of(copy).active()) == ("interrupted", None)
        for act in (copy.request_stop, copy.kill, copy.stop):
            with pytest.raises(UsageError, match=f"is a copy of a run in {run.path}; stop it there"):
                act()
    assert Run(tmp_path / "link" / "logs" / run.id).state() == "running"
    assert run.stop() == "cancelled"


def test_an_experiment_that_was_renamed_still_knows_its_runs(start: Starter, tmp_path: Path) -> None:
    run = start(what="done")
    wait(run, "succeeded")
    run.write(dataclasses.replace(run.record(), state="running", folder=str(tmp_path / "before")))
    identity = process.current()
    run.write(dataclasses.replace(run.record(), pid=identity.pid, process_start=identity.start))
    assert run.state() == "running"


def test_a_run_stopped_before_it_began_does_not_begin(start: Starter) -> None:
    run = start("dryrun", "done")
    wait(run, "succeeded")
    run.write(dataclasses.replace(run.record(), state="cancelled", pid=None, process_start=None))
    worker = subprocess.run([sys.executable, "-m", "bitnet_core.stages", str(run.path)], check=False)
    assert worker.returncode == 130
    assert run.state() == "cancelled"


def test_prompts_edited_in_place_make_a_stage_outdated(start: Starter, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Say hello.")
    run = start("collect", "done", KD_PROMPTS_FILE=str(prompts))
    wait(run, "succeeded")
    values = {"DRIVE_ROOT": str(run.path.parents[1]), "KD_PROMPTS_FILE": str(prompts)}
    experiment = Experiment.from_settings(from_values(values))
    assert History.read(experiment).status("collect").state == "done"
    prompts.write_text("Say goodbye.")
    assert History.read(experiment).status("collect").state == "outdated"


def test_the_end_is_recorded_on_a_full_disk(tmp_path: Path, start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small real file system, filled to the last byte while the stage runs."""
    disk = tmp_path / "exp"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        run = start("train", "wait")
        with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
            while True:
                filler.write(b"x" * 512)
        run.request_stop()
        assert wait(run, "cancelled", "failed") in ("cancelled", "failed")
        assert events_of(run.events_path)[-1]["kind"] == "run_finished"
        with pytest.raises(BitnetError, match=r"can't be used \(No space left on device\); free space there"):
            start("dryrun")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # a stage may still be ending


def test_a_file_that_is_not_a_record_is_skipped(start: Starter) -> None:
    run = start(what="done")
    wait(run, "succeeded")
    mistyped = json.dumps(dataclasses.asdict(run.record()) | {"created": "noon"})
    for name, text in {"torn": '{"id": "x', "foreign": '{"a": 1}', "list": "[]", "mistyped": mistyped}.items():
        (run.path.parent / name).mkdir()
        (run.path.parent / name / "run.json").write_text(text)
    assert [found.id for found, _ in history_of(run).entries] == [run.id]
    assert json.loads((run.path / "run.json").read_text())["state"] == "succeeded"


def test_an_odd_optional_field_does_not_hide_the_run(start: Starter) -> None:
    run = start(what="done")
    wait(run, "succeeded")
    odd = {"pid": "12", "ended": "noon", "summary": [1]}
    run.record_path.write_text(json.dumps(dataclasses.asdict(run.record()) | odd))
    record = run.record()
    assert (record.pid, record.ended, record.summary) == (None, None, {})
    assert (record.state, record.exit_code) == ("succeeded", 0)
    assert [found.id for found, _ in history_of(run).entries] == [run.id]
