"""The copy of an experiment on its storage target: what is told, and what keys and buttons do."""

import threading
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button

from bitnet_core import process
from bitnet_core.cli.main import main
from bitnet_core.runs.experiment import Experiment
from bitnet_core.secrets import vault
from bitnet_core.secrets.keyring_store import Keyring
from bitnet_core.secrets.places import KeyPlaces
from bitnet_core.storage.copy import open_copy
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.status import CopyStatus
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens import storing
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.vault import VaultScreen
from bitnet_tui.services.copying import StoreCommand, StoredFile
from bitnet_tui.view.copy import KnownCopy
from bitnet_tui.widgets.stored_tree import StoredTree
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import notices, settled, shown, until, words
from tests.tui.simulated import NOON, SimulatedRun, experiment, finished_experiment


def test_after_a_change_of_the_target_the_older_copy_is_not_told(home: Path, isolated: Path):
    root, known = _with_target(home, isolated / "one"), KnownCopy()
    with open_copy(Experiment.open(root), Keys()) as copy:
        copy.state.note_stored(1, [])
    assert known.of(Experiment.open(root)).counter == 1
    env = root / ".env"
    env.write_text(env.read_text().replace(f"{isolated}/one", f"{isolated}/two"))
    assert known.of(Experiment.open(root)) == CopyStatus()


def _with_target(home: Path, target: Path) -> Path:
    target.mkdir()
    exp = finished_experiment(home, "copied")
    with (exp.root / ".env").open("a") as env:
        env.write(f"STORAGE_LOCAL_DIR={target}\nSTORAGE_SYNC=off\n")
    return exp.root


