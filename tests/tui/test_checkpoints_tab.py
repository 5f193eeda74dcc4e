"""The Checkpoints tab: what the health files say, and what can be done with one."""

import json
import sqlite3
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.cli.main import main
from bitnet_core.export.gguf_file import write_gguf
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.outlook import Outlook
from bitnet_core.text import width
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.services.exporting import Begun
from bitnet_tui.view import checkpoints
from bitnet_tui.view.checkpoints import CheckpointReader, CheckpointsView, Saved
from bitnet_tui.view.copy import copy_lines
from bitnet_tui.view.exports import question
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.watch import ExperimentWatcher
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, settled, shown, until, words
from tests.tui.simulated import ENV, NOON, SimulatedRun, save_checkpoint


def test_each_checkpoint_has_its_figures_the_newest_first(home: Path, saved: Experiment):
    newest, middle, oldest = CheckpointReader(saved.root, home).read().rows
    assert [row.step for row in (newest, middle, oldest)] == [200, 150, 100]
    assert (newest.newest, newest.best, oldest.best) == (True, False, True)
    assert (middle.tokens, middle.loss, middle.bits, middle.bytes) == (105_000, 5.15, 8, 1150)
    assert middle.fraction == "0.7"
    assert newest.fraction == ""
    line = unstyled(checkpoints.row_line(oldest, 100, NOON + 160))
    assert line.split() == ["◆", "100", "70k", "5.100", "A8", "1.1", "kB", "1", "min", "ago", "best"]


def test_an_export_that_can_not_be_used_is_told_beside_every_checkpoint(home: Path, saved: Experiment):
    path = saved.root / "exports" / "one-step200-TQ2_0.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF" + b"\xde\xad" * 99)
    view = CheckpointReader(saved.root, home).read()
    said = f"▲ The export {path.name} can't be used ({path.name} is damaged); move it away, and export it again."
    for row in (*view.rows, None):
        assert not row or not row.exported
        assert said in " ".join(map(unstyled, checkpoints.about_lines(view, row, 150, 3)))


@pytest.mark.parametrize(("flipped", "words"), [(0, "A8"), (1, "A8→A4"), (5, "A8→A4"), (6, "A4")])
def test_a_checkpoint_in_the_middle_of_a_flip_says_so(home: Path, saved: Experiment, flipped: int, words: str):
    shape = {"num_hidden_layers": 6}
    save_checkpoint(saved, 250, 4 if flipped else 8, layers_at_4_bits=flipped, config=shape)
    assert checkpoints.bits_words(CheckpointReader(saved.root, home).read().rows[0]) == words


@pytest.mark.parametrize("cells", [75, 100])
def test_copies_stand_below_each_other(cells: int):
    rows = [
        Saved(Path("a.pt"), 300, 1150, NOON, newest=True, best=True, copy="here"),
        Saved(Path("b.pt"), 200, 1150, NOON, best=True, copy="waiting"),
        Saved(Path("c.pt"), 100, 1150, NOON, copy="stored"),
    ]
    lines = [unstyled(checkpoints.row_line(row, cells, NOON + 160)) for row in rows]
    wanted = [lines[0].index("· unsent"), lines[1].index("▲ waits"), lines[2].index("✓ stored")]
    assert len(set(wanted)) == 1
    assert lines[0].index("best") == lines[1].index("best")


@pytest.mark.parametrize(
    "health", ["", "{", "[]", '{"bytes": 7}', '{"seen_tokens": 1e400, "best": 3, "heldout": "x"}']
)
def test_a_checkpoint_without_a_sound_health_file_is_incomplete(home: Path, saved: Experiment, health: str):
    path = save_checkpoint(saved, 250)
    path.with_name(f"{path.stem}_health.json").write_text(health)
    row, *others = CheckpointReader(saved.root, home).read().rows
    assert (row.step, row.whole) == (250, False)
    assert len(others) == 3
    assert "incomplete" in checkpoints.refusal(CheckpointsView((row,)), row, "resume", training=False)


def test_a_checkpoint_that_is_not_ternary_yet_can_only_be_resumed_from(home: Path, saved: Experiment):
    save_checkpoint(saved, 300, quantized_share=0.4)
    view = CheckpointReader(saved.root, home).read()
    row = view.row("300")
    assert row is not None and not row.ternary and row.fraction == ""
    assert "newest, not ternary yet" in unstyled(checkpoints.row_line(row, 100, NOON + 160))
    for what, refused in (("export", True), ("flip", True), ("resume", False)):
        assert bool(checkpoints.refusal(view, row, what, training=False)) == refused
    save_checkpoint(saved, 300, quantized_share=1.0)
    assert (CheckpointReader(saved.root, home).read().rows[0]).ternary


