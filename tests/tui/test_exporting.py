"""Export in the Checkpoints tab while it runs, and the page with what to type."""

import asyncio
import getpass
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

import bitnet_tui
from bitnet_core import process
from bitnet_core.errors import UsageError
from bitnet_core.files import half_written
from bitnet_core.runs import export_run
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.export_run import ExportRun
from bitnet_core.runs.exports import GGUF, HF, Exported
from bitnet_core.runs.record import Run, end
from bitnet_core.text import size, width
from bitnet_core.workspace.changes import rename
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.exported import Command, ExportedScreen
from bitnet_tui.view.checkpoints import said_lines
from bitnet_tui.view.exports import command_lines, commands, facts, told
from bitnet_tui.view.spans import unstyled
from bitnet_tui.widgets.checkpoints_pane import CheckpointsPane
from tests.tui.conftest import RecordingLaunch
from tests.tui.exports import Exporting
from tests.tui.pilots import click_on, settled, shown, until, words
from tests.tui.simulated import NOON

_FOLDERS = ("assets", "bitnet_core", "bitnet_tui")


async def begin_export(pilot: Pilot[None]) -> None:
    await settled(pilot)
    await pilot.press("4")
    await settled(pilot)
    await pilot.press("E", "enter")
    await until(pilot, lambda: "Exporting step 200 for llama.cpp" in words(pilot))


def _page_is_open(pilot: Pilot[None]) -> bool:
    return isinstance(pilot.app.screen, ExportedScreen)