async def _click(pilot: Pilot[None], text: str) -> None:
    lines = shown(pilot).split("\n")
    y = next(place for place, line in enumerate(lines) if text in line)
    await pilot.click(offset=(lines[y].index(text) + 1, y))
    await settled(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_push_is_a_run_and_pull_asks_first(home: Path, isolated: Path, size: tuple[int, int]):
    root = _with_target(home, isolated / "target")
    launch = RecordingLaunch(warning="")
    async with BitnetApp(home, root, launch=launch).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await settled(pilot)
        assert "Nothing is stored yet" in words(pilot)
        await _click(pilot, "Push")
        assert launch.launched == [(root, "upload")]
        await pilot.press("1", "u")
        await settled(pilot)
        assert launch.launched == [(root, "upload")] * 2
        assert "Force push" in shown(pilot)
        await _click(pilot, "Pull")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press("escape")
        await settled(pilot)
        assert not isinstance(pilot.app.screen, ConfirmScreen)


async def test_who_quits_while_the_copy_is_pulled_is_told_what_becomes_of_it(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
):
    root, ended = _with_target(home, isolated / "target"), threading.Event()
    monkeypatch.setattr(StoreCommand, "start", lambda command: command)
    monkeypatch.setattr(StoreCommand, "follow", lambda *_: (not ended.wait(60), "It was ended."))
    monkeypatch.setattr(StoreCommand, "interrupt", lambda _: ended.set())
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await settled(pilot)
        await _click(pilot, "Pull")
        await pilot.press("y")
        await until(pilot, lambda: bool(pilot.app.works))
        await pilot.press("q")
        await until(pilot, lambda: f"Quit while the copy of {root.name} is being pulled?" in words(pilot))
        assert "What has arrived is kept, and the next pull continues from there." in words(pilot)
        assert not ended.is_set()
        await pilot.press("y")
        await until(pilot, lambda: pilot.app._exit)
    assert ended.is_set()


async def test_a_verification_that_fails_says_why_also_where_a_run_has_much_to_say(home: Path, isolated: Path):
    """A real process; nothing is stored yet."""
    root = _with_target(home, isolated / "target")
    run = SimulatedRun(Experiment.open(root), "train", NOON + 9000)
    run.train(1, 14)
    for code in ("one", "two", "three"):
        run.emit("alert", severity="warning", code=code, message="What is wrong. " * 8, advice="What to do. " * 4)
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: "What is wrong." in shown(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "✗ Verify" in shown(pilot))
        assert "✗ Verify:" in words(pilot)
        assert "holds no" in words(pilot) or "nothing" in words(pilot).lower()


def test_what_is_tried_again_is_said_meanwhile(home: Path):
    """A real process; nobody listens on that port."""
    root = experiment(home, "far").root
    with (root / ".env").open("a") as env:
        env.write("STORAGE_BACKEND=webdav\nWEBDAV_URL=http://127.0.0.1:1\n")
    command, said = StoreCommand(home, root, "verify").start(), []

    def listen(sentence: str) -> None:
        said.append(sentence)
        if "Trying again" in sentence and command._child is not None:
            process.kill_group(command._child.pid)

    well, _ = command.follow(listen)
    assert not well
    assert any(one.startswith("WebDAV at 127.0.0.1:1 can't be reached") for one in said), said


_NOTE = "reports/note.txt"


def _pushed(home: Path, target: Path) -> Path:
    root = _with_target(home, target)
    _write(root, "mine")
    assert main(["--root", str(root), "store", "push"]) == 0
    return root


def _write(root: Path, text: str) -> None:
    path = root / _NOTE
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _opened(root: Path, folder: Path) -> Path:
    """The copy, brought to another folder as to another machine."""
    target = folder.parent / "target"
    assert main(["open", f"local:{root.name}", str(folder), "--set", f"STORAGE_LOCAL_DIR={target}"]) == 0
    return folder


async def _clicked(home: Path, root: Path, button: str, yes: str, size: tuple[int, int] = (80, 24)) -> str:
    """Click the button and agree; returns what is on the screen when the command has ended. A real process."""
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await settled(pilot)
        await _click(pilot, button)
        await _click(pilot, yes)
        await until(pilot, lambda: f"✓ {button}:" in shown(pilot) or "✗" in shown(pilot))
        return words(pilot)


async def test_what_is_damaged_there_is_repaired(home: Path, isolated: Path):
    root = _pushed(home, isolated / "target")
    stored = isolated / "target" / root.name / _NOTE
    stored.write_text("dust")
    assert main(["--root", str(root), "store", "verify"]) == 1
    assert "✓ Repair: 1 file repaired" in await _clicked(home, root, "Repair", "Repair it")
    assert stored.read_text() == "mine"


async def test_what_another_machine_has_stored_is_replaced(home: Path, isolated: Path):
    root = _pushed(home, isolated / "target")
    other = _opened(root, isolated / "other")
    _write(other, "theirs")
    assert main(["--root", str(other), "store", "push"]) == 0
    _write(root, "mine again")
    assert main(["--root", str(root), "store", "push"]) == 1
    assert "✓ Force push:" in await _clicked(home, root, "Force push", "Push mine", (120, 36))
    assert (_opened(root, isolated / "third") / _NOTE).read_text() == "mine again"


async def test_what_was_changed_here_is_replaced_by_the_copy_and_moved_aside(home: Path, isolated: Path):
    root = _pushed(home, isolated / "target")
    _write(root, "changed")
    assert "✓ Force pull: 1 file" in await _clicked(home, root, "Force pull", "Take copy", (200, 55))
    assert (root / _NOTE).read_text() == "mine"
    assert [path.read_text() for path in root.rglob("note.txt*") if path != root / _NOTE] == ["changed"]


@pytest.mark.parametrize("size", [(60, 15), (70, 20), (80, 24), (120, 36), (140, 40), (200, 55)])
async def test_every_button_is_seen_whole(home: Path, isolated: Path, size: tuple[int, int]):
    root = _with_target(home, isolated / "target")
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await settled(pilot)
        bar = pilot.app.screen.query_one("#store-buttons")
        there = [one for one in bar.query(Button) if one.display]
        assert [one for one in there if not bar.region.contains_region(one.region)] == []
        assert len({one.region.right for one in there}) == (6 if size[0] < 66 else 7)
        assert bar.query_one("#store-target") in there


async def test_the_key_without_a_target_says_what_to_set(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDITOR", "")
    monkeypatch.setenv("VISUAL", "")
    monkeypatch.setenv("PATH", "")
    exp = experiment(home, "plain")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(
        size=(80, 24), notifications=True
    ) as pilot:
        await settled(pilot)
        await pilot.press("u")
        await settled(pilot)
        assert "No storage target is set" in words(pilot)
        assert "Push" not in shown(pilot) and "W Choose a target" in shown(pilot)
        await pilot.press("e")
        await settled(pilot)
        assert any(one.startswith("! No editor was found; set EDITOR, or edit") for one in notices(pilot))


async def test_the_tree_is_opened_by_keys_and_clicks_and_asks_once(home: Path, isolated: Path, monkeypatch):
    """Real processes."""
    root = _pushed(home, isolated / "target")
    _write(root, "another text")
    asked = []
    list_there = storing.stored_files
    monkeypatch.setattr(storing, "stored_files", lambda *where: asked.append(where) or list_there(*where))
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(100, 36)) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await until(pilot, lambda: "▸ reports/" in shown(pilot))
        assert asked == []
        assert isinstance(pilot.app.focused, StoredTree)
        await _click(pilot, "▸ reports/")
        await until(pilot, lambda: "≠ differs" in shown(pilot))
        assert "▾ reports/" in shown(pilot) and "note.txt" in shown(pilot)
        await pilot.press("left")
        await settled(pilot)
        assert "≠ differs" not in shown(pilot) and "! 1/" in shown(pilot)
        await pilot.press("right", "right")
        await until(pilot, lambda: "≠ differs" in shown(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "≠ verified, differs" in shown(pilot))
        assert len(asked) == 1


async def test_a_list_that_cannot_be_read_says_why(home: Path, isolated: Path):
    root = _pushed(home, isolated / "target")
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(100, 36)) as pilot:
        await settled(pilot)
        (isolated / "target").rename(isolated / "elsewhere")
        await pilot.press("5")
        await until(pilot, lambda: "▸ reports/" in shown(pilot))
        await _click(pilot, "▸ reports/")
        await until(pilot, lambda: "✗" in shown(pilot))
        assert str(isolated / "target") in words(pilot).replace(" ", "") or "target" in words(pilot)


async def test_a_list_whose_keys_are_in_the_vault_asks_for_its_passphrase(home: Path, isolated: Path, monkeypatch):
    root, path = _pushed(home, isolated / "target"), isolated / "vault.json"
    vault.create(path, "correct horse")

    def listed(_home: Path, _root: Path) -> tuple[StoredFile, ...]:
        KeyPlaces(Keyring("none"), path).opened(why=f"A_KEY is in {path}")
        return (StoredFile("reports/note.txt", 5, "same"),)

    monkeypatch.setattr(storing, "stored_files", listed)
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(100, 36)) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await until(pilot, lambda: "▸ reports/" in shown(pilot))
        await _click(pilot, "▸ reports/")
        await until(pilot, lambda: isinstance(pilot.app.screen, VaultScreen))
        await settled(pilot)
        assert "locked" in words(pilot)  # the path before it may be long
        await pilot.press(*"correct horse", "enter")
        await until(pilot, lambda: "note.txt" in shown(pilot))
        assert "✗" not in shown(pilot)


