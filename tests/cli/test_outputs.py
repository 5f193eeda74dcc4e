"""Outputs that lack signs, that are closed, full or read in part: one sentence at most, and a run goes on."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_tui.start import main as app
from tests.hostile import experiment, shown, terminal

_REPO = Path(__file__).parents[2]
_STAGES = _REPO / "tests" / "runs" / "fake_stages"
BITNET, APP = "bitnet_core", "bitnet_tui"


def shell(command: str, program: str = BITNET, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a line of bash in which `$B` stands for the program. A pipe ends with the first failure."""
    command = command.replace("$B", f"{shlex.quote(sys.executable)} -m {program}")
    paths = {"PYTHONPATH": f"{_STAGES}:{_REPO}", "FAKE_STAGES": "1"}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True, env={**os.environ, **paths, **environment}, check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture
def root(isolated: Path) -> str:
    return str(experiment(isolated, "exp"))


# -- encodings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    ("program", "command", "part"),
    [
        (main, "--help", "A8->A4"),
        (main, "train --help", "exit codes"),
        (main, "runs", "-- runs --"),
        (main, "watch train", "A1 -> A1"),
        (main, "config", "-- settings --"),
        (main, "config --example", "KD_TAU"),
        (main, "providers", "@ embedded"),
        (main, "prompts --list", "-- topics --"),
        (main, "prompts --count 3", "prompt"),
        (main, "keys list", "vault"),
        (main, "stop train", "is not running"),
        (app, "--help", "experiment"),
        (app, "--plain --home .", "x train"),
    ],
)
def test_no_command_fails_for_the_encoding(
    root: str,
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    program: Callable[[list[str]], int],
    command: str,
    part: str,
) -> None:
    place = [] if program is app else ["--root", root]
    with terminal(monkeypatch, encoding) as got, contextlib.suppress(SystemExit):
        program([*place, *command.split()])
    assert part in shown(got, encoding)


@pytest.mark.parametrize("encoding", ["cp037", "utf-16", "utf-7", "hz", "idna", "koi8-r:strict"])
def test_a_refusal_can_be_read_on_a_terminal(encoding: str) -> None:
    for program in (BITNET, APP):
        done = shell("$B --no~such", program, PYTHONIOENCODING=encoding)
        assert done.returncode == 2
        assert b"--no~such" in done.stderr


def test_a_stage_in_a_latin_1_job(isolated: Path) -> None:
    done = shell("$B --root exp→ dryrun; $B --root exp→ dryrun --json", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("latin-1").splitlines()
    assert "+ done" in lines
    assert str(json.loads(lines[-2])["path"]).startswith(str(isolated / "exp→"))


# -- closed and full outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("runs", ">&-"),
        ("runs --json", ">/dev/full"),
        ("config", "> >(exec true)"),
        ("--help", ">/dev/full"),
        ("--help", ">&-"),
        ("watch train", ">/dev/full 2>&-"),
        ("prompts --count 999", "| head -n 1"),
        ("providers", ">&- 2>&- <&-"),
    ],
)
def test_a_closed_output_is_one_sentence(root: str, command: str, output: str) -> None:
    wait = "sleep 0.2; " if "true" in output else ""  # so that its reader has ended
    done = shell(f"{{ {wait}$B --root {shlex.quote(root)} {command}; }} {output}")
    assert done.returncode == 1
    said = [line for line in done.stderr.decode().splitlines() if "has no effect yet" not in line]
    assert len(said) == ("2>&-" not in output)
    reason = {">&-": "it is closed", ">/dev/full": "No space left on device"}.get(output, "Broken pipe")
    assert said in ([], [f"bitnet: stdout can't be written ({reason}); the rest of the output is lost."])


@pytest.mark.parametrize("command", ["$B --plain --home . >&-", "$B --help >/dev/full"])
def test_the_app_with_a_closed_output(root: str, command: str) -> None:
    done = shell(command, APP)
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert done.stderr.startswith(b"bitnet-tui: stdout can't be written (")


def test_the_app_without_a_terminal_at_all(isolated: Path) -> None:
    assert shell("$B --home . <&- >&- 2>&-", APP).returncode == 2


@pytest.mark.parametrize("started", ["train --detach >/dev/full", "train >&-", "train --json | head -n 1"])
def test_a_running_stage_goes_on(isolated: Path, started: str) -> None:
    done = shell(f"$B --root exp {started}", FAKE_TRAIN="wait")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.startswith("bitnet: stdout can't be written (")
    assert " keeps running; " in said
    assert "`bitnet --root exp stop train-" in said and said.endswith(" stops it.\n")
    listed = shell("$B --root exp runs --json; $B --root exp stop train")
    assert json.loads(listed.stdout.splitlines()[0])["state"] in ("running", "starting")
    assert listed.returncode == 0


def test_no_file_takes_the_place_of_a_closed_output(isolated: Path) -> None:
    """A descriptor that is free is given to the next file that is opened."""
    done = shell("$B --root exp dryrun >&- 2>&- <&-; $B --root exp watch dryrun")
    assert b"done" in done.stdout
    assert not [
        path for path in Path("exp").rglob("*") if path.is_file() and b"can't be written" in path.read_bytes()
    ]


@pytest.mark.parametrize("command", ["chat", "keys set OPENAI_API_KEY"])
def test_a_closed_input_is_one_sentence(root: str, command: str) -> None:
    done = shell(f"$B --root {shlex.quote(root)} {command} <&-")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
