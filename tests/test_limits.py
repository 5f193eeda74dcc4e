"""Limits that leave no room for the libraries are one sentence, in a command and as the end of a run."""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bitnet_core import limits
from bitnet_core.errors import BitnetError
from tests.hostile import experiment

_REPO = Path(__file__).parents[1]


def limited(kilobytes: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`bitnet` with this much address space."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (kilobytes << 10, kilobytes << 10))

    return subprocess.run(
        [sys.executable, "-m", "bitnet_core", *arguments],
        capture_output=True, text=True, check=False, timeout=120, preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": str(_REPO)},
    )  # fmt: skip


@pytest.mark.parametrize("kilobytes", [100_000, 140_000, 250_000])
def test_a_command_names_the_limit_and_the_fix(isolated: Path, kilobytes: int) -> None:
    root = experiment(isolated, "exp")
    done = limited(kilobytes, "--root", str(root), "traces", "stats")
    assert done.returncode == 1
    assert "OpenBLAS" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"bitnet: The limit on memory is {kilobytes} kB (ulimit -v), too little for the libraries that compute; "
        "raise it, or lift it with `ulimit -v unlimited`."
    )


@pytest.mark.parametrize("kilobytes", [100_000, 700_000])
def test_a_stage_fails_with_the_same_sentence_and_its_event(isolated: Path, kilobytes: int) -> None:
    done = limited(kilobytes, "--root", "exp", "dryrun", "--json")
    assert done.returncode == 1
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["kind"], last["state"]) == ("run_finished", "failed")
    assert f"The limit on memory is {kilobytes} kB (ulimit -v)" in last["error"]
    (log,) = isolated.glob("exp/logs/dryrun-*/output.log")
    assert "OpenBLAS" not in log.read_text()


def test_what_computes_nothing_needs_no_room(isolated: Path) -> None:
    root = experiment(isolated, "exp")
    for command in ("config", "runs"):
        assert limited(100_000, "--root", str(root), command).returncode == 0


def test_a_limit_on_the_size_of_files_is_named_and_no_disk_called_full(isolated: Path) -> None:
    Path("exp").mkdir()
    stages = f"{_REPO}/tests/runs/fake_stages"
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 64; "$0" -m bitnet_core --root exp train --json', sys.executable],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": f"{stages}:{_REPO}", "FAKE_STAGES": "1", "FAKE_TRAIN": "too large"},
    )  # fmt: skip
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert "can't be used (File too large); raise the limit on the size of files (ulimit -f), or choose" in error
    assert "disk" not in error


def test_threads_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    limits.require_room(1)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(BitnetError, match=r"No thread can be started .*\(ulimit -u, ulimit -v\)"):
            limits.require_room(1)
    limits.require_room(1)