async def test_the_page_that_says_what_to_type_stays_when_the_export_ends_under_it(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch
):
    export = Exporting(saved, monkeypatch)
    async with BitnetApp(home, saved.root, launch=RecordingLaunch(warning="")).run_test(size=(100, 30)) as pilot:
        await begin_export(pilot)
        export.may_write.set()
        await until(pilot, lambda: "Comparing what was exported of step 200" in words(pilot))
        await until(pilot, lambda: "E How to run it, or stop" in words(pilot))
        assert "E Export" not in words(pilot)
        assert "Exporting" not in words(pilot)
        await until(pilot, lambda: re.search(r"step 200, (?!0s)\d", words(pilot)) is not None)  # it goes on
        assert f"Written, being compared: {export.made.name}" in words(pilot) and "Exported: " not in words(pilot)
        await pilot.press("E")  # it is there already
        await until(pilot, lambda: "▸ written, being compared, " in words(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: _page_is_open(pilot) and "scp " in words(pilot))
        export.may_end.set()
        await asyncio.to_thread(_wait_for_end, saved.root)
        for told in (export.made.name, "scp ", f"llama-server -m {export.made.name}", "curl "):
            assert told in words(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert "✓ Exported step 200, verified: " in words(pilot)
        assert "Exported: " in words(pilot) and "being compared" not in words(pilot)
        assert "Exporting" not in words(pilot)
        assert not pilot.app._notifications
        await pilot.press("E")
        await settled(pilot)
        assert f"✓ exported, {size(export.made.stat().st_size)}" in words(pilot)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("y")
        assert (
            pilot.app.clipboard
            == f"scp {getpass.getuser()}@{socket.gethostname()}:experiments/one/exports/{export.made.name} ."
        )
        await pilot.press("down", "down", "down", "down", "enter")
        assert pilot.app.clipboard == f"bitnet serve {export.made.name}"
        await click_on(pilot, "llama-server -m")
        assert pilot.app.clipboard == f"llama-server -m {export.made.name}"
        await click_on(pilot, "Export again")
        assert [arguments[-1] for arguments in export.arguments] == [
            str(saved.checkpoints / "mini_bitnet_step_00000200.pt"),
            "--force",
        ]


@pytest.mark.parametrize("closes", [False, True])
async def test_what_came_of_an_export_meanwhile_is_shown_when_one_comes_back(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch, closes: bool
):
    export = Exporting(saved, monkeypatch)
    async with BitnetApp(home, launch=RecordingLaunch(warning="")).run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await begin_export(pilot)
        await pilot.press("escape" if closes else "7")
        await until(pilot, lambda: "E Export" not in shown(pilot))
        export.end()
        await until(pilot, lambda: bool(pilot.app._notifications))
        told = "Export of one: Exported step 200, verified: one-step200-TQ2_0.gguf"
        assert [one.message for one in pilot.app._notifications] == [told]
        assert not _page_is_open(pilot)
        if closes:
            await pilot.press("enter")
            await settled(pilot)
        await pilot.press("4")
        await until(pilot, lambda: "✓ Exported step 200, verified: " in words(pilot))
        assert "Exporting" not in words(pilot)
        assert not _page_is_open(pilot)
        assert "E shows how to run it." in words(pilot)
        await pilot.press("E", "enter")
        await until(pilot, lambda: _page_is_open(pilot))


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_export_that_failed_says_so_and_opens_no_page(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch, leaves: bool
):
    export = Exporting(saved, monkeypatch, "There is no room.")
    async with BitnetApp(home, saved.root, launch=RecordingLaunch(warning="")).run_test(size=(100, 30)) as pilot:
        await begin_export(pilot)
        if leaves:
            await pilot.press("7")
        export.end()
        await settled(pilot)
        assert [one.severity for one in pilot.app._notifications] == (["error -beside"] if leaves else [])
        await pilot.press("4")
        await until(pilot, lambda: "✗ The export of step 200 failed: There is no room." in words(pilot))
        assert "Exporting" not in words(pilot)
        assert not _page_is_open(pilot)


def _recorded(experiment: Experiment, **changed: object) -> Run:
    """The record of an export that this process makes of step 200."""
    with export_run.recorded(experiment, [GGUF], [], str) as recording:
        recording.tell(step=200)
        run = Run(experiment.root / "exports" / ".export")
        record = run.record()
    run.write(replace(record, **changed))  # type: ignore[arg-type]
    return run


async def test_an_export_that_was_killed_is_told_until_the_next_one_begins(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch
):
    """By every app, and what it had half written is removed."""
    _recorded(saved, pid=2**22 + 1)
    left = saved.root / "exports" / f".x.{half_written._writer(2**22 + 1)}-0.part"
    left.write_bytes(b"half")
    export = Exporting(saved, monkeypatch)
    async with BitnetApp(home, saved.root, launch=RecordingLaunch(warning="")).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("4")
        told = "The export of step 200 for llama.cpp was killed: its process is gone; nothing of it is left."
        await until(pilot, lambda: told in " ".join(words(pilot).split()))
        assert not left.exists()
        await pilot.press("E", "enter")
        export.end()
        await until(pilot, lambda: "✓ Exported step 200, verified: " in words(pilot))
        assert "killed" not in words(pilot)


async def test_an_export_that_another_app_began_is_followed_and_can_be_stopped(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch
):
    run = _recorded(saved)
    stopped: list[Path] = []

    def stop(root: Path) -> None:
        stopped.append(root)
        end(run, "cancelled", 130, None, run.record().summary)

    monkeypatch.setattr(export_run, "stop", stop)
    export = Exporting(saved, monkeypatch)
    async with BitnetApp(home, saved.root, launch=RecordingLaunch(warning="")).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("4")
        await until(pilot, lambda: "▸ Exporting step 200 for llama.cpp, " in words(pilot))
        export.write()
        run.write(replace(run.record(), summary=run.record().summary | {"written": [export.made.name]}))
        await until(pilot, lambda: "Comparing what was exported of step 200, " in words(pilot))
        await pilot.press("E", "down", "enter")
        still = "The export of step 200 is still running."
        await until(pilot, lambda: any(still in one.message for one in pilot.app._notifications))
        await pilot.press("E", "end", "enter")
        await until(pilot, lambda: "▲ The export of step 200 for llama.cpp was stopped; E" in words(pilot))
        assert stopped == [saved.root] and not export.arguments


async def test_an_export_that_runs_is_shown_by_a_screen_that_was_opened_again(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch
):
    export = Exporting(saved, monkeypatch)
    async with BitnetApp(home, launch=RecordingLaunch(warning="")).run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await begin_export(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: "E Export" not in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: bool(pilot.app.screen.query("Foot")))  # it is complete
        await pilot.press("4")
        await until(pilot, lambda: "Exporting step 200 for llama.cpp" in words(pilot))
        await pilot.press("E", "enter")
        still = "The export of step 200 is still running."
        await until(pilot, lambda: any(still in one.message for one in pilot.app._notifications))
        export.end()
        await until(pilot, lambda: "✓ Exported step 200, verified: " in words(pilot))
        assert not _page_is_open(pilot)
        assert len(export.arguments) == 1


async def test_an_export_goes_on_without_the_app_and_holds_its_experiment(
    home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch
):
    """The process is a real one, which stands for `bitnet export` and is light."""
    code = (
        "import sys, time; from pathlib import Path; from bitnet_core.runs import export_run, experiment\n"
        "one = experiment.Experiment.open(Path(sys.argv[1]))\n"
        "with export_run.export_lock(one, print), export_run.recorded(one, ['gguf'], [], str) as told:\n"
        "    told.tell(step=200)\n"
        "    while not Path(sys.argv[2]).exists(): time.sleep(0.02)\n"
    )
    go = home.parent / "go"
    monkeypatch.setattr(process, "python", lambda *_: [sys.executable, "-c", code, str(saved.root), str(go)])
    monkeypatch.setattr("bitnet_tui.services.commands.overrides", lambda *_: {})
    async with BitnetApp(home, saved.root, launch=RecordingLaunch(warning="")).run_test(size=(80, 24)) as pilot:
        await begin_export(pilot)
        await until(pilot, lambda: export_run.latest(saved.root) is not None)
        with pytest.raises(UsageError, match="export is running in"):
            rename(saved.root, "two")
        await pilot.press("q")
        await until(pilot, lambda: pilot.app._exit)
    found = export_run.latest(saved.root)
    assert found is not None and found.active
    go.touch()
    await asyncio.to_thread(_wait_for_end, saved.root)
    assert (export_run.latest(saved.root) or found).state == "succeeded"


def _wait_for_end(root: Path) -> None:
    while (found := export_run.latest(root)) and found.active:
        time.sleep(0.02)


async def test_what_was_exported_comes_first_and_enter_shows_it(home: Path, saved: Experiment):
    there = Exported(saved.root / "exports" / "one-step200-hf", HF, 200, "a" * 64, 53_000_000, NOON)
    async with BitnetApp(home, saved.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("4")
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentScreen)
        row = screen.query_one(CheckpointsPane).chosen
        assert row is not None
        screen.ask_format(replace(row, exported=(there,)))
        await settled(pilot)
        assert words(pilot).index("hf ✓ exported, 53 MB: how to run it") < words(pilot).index("gguf for llama.cpp")
        await pilot.press("enter")
        await settled(pilot)
        assert _page_is_open(pilot)


@given(st.integers(24, 90), st.lists(st.text("ab", min_size=1, max_size=12), min_size=1, max_size=12))
def test_a_command_is_shown_whole(cells: int, folders: list[str]):
    one = Exported(Path("/", *folders), HF, 200, "a" * 64, 53_000_000, NOON)
    for what, command in commands(one):
        lines = [unstyled(line) for line in command_lines(what, command, cells)]
        assert max(map(width, lines)) <= cells
        assert "".join(lines).replace(" ", "") == f"{what}{command}".replace(" ", "")
    assert f"{one.path} ." in commands(one)[0][1]


@pytest.mark.parametrize("kind", [GGUF, HF])
@pytest.mark.parametrize("written", [(), ("one",)])
def test_how_an_export_is_doing_stays_on_one_line_of_a_narrow_window(kind: str, written: tuple[str, ...]):
    style, words = told(ExportRun("running", 1, 123_456, (kind,), 754, written))
    assert "12m 34s so far" in words
    assert len(said_lines(style, words, 76, 3)) == 1


def test_a_command_names_the_file_as_it_is_called():
    one = Exported(Path("/my  lab/a  b.gguf"), GGUF, 200, "a" * 64, 1000, NOON)
    copied, other, asked, _, served = (command for _, command in commands(one))
    assert copied.endswith(f"'{one.path}' .")
    assert served == f"bitnet serve '{one.path.name}'"
    assert other == f"llama-server -m '{one.path.name}'"
    assert asked.startswith("curl http://127.0.0.1:8080/v1/chat/completions ")
    _, install, asked, served = (command for _, command in commands(replace(one, kind=HF)))
    assert install == "pip install 'transformers[serving]'", "before what needs it"
    assert f'"{one.path.name}"' in asked
    assert served == f"transformers serve '{one.path.name}'"


def test_the_line_that_installs_this_program_elsewhere_sends_it_without_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program, there = tmp_path / "my  lab", tmp_path / "there"
    for name in ("pyproject.toml", "README.md", "LICENSE", *(f"{one}/x" for one in _FOLDERS), "experiments/one/x"):
        (program / name).parent.mkdir(parents=True, exist_ok=True)
        (program / name).touch()
    there.mkdir()
    for name, code in (("ssh", 'sh -c "$2"'), ("pip", 'echo "$@" > installed')):
        (there / name).write_text(f"#!/bin/sh\n{code}\n")
        (there / name).chmod(0o755)
    monkeypatch.setattr(bitnet_tui, "__file__", str(program / "bitnet_tui" / "__init__.py"))
    monkeypatch.setenv("PATH", f"{there}:{os.environ['PATH']}")
    one = Exported(Path("/a.gguf"), GGUF, 200, "a" * 64, 1000, NOON)
    install = next(command for _, command in commands(one) if "pip" in command)
    subprocess.run(["sh", "-c", install], check=True, cwd=there)
    assert (there / "installed").read_text() == "install ./bitnet-tui\n"
    assert (there / "bitnet-tui" / "bitnet_core" / "x").is_file()
    assert not (there / "bitnet-tui" / "experiments").exists()
    monkeypatch.setattr(bitnet_tui, "__file__", "/usr/lib/python3/site-packages/bitnet_tui/__init__.py")
    assert "pip install bitnet-tui" in [command for _, command in commands(one)]


async def test_the_export_is_laid_out_for_the_window_that_it_is_in(home: Path, saved: Experiment):
    export = Exported(saved.root / "exports" / f"{'a' * 30}.gguf", "gguf", 1, "a" * 64, 1000, NOON)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(110, 30)) as pilot:
        await settled(pilot)
        pilot.app.push_screen(ExportedScreen(export))
        await settled(pilot)
        first = shown(pilot)
        bars = {
            word: "▌" in next(one for one in first.splitlines() if word in one) for word in ("scp ", "pip install")
        }
        assert bars == {"scp ": True, "pip install": False}, "the one that is copied is told by a shape"
        last = pilot.app.screen.query(Command).last()
        last.on_click()  # before it is marked
        await settled(pilot)
        assert pilot.app.clipboard == last.command
        await until(pilot, lambda: any("Copied “bitnet serve" in one.message for one in pilot.app._notifications))
        for size in ((20, 5), (110, 30)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
        assert shown(pilot) == first
        await pilot.resize_terminal(60, 16)
        await settled(pilot)
        commands = pilot.app.screen.query(Command)
        commands.first().focus()
        for marked in list(commands)[1:]:
            await pilot.press("down")
            await settled(pilot)
            assert marked.has_class("-marked"), "also where the page scrolls"


def test_a_command_is_broken_in_its_path_and_not_in_a_name() -> None:
    command = f"scp me@lab:/home/me/{'experiments/' * 4}demo-step251-TQ2_0.gguf ."
    rows = [unstyled(one) for one in command_lines("", command, 44)][1:]
    assert rows == [
        "  scp me@lab:/home/me/experiments/",
        "  experiments/experiments/experiments/",
        "  demo-step251-TQ2_0.gguf .",
    ]
    assert "".join(one.strip() for one in rows) == command
    for cells in range(28, 60):
        rows = [unstyled(one) for one in command_lines("", command, cells)]
        assert rows[-1].strip() != ".", "the folder that it is copied into is not alone"
    one = Exported(Path("/work/experiments/demo/demo-step251-TQ2_0.gguf"), GGUF, 251, "a" * 64, 1000, NOON)
    assert unstyled(facts(one, 30)[1]) == "demo-step251-TQ2_0.gguf"
