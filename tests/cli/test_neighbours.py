"""`runs`, `watch`, `stop` and the pipeline beside records, folders and events that can't be read."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitnet_core import process
from bitnet_core.cli import stages
from bitnet_core.cli.main import main
from bitnet_core.files import inputs
from bitnet_core.runs.experiment import Experiment, settings_beside
from bitnet_core.runs.record import Run
from bitnet_tui.view.workspace import WorkspaceWatcher
from tests.nobody import as_nobody, close, everybodys_folder

FAKE = Path(__file__).parents[1] / "runs" / "fake_stages"
GOOD: dict[str, Any] = {
    "stage": "eval", "state": "succeeded", "settings": {}, "origins": {}, "argv": [], "created": 1.0, "exit_code": 0,
    "host": "h", "boot_id": "b", "fingerprint": "f",
}  # fmt: skip
EVENTS = '{"kind":"log","message":"hello"}\n'


def add(name: str, **fields: Any) -> Run:
    run = Run(Path("exp/logs") / name)
    run.path.mkdir(parents=True)
    run.record_path.write_text(json.dumps(GOOD | {"id": name} | fields))
    run.events_path.write_text(EVENTS)
    return run


def _folder(path: Path) -> None:
    path.mkdir()


BAD: list[Callable[[Path], object]] = [
    lambda path: path.write_text(""),
    lambda path: path.write_text("{}"),
    lambda path: path.write_text(json.dumps(GOOD | {"id": "x", "created": "yesterday"})),
    lambda path: path.write_text(json.dumps(GOOD | {"id": "x", "created": 1e300})),
    lambda path: path.write_text("[" * 200_000),
    lambda path: path.write_text('{"a":' * 5000 + "1" + "}" * 5000),
    lambda path: path.write_bytes(b"\xff\xfe"),
    lambda path: path.write_text("9" * 5000),
    lambda path: path.write_bytes(b"\x00" * (5 << 20)),
    _folder,
    os.mkfifo,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("run.json"),
]


@pytest.fixture
def bad() -> Path:
    """Where the record of train-1 is to be, among two good runs."""
    add("eval-2")
    run = add("train-1")
    run.record_path.unlink()
    return run.record_path


@pytest.mark.parametrize("make", BAD)
def test_every_command_goes_on_beside_a_bad_record(
    capsys: pytest.CaptureFixture[str], bad: Path, make: Callable[[Path], object]
) -> None:
    make(bad)
    assert main(["--root", "exp", "runs", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["run"], row["state"]) for row in rows] == [("eval-2", "succeeded"), ("train-1", "unreadable")]
    assert "run.json" in rows[1]["error"]
    assert main(["--root", "exp", "watch", "eval"]) == 0
    assert "hello" in capsys.readouterr().out
    assert main(["--root", "exp", "watch"]) == 0
    for command in ("watch", "stop"):
        assert main(["--root", "exp", command, "train"]) == 1
        complaint = capsys.readouterr().err
        assert complaint.startswith(f"bitnet: {bad.absolute()} ")
        assert complaint.count("\n") == 1


def test_the_table_of_runs_has_the_reason(capsys: pytest.CaptureFixture[str], bad: Path) -> None:
    bad.write_text(json.dumps(GOOD | {"id": "train-1", "created": "yesterday"}))
    assert main(["--root", "exp", "runs"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "train-1  unreadable" in last
    assert "Expected `float`, got `str` - at `$.created`" in last


def test_runs_that_may_not_be_read_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    def listed() -> list[Any]:
        code = main(["--root", "exp", "runs", "--json"])
        return [code, *map(json.loads, capsys.readouterr().out.splitlines())]

    with everybodys_folder() as place:
        os.chdir(place)
        add("eval-2")
        run = add("train-1")
        listed()  # what it imports is imported while it may be read
        close(run.path)
        code, first, second = as_nobody(listed)
        assert (code, first["state"], second["state"]) == (0, "succeeded", "unreadable")
        assert "Permission denied" in second["error"]
        close(Path("exp/logs"))
        code, complaint = as_nobody(lambda: [main(["--root", "exp", "runs"]), capsys.readouterr().err])
        assert (code, complaint.count("\n")) == (1, 1)
        assert "exp/logs can't be read (Permission denied); check its permissions." in complaint


def test_what_belongs_to_another_user_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with everybodys_folder() as place:
        os.chdir(place)
        run = add("train-1")
        main(["experiments", "--set", "BITNET_HOME=."])  # what it imports is imported while it may be read
        lock = run.path.parent / ".dryrun.lock"
        lock.touch()
        close(lock)
        logs = lock.parent
        for folder in (logs, logs.parent, place):
            folder.chmod(0o777)
        said = as_nobody(lambda: [main(["--root", "exp", "dryrun"]), capsys.readouterr().err])
        assert said[0] == 1
        assert f"exp/logs/{lock.name} can't be used (Permission denied); check its permissions." in said[1]
        close(Path("exp"))
        said = as_nobody(lambda: [main(["experiments", "--set", "BITNET_HOME=."]), *capsys.readouterr()])
        assert said[0] == 0
        assert said[1].rstrip().endswith("holds no experiment that can be read")
        assert "can't be read (Permission denied)" in said[2]


@pytest.fixture
def sleeper() -> Iterator[process.ProcessIdentity]:
    """A process of its own group, as a run's is."""
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        identity = process.identify(child.pid)
        assert identity is not None
        yield identity
        child.kill()