def test_a_checkpoint_before_the_first_step_is_not_trained(home: Path, saved: Experiment):
    save_checkpoint(saved, 0)
    view = CheckpointReader(saved.root, home).read()
    row = view.row("0")
    assert row is not None and "not trained" in unstyled(checkpoints.row_line(row, 100, NOON + 160))
    about = " ".join(map(unstyled, checkpoints.about_lines(view, row, 100, 9)))
    assert "it has the weights that training starts from" in about
    for what, refused in (("export", False), ("flip", True), ("resume", False)):
        assert bool(checkpoints.refusal(view, row, what, training=False)) == refused
    title, why, *_ = checkpoints.resume_question(row, Outlook(aside=(100, 150)))
    assert (title, why[:41]) == ("Train again from step 0?", "The checkpoints (those of steps 100, 150)")
    assert question(0, ()) == "Export the student of step 0, not trained yet"


def test_the_copy_tells_which_checkpoint_is_stored(home: Path, saved: Experiment, isolated: Path):
    (saved.root / ".env").write_text(f"{ENV}STORAGE_LOCAL_DIR={isolated / 'target'}\n")
    (saved.root / ".storage").mkdir()
    names = [f"checkpoints/mini_bitnet_step_{step:08d}.pt" for step in (100, 150, 200)]
    with sqlite3.connect(saved.root / ".storage" / "local.sqlite") as db:
        db.execute("create table notes (name text, value text)")
        db.execute("create table waiting (name text, version text, since real)")
        db.execute("create table shared (name text, size integer, sha256 text, part_bytes integer)")
        db.execute("insert into shared values (?, 1100, '', 0)", [names[0]])
        db.execute("insert into shared values (?, 7, '', 0)", [names[1]])  # another content
        db.execute("insert into waiting values (?, '', 1)", [names[2]])
    rows = CheckpointReader(saved.root, home).read().rows
    assert [row.copy for row in rows] == ["waiting", "here", "stored"]


@pytest.mark.parametrize(("sent", "told"), [("needed", "stays"), ("all", "here")])
def test_an_older_checkpoint_is_not_called_unsent_where_no_push_sends_it(
    home: Path, saved: Experiment, isolated: Path, sent: str, told: str
):
    save_checkpoint(saved, 120)
    (saved.root / ".env").write_text(f"{ENV}STORAGE_LOCAL_DIR={isolated / 'target'}\nSTORAGE_CHECKPOINTS={sent}\n")
    view = CheckpointReader(saved.root, home).read()
    assert [(row.step, row.copy) for row in view.rows] == [(200, "here"), (150, "here"), (120, told), (100, "here")]
    (isolated / "target").mkdir()
    assert main(["--root", str(saved.root), "store", "push"]) == 0
    view = CheckpointReader(saved.root, home).read()
    after = "stays" if sent == "needed" else "stored"
    assert [(row.step, row.copy) for row in view.rows][1:3] == [(150, "stored"), (120, after)]
    older = view.rows[2]
    assert ("stays on this machine" in unstyled(*checkpoints.about_lines(view, older, 200, 3))) == (after == "stays")
    if after == "stays":
        assert "· stays" in unstyled(checkpoints.row_line(older, 75, NOON + 160))


def test_what_no_push_sends_is_told_beside_what_is_up_to_date(home: Path, saved: Experiment, isolated: Path):
    for step in (120, 130):
        save_checkpoint(saved, step)
    (isolated / "target").mkdir()
    env = f"{ENV}STORAGE_LOCAL_DIR={isolated / 'target'}\n"
    (saved.root / ".env").write_text(env)

    def told() -> str:
        return " ".join(unstyled(*copy_lines(ExperimentWatcher(saved.root, home).look(None).copy, 300)).split())

    assert main(["--root", str(saved.root), "store", "push"]) == 0
    sent = (
        "✓ Up to date: all files that are sent are as they were stored, by size and time. Kept on this machine only:"
    )
    assert f"{sent} 2 older checkpoints." in told()
    made = saved.root / "exports" / "one-step200-TQ2_0.gguf"
    made.parent.mkdir()
    keys = {"general.architecture": "bitnet", "bitnet_core.step": 200, "bitnet_core.checkpoint_sha256": "0"}
    write_gguf(made, keys, [])
    assert f"{sent} 2 older checkpoints and exports." in told()
    (saved.root / ".env").write_text(f"{env}STORAGE_CHECKPOINTS=all\n")
    assert "▲ Behind: 5 files were changed here" in told()
    assert main(["--root", str(saved.root), "store", "push"]) == 0
    assert f"{sent} exports." in told()