async def test_an_experiment_is_given_a_target_and_loses_it_again(home: Path, isolated: Path):
    root = finished_experiment(home, "alone").root
    (root / ".env").write_text("# mine\nLR=1e-3\nS3_BUCKET=other\n")
    target = isolated / "disk"
    target.mkdir()
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await settled(pilot)
        await _click(pilot, "W Choose a target")
        await until(pilot, lambda: "Where a copy of this experiment is kept" in shown(pilot))
        await pilot.press("down", "enter", "enter")
        await until(pilot, lambda: "Folder: needed for this target." in words(pilot))
        await pilot.press(*str(target))
        assert "Folder: needed for this target." not in words(pilot)
        await _click(pilot, " Save ")
        await until(pilot, lambda: "✓ The storage target is saved." in shown(pilot))
        text = (root / ".env").read_text()
        assert text.startswith("# mine\nLR=1e-3\nS3_BUCKET=other\n") and f"STORAGE_LOCAL_DIR={target}" in text
        await until(pilot, lambda: "Nothing is stored yet" in words(pilot))
        await pilot.press("W")
        await until(pilot, lambda: "Where a copy of this experiment is kept" in shown(pilot))
        await _click(pilot, "Only on this machine")
        await _click(pilot, " Save ")
        await until(pilot, lambda: "No storage target is set" in words(pilot))
        assert "✓ Nothing more is sent from now on; the copy stays where it is." in words(pilot)
        assert (root / ".env").read_text().startswith("# mine\nLR=1e-3\nS3_BUCKET=other\n")
        assert "STORAGE_LOCAL_DIR" not in (root / ".env").read_text()