@pytest.mark.parametrize("created", [0.0, 1.0, 1e9])
def test_a_clock_put_back_hides_no_running_stage_from_stop(
    capsys: pytest.CaptureFixture[str], sleeper: process.ProcessIdentity, created: float
) -> None:
    add("train-1", stage="train", created=2e9)
    add("train-2", stage="train", created=created, state="running", pid=sleeper.pid, process_start=sleeper.start,
        boot_id=sleeper.boot_id, host=socket.gethostname(), number=1)  # fmt: skip
    assert main(["--root", "exp", "runs"]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[:2] == ["train-2", "running"]
    assert main(["--root", "exp", "stop", "train", "--now"]) == 0
    killed = "train was killed before it could save; only what it had saved before is kept."
    assert capsys.readouterr().out == f"train-2 is stopped: {killed}\n"
    assert process.identify(sleeper.pid) is None


@pytest.mark.parametrize("child", ["train-1", "gone", "../..", "/", "", "a\x00b", "eval-2", "pipeline-1"])
def test_a_pipeline_is_watched_whatever_run_its_events_name(
    capsys: pytest.CaptureFixture[str], bad: Path, child: str
) -> None:
    bad.write_text("{}")
    run = add("pipeline-1", stage="pipeline", created=9.0)
    progress = json.dumps({"kind": "progress", "done": 1, "run": child})
    run.events_path.write_text(progress + "\n" + '{"kind":"run_finished","state":"succeeded"}\n')
    assert main(["--root", "exp", "watch", "pipeline"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "✓ done"


def test_events_that_are_no_file_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    run = add("eval-2")
    run.events_path.unlink()
    os.mkfifo(run.events_path)
    assert main(["--root", "exp", "watch"]) == 0
    assert "events.jsonl can't be read (it is not a regular file)." in capsys.readouterr().out


def test_the_pipeline_goes_on_and_says_what_it_left_out(
    capsys: pytest.CaptureFixture[str], bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKE), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_STAGES", "1")
    bad.write_text("[]")
    assert main(["--root", "exp", "pipeline"]) == 0
    out = capsys.readouterr().out
    assert "! train-1 is left out: " in out
    assert main(["--root", "exp", "train", "--json"]) == 0


@pytest.mark.parametrize("error", ["x" * 3_000_000, "word " * 500_000, "a\n" * 20_000])
def test_a_long_error_leaves_room_for_the_other_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    add("eval-2")
    add("train-1", state="failed", error=error)
    assert main(["--root", "exp", "runs"]) == 0
    said = capsys.readouterr().out
    assert "eval-2" in said
    assert len(said.splitlines()) < 60
    assert main(["--root", "exp", "runs", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert error in str(rows) or json.dumps(error)[1:-1] in json.dumps(rows)


@pytest.mark.parametrize("host", ["elsewhere", socket.gethostname()])
def test_who_watches_a_run_is_told_how_to_stop_it(host: str) -> None:
    me = process.current()
    run = add("train-1", state="running", host=host, pid=me.pid, process_start=me.start, boot_id=me.boot_id)
    assert (
        stages._going_on(run, "bitnet") == "train-1 keeps running; `bitnet stop train-1` stops it."
    )  # renamed, but here
    assert "`bitnet --root x stop train-1`" in stages._going_on(run, "bitnet --root x")
    run = add("train-2", state="running", host=host, pid=1, process_start=0.5)
    said = stages._going_on(run, "bitnet")
    assert said == ("train-2 keeps running; stop it on elsewhere, where it runs." if host == "elsewhere" else "")


def test_a_list_waits_for_no_neighbours_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "experiments"
    monkeypatch.setenv("BITNET_HOME", str(home))
    for name in ("a", "b", "c", "good"):
        (home / name / "logs").mkdir(parents=True)
    os.mkfifo(home / "a" / ".env")
    os.mkfifo(tmp_path / "pipe")
    (home / "b" / ".env").symlink_to(tmp_path / "pipe")
    (home / "c" / ".env").mkdir()
    monkeypatch.setattr(inputs, "_kept", {})
    monkeypatch.setattr(inputs, "_from_pipe", lambda *_: pytest.fail("a pipe was waited for"))
    assert main(["experiments", "--json"]) == 0
    found = {row["name"]: row["problem"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["good"] is None and found["c"].startswith(f"{home / 'c' / '.env'} is a folder")
    assert all(found[name].startswith(f"{home / name / '.env'} is a pipe; it is read when") for name in "ab")
    assert main(["experiments"]) == 0
    said = capsys.readouterr()
    assert said.err.count("is a pipe") == 2 and "good" in said.out
    rows = {row.name: row for row in WorkspaceWatcher(home).look()}
    assert [rows[name].problem == found[name] for name in "ab"] == [True, True] and not rows["good"].problem


def test_a_pipe_that_was_read_for_its_own_experiment_counts_in_a_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BITNET_HOME", str(tmp_path))
    root = tmp_path / "exp"
    (root / "logs").mkdir(parents=True)
    os.mkfifo(root / ".env")
    monkeypatch.setattr(inputs, "_kept", {})
    threading.Thread(target=(root / ".env").write_text, args=("SEED=77\n",), daemon=True).start()
    assert Experiment.open(root).settings.values["SEED"] == 77
    found = settings_beside(root)
    assert (found.settings.values["SEED"], found.errors) == (77, "")
    assert main(["experiments", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problem"] is None