@given(st.builds(
    Saved, st.just(Path("m.pt")), st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.floats(0, 1e12), st.booleans(),
    st.none() | st.integers(0, 1 << 62), st.none() | st.integers(1, 1 << 62), st.none() | st.floats(),
    st.none() | st.floats(), st.sampled_from([None, 4, 8]), st.integers(0, 9), st.none() | st.integers(0, 9),
    st.text(max_size=40), st.booleans(),
    st.booleans(), st.sampled_from(["", "stored", "waiting", "here", "stays"]), st.booleans(),
), st.integers(30, 160))  # fmt: skip
def test_a_row_fits_its_line(row: Saved, cells: int):
    assert width(unstyled(checkpoints.row_line(row, cells, 2e12))) <= cells
    assert all(
        width(unstyled(one)) <= cells for one in checkpoints.about_lines(CheckpointsView((row,)), row, cells, 2)
    )


def test_what_an_action_will_do_is_asked_with_the_steps_that_move(saved: Experiment, home: Path):
    view = CheckpointReader(saved.root, home).read()
    oldest, newest = view.rows[-1], view.rows[0]
    goes_on = Outlook(100, {"LR": (6e-4, 3e-4), "FLIP_FRACTION": (0.9, 0.5)}, (150, 200), flip="it flips at once")
    moved = "Newer checkpoints (those of steps 150, 200) are moved to checkpoints/superseded."
    resumed = checkpoints.resume_question(oldest, goes_on)[1]
    rate = "Training continues from step 100 with “Learning rate” 6e-4 → 3e-4"
    assert resumed == f"{rate}, “Flip to 4 bits at” 0.9 → 0.5; it flips at once. {moved}"
    flipped = checkpoints.flip_question(oldest, "0.5", goes_on)[1]
    assert flipped.endswith(f"at step 100. {rate}. {moved}")
    assert checkpoints.resume_question(newest, Outlook(200))[1] == (
        "Training continues from there. It is the newest checkpoint."
    )
    assert checkpoints.resume_question(newest, Outlook(200, {"TOTAL_STEPS": (200, 60)}, finished=True))[1] == (
        "Training adds no step: it is finished at step 200. It is the newest checkpoint."
    )
    assert checkpoints.resume_question(newest, Outlook(200, doubtful=True))[1].endswith(
        " The traces have been collected again since then; if they differ, training refuses to continue."
    )
    assert "stop it first" in checkpoints.refusal(view, oldest, "resume", training=True)
    assert checkpoints.refusal(view, oldest, "export", training=True) == ""
    assert "has flipped already" in checkpoints.refusal(view, newest, "flip", training=False)


async def test_flip_from_a_chosen_checkpoint_by_keyboard(home: Path, saved: Experiment):
    launch = RecordingLaunch(warning="")
    SimulatedRun(saved, "train", NOON).finish()
    async with BitnetApp(home, saved.root, launch=launch).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("4", "F")
        await settled(pilot)
        assert "has flipped already; choose one at 8 bits." in words(pilot)
        await pilot.press("down", "F")
        await settled(pilot)
        assert "“Flip to 4 bits at” becomes 0.7 in the settings" in words(pilot)
        assert "(that of step 200) are moved" in words(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert (saved.root / ".env").read_text().count("FLIP_FRACTION=0.7\n") == 1
        assert launch.launched == [(saved.root, "train")]
        assert launch.values == [{"RESUME_STEP": "150"}]


async def test_resume_and_export_by_mouse(home: Path, saved: Experiment, monkeypatch: pytest.MonkeyPatch):
    launch, exported = RecordingLaunch(warning=""), []
    save_checkpoint(saved, 0)

    def waited(one: Begun, said: IO[bytes], leaves: object) -> int:
        """Where nothing can be recorded."""
        exported.append(one.arguments[2:])
        failed = len(exported) == 1
        answer = {"exported": ["exports/one.gguf"], "verified": True}
        said.write(b"bitnet: There is no room.\n" if failed else json.dumps(answer).encode())
        return int(failed)

    monkeypatch.setattr(Begun, "_waited", waited)
    async with BitnetApp(home, saved.root, launch=launch).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await click_on(pilot, "4 Checkpoints")
        await click_on(pilot, " 105k ")
        button = pilot.app.screen.query_one("#checkpoints KeyButton")
        place = button.region
        for told in ("✗ The export of step 150 failed: There is no room.", "✓ Exported step 150, verified: "):
            await click_on(pilot, "E Export")
            await click_on(pilot, "gguf  for llama.cpp")
            await settled(pilot)
            assert told in words(pilot) and button.region == place
        path = saved.checkpoints / "mini_bitnet_step_00000150.pt"
        assert exported[0] == ["export", "gguf", "--checkpoint", str(path)]
        await click_on(pilot, "Resume from here")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await click_on(pilot, "Resume from here")  # in the dialog, which is above the button
        await settled(pilot)
        assert launch.values == [{"RESUME_STEP": "150"}]
        assert "1 Live" in shown(pilot)
        await pilot.press("4", "end", "T")
        await until(pilot, lambda: "Train again from step 0?" in words(pilot))
        await pilot.press("y")
        await until(pilot, lambda: launch.values[1:] == [{"RESUME_STEP": "0"}])
