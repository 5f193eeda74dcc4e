"""The whole pipeline with the real embedded teacher and tiny settings, begun in the app over SSH."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from bitnet_core.files import sha256_file
from bitnet_core.files.user_folders import cache_folder
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run
from bitnet_core.settings.resolve import resolve
from tests.builders import events_of
from tests.e2e import ssh

TINY = """\
TEACHER_BASELINE_MAX_PROMPTS=2
TEACHER_BASELINE_MAX_TOKENS=12
KD_NUM_PROMPTS=8
KD_MAX_TOKENS_PER_PROMPT=16
KD_CONCURRENCY=2
MINI_DIM=256
MINI_LAYERS=1
TRAIN_BATCH_SIZE=2
MAX_SEQ_LEN=96
TOTAL_STEPS=12
BUDGET_TOKENS=240
FLIP_FRACTION=0.5
LOG_INTERVAL=1
CHECKPOINT_INTERVAL=6
EVAL_MAX_PROMPTS=1
EVAL_MAX_NEW_TOKENS=4
EVAL_SUITE=arithmetic
EVAL_LIMIT=2
EVAL_SUITE_MAX_TOKENS=4
DRYRUN_DIM=256
DRYRUN_LAYERS=2
DRYRUN_HEADS=4
DRYRUN_HEAD_DIM=64
DRYRUN_SEQ_LEN=8
"""
pytestmark = [pytest.mark.teacher, pytest.mark.timeout(900), pytest.mark.usefixtures("teacher_files")]


_FEW_ROUNDS = Path(__file__).with_name("few_rounds")
_REPO = Path(__file__).parents[2]
_PATIENCE_S = 300


def _bitnet(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bitnet_core", *arguments, "--root", str(root)]
    paths = [str(_FEW_ROUNDS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _history(root: Path) -> History:
    return History.read(Experiment.from_settings(resolve(root=root, environ={}, cwd=root.parent).checked()))


def _latest(root: Path, stage: str) -> Run:
    entry = _history(root).latest(stage)
    assert entry is not None
    return entry.run


def _events(root: Path, stage: str, kind: str) -> list[dict[str, Any]]:
    return [event for event in events_of(_latest(root, stage).events_path) if event["kind"] == kind]


@dataclass
class Crossing:
    """What was seen of the pipeline over a connection that was cut, and over the next one."""

    missing: str = ""
    """Why there was no connection."""
    exit_code: int = 0
    """Of the first connection."""
    left: Sequence[psutil.Process] = ()
    """The apps of the first connection that outlived it."""
    went_on: bool = False
    """Whether the next stage began while nobody was connected."""
    shown: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def crossing() -> Crossing:
    return Crossing()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, crossing: Crossing) -> Path:
    """An experiment whose pipeline has run once: begun in the app over SSH, or where that is not installed, here."""
    root = tmp_path_factory.mktemp("e2e") / "tiny"
    root.mkdir()
    (root / ".env").write_text(TINY)
    user = tmp_path_factory.mktemp("user")
    try:
        with ssh.serving(user) as server:
            _over_ssh(server, root, user, crossing)
    except ssh.NoConnection as error:
        crossing.missing = str(error)
        shown = _bitnet(root, "pipeline")
        assert shown.returncode == 0, shown.stdout + shown.stderr
    assert _latest(root, "pipeline").state() == "succeeded"
    return root


def _over_ssh(server: ssh.Server, root: Path, user: Path, crossing: Crossing) -> None:
    """Begin the pipeline in the app, cut the connection while it collects, and see its end over another one."""
    folders = {name: str(user / name) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    own = {"PATH": os.environ["PATH"], "BITNET_CACHE": str(cache_folder()), "BITNET_KEYRING": "none"}
    variables = {
        **own,
        **folders,
        "PYTHONPATH": f"{_FEW_ROUNDS}:{_REPO}",
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
    }
    with ssh.app(server, root.parent, variables) as first:
        first.until("tiny")
        first.press("\r")
        first.until("p Run pipeline")
        first.press("p")
        run = ssh.eventually(first, lambda: _history(root).active("collect"))
        ssh.eventually(first, lambda: [event for event in events_of(run.events_path, "progress") if event["done"]])
        apps = ssh.apps(root.parent)
        assert apps
        server.cut()
        crossing.exit_code = first.wait(_PATIENCE_S)
        crossing.left = psutil.wait_procs(apps, _PATIENCE_S)[1]
    deadline = time.monotonic() + _PATIENCE_S
    while not (crossing.went_on or time.monotonic() > deadline):
        crossing.went_on = _history(root).active("train") is not None
        time.sleep(0.1)
    with ssh.app(server, root.parent, variables) as second:
        second.until("tiny")
        second.press("\r")
        second.until("▸ running", _PATIENCE_S)
        crossing.shown.append(second.shown)
        ssh.eventually(second, lambda: not _latest(root, "pipeline").is_active())
        second.until("Whole pipeline   ✓ done", _PATIENCE_S)
        crossing.shown.append(second.shown)
        second.press("q")
        second.wait(_PATIENCE_S)


@pytest.mark.usefixtures("done")
def test_the_pipeline_outlives_the_connection_and_the_next_one_shows_it(crossing: Crossing) -> None:
    if crossing.missing:
        pytest.skip(crossing.missing)
    assert crossing.exit_code != 0, "it was cut"
    assert crossing.left == [], "no app is left at the other end"
    assert crossing.went_on
    running, ended = crossing.shown
    assert "▸ train" in running or "▸ eval" in running
    assert "QEI" in ended


def test_every_stage_leaves_its_documented_files(done: Path) -> None:
    for pattern in (
        "reports/teacher_baseline.json",
        "data/teacher_shard_000.parquet",
        "data/sequences.parquet",
        "data/kd_shard_000.parquet",
        "checkpoints/mini_bitnet_step_*.pt",
        "checkpoints/mini_bitnet_step_*_health.json",
        "reports/mini_evaluation_report.json",
        "reports/dryrun_7b_memory.json",
        "reports/pipeline_summary.json",
    ):
        assert list(done.glob(pattern)), pattern
    assert not list(done.rglob("*.part"))


def test_every_json_file_is_strict(done: Path) -> None:
    files = [*done.rglob("*.json")]
    assert len(files) > 8
    for path in files:
        json.loads(path.read_text(), parse_constant=pytest.fail)


def test_artifacts_have_the_size_and_hash_of_their_events(done: Path) -> None:
    """As the last event for each path says."""
    announced = {}
    for run, _ in reversed(_history(done).entries):
        for event in events_of(run.events_path):
            if event["kind"] in ("artifact", "checkpoint"):
                announced[event["path"]] = event
    assert len(announced) >= 6
    for path, event in announced.items():
        if Path(path).exists():
            assert (Path(path).stat().st_size, sha256_file(Path(path))) == (event["bytes"], event["sha256"]), path


def test_the_flip_is_at_the_first_step_with_enough_seen_tokens(done: Path) -> None:
    flips = _events(done, "train", "flip")
    assert [(flip["from_bits"], flip["to_bits"]) for flip in flips] == [(8, 4)]
    metrics = _events(done, "train", "metric")
    seen = [m["seen_tokens"] for m in metrics if m.get("loss") is not None]
    assert seen == sorted(seen)
    assert flips[0]["seen_tokens"] >= 120
    before = [m for m in metrics if m["step"] < flips[0]["step"] and m.get("activation_bits")]
    assert all(m["activation_bits"] == 8 for m in before)
    assert metrics[-1]["activation_bits"] == 4


def test_the_second_pipeline_has_nothing_to_do(done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done / "data").rglob("*") if path.is_file()}
    shown = _bitnet(done, "pipeline", "--gate", "--set", "GATE_QEI=1000")
    assert shown.returncode == 3
    assert "GATE_QEI asks for ≥ 1000" in shown.stdout
    assert shown.stdout.count("is done and unchanged") == 5, "a gate's limit makes nothing out of date"
    assert "── qei ──" in shown.stdout[shown.stdout.index("── pipeline ──") :]
    gates = json.loads((done / "reports" / "pipeline_summary.json").read_text())["gates"]
    assert {gate["name"]: gate["verdict"] for gate in gates} | {"QEI": "fail"} == {
        gate["name"]: gate["verdict"] for gate in gates
    }
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert _bitnet(done, "pipeline").stdout.rstrip().endswith("✓ done")
