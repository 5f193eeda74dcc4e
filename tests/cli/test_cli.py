"""The command line: exit codes, one sentence per mistake, JSON lines, options on either side of the command."""

import argparse
import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from bitnet_core import __version__
from bitnet_core.cli.main import _parser, main
from bitnet_core.errors import BitnetError

FAKE = Path(__file__).parents[1] / "runs" / "fake_stages"


@pytest.fixture(autouse=True)
def fake_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKE), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_STAGES", "1")


def _json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit) as caught:
            main([option])
        assert caught.value.code == 0
    out = capsys.readouterr().out
    assert __version__ in out
    assert "bitnet demo" in out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["train", "--set", "KD_TAUU=1"], 2, "KD_TAUU (the command line) is not a setting; did you mean KD_TAU?"),
        (["train", "--set", "KD_TAU=cold"], 2, "KD_TAU=cold (command line) is not allowed"),
        (["train", "--set", "KD_TAU"], 2, "--set KD_TAU has no value"),
        (["train", "--env", "no.env"], 2, "no.env (--env) does not exist"),
        (["runs", "--root", "nothing"], 2, "is not an experiment"),
        (["watch", "train", "--root", "exp"], 2, "exp has no run yet; `bitnet pipeline` starts the first."),
        (["watch", "--root", "exp"], 2, "exp has no run yet; `bitnet pipeline` starts the first."),
        (["train", "--set", "TOTAL_STEPS=abc"], 2, "TOTAL_STEPS=abc (command line) is not allowed"),
        (["train", "--root", "full-of-things"], 2, "is not empty and is not an experiment"),
        (["train", "--root", "a-file"], 2, "is a file"),
        (["keys", "set", "PATH"], 1, "PATH is not the name of a key"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    Path("exp/logs").mkdir(parents=True)
    Path("full-of-things").mkdir()
    Path("full-of-things/novel.txt").write_text("chapter one")
    Path("a-file").write_text("")
    monkeypatch.setattr("sys.stdin", io.StringIO("value\n"))
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--root", "", "runs"],
        ["train", "--env="],
        ["prompts", "--count", "2", "--out", ""],
        ["prompts", "--count", "2", "--templates="],
        ["export", "gguf", "--out", ""],
        ["verify-export", ""],
        ["generate", "--student", "", "Why?"],
        ["serve", ""],
        ["open", "local:demo", ""],
        ["report", "--to", ""],
        ["traces", "project", "--tokenizer", "t", "--out", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_working_folder(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "it is empty; give a path or leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["-1", "7777", "99999999999999999999", "1e1", ""])
def test_requests_are_read_from_an_open_file_alone(capsys: pytest.CaptureFixture[str], number: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["traces", "browse", f"--requests={number}"])
    assert caught.value.code == 2
    assert "argument --requests: it is not the number of an open file" in capsys.readouterr().err


def test_a_stage_from_start_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", "exp", "dryrun", "--json"]) == 0
    events = _json_lines(capsys.readouterr().out)
    assert events[0]["kind"] == "run_started"
    assert events[-1]["state"] == "succeeded"
    assert main(["runs", "--root", "exp", "--json"]) == 0
    listed = _json_lines(capsys.readouterr().out)
    assert [(row["stage"], row["state"]) for row in listed] == [("dryrun", "succeeded")]
    assert main(["watch", "--root", "exp"]) == 0
    assert "✓ done" in capsys.readouterr().out
    assert main(["watch", "dry", "--root", "exp"]) == 0
    assert "✓ done" in capsys.readouterr().out


def test_a_failed_stage_shows_its_error_and_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DRYRUN", "fail")
    assert main(["dryrun", "--root", "exp"]) == 1
    assert "✗ failed: The moon is in the wrong phase; wait a week." in capsys.readouterr().out


def test_set_works_on_either_side_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "SEED=7", "config", "--set", "KD_TAU=2", "--json"]) == 0
    values = {str(row["name"]): row for row in _json_lines(capsys.readouterr().out)}
    assert (values["SEED"]["value"], values["KD_TAU"]["value"]) == (7, 2.0)
    assert values["SEED"]["origin"] == "command line"


def test_config_never_shows_a_secret(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-00")
    for options in ([], ["--json"], ["--check"]):
        assert main(["config", *options]) == 0
    captured = capsys.readouterr()
    assert "sk-canary-00" not in captured.out + captured.err


def test_detach_watch_and_stop(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAIN", "wait")
    assert main(["train", "--root", "exp", "--detach"]) == 0
    run_id = capsys.readouterr().out.strip()
    assert main(["stop", run_id, "--root", "exp"]) == 0
    kept = "train was stopped; its work is kept, and starting it again continues it."
    assert capsys.readouterr().out == f"{run_id} is stopped: {kept}\n"
    assert main(["watch", run_id, "--root", "exp"]) == 130
    assert main(["stop", run_id, "--root", "exp"]) == 2


@pytest.mark.parametrize(("command", "left_in"), [("train", "cancelled"), ("watch", "running")])
def test_ctrl_c_stops_a_stage_but_only_leaves_a_watch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, left_in: str
) -> None:
    monkeypatch.setenv("FAKE_TRAIN", "wait")
    arguments = [command, "--root", "exp"]
    if command == "watch":
        main(["train", "--root", "exp", "--detach"])
        arguments.insert(1, "train")
        capsys.readouterr()
    shown = subprocess.Popen([sys.executable, "-m", "bitnet_core", *arguments], stdout=subprocess.PIPE, text=True)
    assert shown.stdout is not None
    assert shown.stdout.readline().startswith("▸ train")
    shown.send_signal(signal.SIGINT)
    shown.communicate(timeout=30)
    assert shown.returncode == (130 if command == "train" else 0)
    main(["runs", "--root", "exp", "--json"])
    assert _json_lines(capsys.readouterr().out)[0]["state"] == left_in
    main(["stop", "train", "--root", "exp"])


_INTERRUPTED_WHILE_A_CLASS_IS_MADE = """
import os, signal, sys
from bitnet_core.cli import stages
def show(*_, **__):
    exec("os.kill(os.getpid(), signal.SIGINT)")  # as dataclasses do
stages._show_events = show
from bitnet_core.__main__ import main
sys.exit(main())
"""


def test_ctrl_c_leaves_a_watch_even_while_modules_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAIN", "wait")
    main(["train", "--root", "exp", "--detach"])
    Path("interrupted.py").write_text(_INTERRUPTED_WHILE_A_CLASS_IS_MADE)
    command = [sys.executable, "-m", "interrupted", "watch", "train", "--root", "exp"]
    assert subprocess.run(command, check=False).returncode == 0
    main(["stop", "train", "--root", "exp"])


def test_the_demo_is_an_ordinary_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--set", "SEED=3"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[-2:] == [
        "✓ done",
        "open it with `make tui` (or `bitnet-tui`); the README explains these figures",
    ]
    assert "── qei ──" in out
    assert "TEACHER_PROVIDER=embedded" in Path("experiments/demo/.env").read_text()
    assert main(["demo", "--set", "SEED=3"]) == 0
    assert "skipped" in capsys.readouterr().out
    assert main(["runs"]) == 2
    assert "give --root experiments/demo." in capsys.readouterr().err


def test_a_closed_pipe_causes_no_traceback() -> None:
    command = [sys.executable, "-m", "bitnet_core", "config"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as shown:
        assert shown.stdout is not None
        assert shown.stderr is not None
        shown.stdout.close()
        time.sleep(0.1)
        assert b"Traceback" not in shown.stderr.read()


def test_a_command_that_was_not_given_has_no_parser_and_still_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Making all parsers takes a tenth of the time of `--help`."""
    with mock.patch.object(argparse.ArgumentParser, "add_argument", autospec=True) as added:
        parser = _parser([])
    assert len(added.mock_calls) < 6
    for name in ("demo", "keys", "providers", "prompts", "traces"):
        assert f"\n    {name}" in parser.format_help()
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
        assert "options of every command" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["tracse"])
    assert "invalid choice: 'tracse' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        *(["x" * 5000], ["runs", "x" * 5000], ["runs", *["x"] * 5000], ["serve", f"--port={'9' * 5000}x"]),
        *(
            ["config", "--set", "x" * 5000],
            ["config", "--env", "x" * 5000],
            ["prompts", "--count=3", "--out", "x" * 5000],
        ),
    ],
    ids=["command", "argument", "arguments", "number", "setting", "path", "output"],
)
def test_a_complaint_does_not_repeat_a_long_command_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert main(argv)
    complaint = capsys.readouterr().err
    assert "…" in complaint
    assert max(map(len, complaint.split("\n"))) <= 2000


def test_a_key_is_masked_before_a_complaint_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["runs", "x" * 240 + "?" + "sk-ant-api03-" + "Ab1" * 100])
    assert "Ab1Ab1" not in capsys.readouterr().err


def test_a_mistake_in_the_settings_keeps_no_run_from_being_seen_and_stopped(
    isolated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = isolated / "exp" / "logs" / "train-20260101T000000Z-aaaa"
    run.mkdir(parents=True)
    record = {"id": run.name, "stage": "train", "state": "succeeded", "settings": {}, "origins": {}, "argv": []}
    record |= {"created": 1.0, "host": "h", "boot_id": "b", "fingerprint": "f", "exit_code": 0}
    (run / "run.json").write_text(json.dumps(record))
    for wrong in (
        "KD_TAU=abc",
        "TOTAL_STEPS=-3\nLR=x",
        "NONSENSE",
        "BUDGET_TOKENS=${NOBODY}",
        "CHECKPOINT_INTERVAL=1e3",
    ):
        (isolated / "exp" / ".env").write_text(f"{wrong}\n")
        for command, said in (
            ("runs", "train-2026"),
            ("watch train", ""),
            ("stop train", "not running: it has finished"),
        ):
            code = main([*command.split(), "--root", str(isolated / "exp")])
            shown = capsys.readouterr()
            assert code == (2 if command.startswith("stop") else 0)
            assert said in shown.out + shown.err
            assert "exp/.env line" in shown.err
    (isolated / "exp" / ".env").write_text("LOGS_DIR=${NOBODY}\n")
    assert main(["runs", "--root", str(isolated / "exp")]) == 2
    assert main(["runs", "--root", str(isolated / "exp"), "--set", "KD_TAU=abc"]) == 2


@pytest.mark.parametrize("command", ["bitnet_core", "bitnet_tui"])
def test_an_interrupt_while_modules_are_imported_is_no_traceback(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`heavier` is what the command imports first; a busy machine takes a second for it."""
    heavier = {"bitnet_core": "bitnet_core.cli.main", "bitnet_tui": "bitnet_tui.start"}[command]

    class Interrupt:
        def find_spec(self, name: str, *_: object) -> None:
            if name == heavier:
                raise KeyboardInterrupt

    started = importlib.import_module(f"{command}.__main__")
    monkeypatch.delitem(sys.modules, heavier, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupt(), *sys.meta_path])
    assert started.main() == 130


def test_a_setting_without_effect_is_said_once_for_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> bool:
        main([*arguments])
        return (
            "STORAGE_LOCAL_DIR=/x (environment) has no effect while STORAGE_BACKEND is s3." in capsys.readouterr().err
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_BACKEND", "s3")
        patch.setenv("STORAGE_LOCAL_DIR", "/x")
        commands = (["init"], ["runs"], ["init"])
        assert [said(*one, "--root", "one") for one in commands] == [True, False, False]
        assert [said("runs", "--root", "one"), said("config", "--root", "one")] == [False, True]
        assert said("config", "--check", "--root", "one")
        assert [said(*one, "--root", "two") for one in commands] == [True, False, False]
        patch.setenv("STORAGE_LOCAL_DIR", "/y")
        main(["runs", "--root", "one"])
        assert "STORAGE_LOCAL_DIR=/y" in capsys.readouterr().err


def test_a_mistake_is_said_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    Path("exp").mkdir()
    Path("exp/.env").write_text("KDTAU=1\n")
    for _ in range(2):
        main(["runs", "--root", "exp"])
        assert "KDTAU" in capsys.readouterr().err


@pytest.mark.parametrize("state", [None, "file", "read-only", "garbage", "endless"])
def test_without_a_place_to_note_it_a_warning_is_said_again(
    state: str | None, isolated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = isolated / "state" / "bitnet-tui"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder.parent))
    if state is None:
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("bitnet_core.settings.said.state_folder", _no_home)
    elif state == "file":
        folder.parent.touch()
    else:
        (folder / "said-about-settings").mkdir(parents=True)
        if state != "read-only":
            (folder / "said-about-settings").rmdir()
            (folder / "said-about-settings").write_bytes(b"\xff" * (10 if state == "garbage" else 1 << 20))
    monkeypatch.setenv("STORAGE_BACKEND", "s3")
    monkeypatch.setenv("STORAGE_LOCAL_DIR", "/x")
    for again in (True, state not in ("garbage", "endless")):
        main(["init", "--root", "one"])
        assert ("STORAGE_LOCAL_DIR" in capsys.readouterr().err) == again


def _no_home() -> Path:
    raise BitnetError("This user has no home folder.")


def test_a_stopped_run_is_called_stopped_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("exp/logs/train-1")
    run.mkdir(parents=True)
    record = {"id": run.name, "stage": "train", "state": "cancelled", "settings": {}, "origins": {}, "argv": []}
    record |= {"created": 1.0, "exit_code": 130, "host": "h", "boot_id": "b", "fingerprint": "f"}
    (run / "run.json").write_text(json.dumps(record))
    main(["runs", "--root", "exp"])
    assert "train-1  stopped" in capsys.readouterr().out
    main(["runs", "--root", "exp", "--json"])
    assert json.loads(capsys.readouterr().out)["state"] == "cancelled"
