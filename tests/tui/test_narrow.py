"""Small windows: what a key does stays beside the key, and a form's buttons stay in sight."""

from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Button, Input, TextArea
from textual.widgets._footer import FooterKey

from bitnet_core.runs.events import Alert, Metric
from bitnet_core.runs.finding import Finding
from bitnet_tui.actions import ACTIONS, TITLES
from bitnet_tui.app import BitnetApp
from bitnet_tui.key_names import keys_text
from bitnet_tui.screens.base import TOO_SMALL
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.help import help_lines
from bitnet_tui.screens.message import MessageScreen
from bitnet_tui.view.above import above
from bitnet_tui.view.copy import CopyView, Upload
from bitnet_tui.view.panels import figures
from bitnet_tui.view.run_fold import RunView, ShownAlert
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.states import LEGEND, LOOKS
from bitnet_tui.view.watch import ExperimentView, RunShown
from bitnet_tui.widgets.buttons import KeyBar, KeyButton
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import notices, settled, shown, until, words
from tests.tui.simulated import SimulatedRun, experiment, finished_experiment


@pytest.mark.parametrize("width", [20, 45, 60, 66, 80, 200])
def test_what_a_key_does_is_wrapped_beside_it(width: int):
    lines = [unstyled(one) for one in help_lines(width)]
    for one in ACTIONS:
        assert any(text.startswith(f"  {keys_text(one)}") for text in lines)
    for text in lines:
        assert len(text) <= max(width, 32)
        assert not text.startswith("   ") or text.startswith(" " * 12)
    assert sum(text.startswith("  r  ") for text in lines) == 2  # experiment and playground
    said = " ".join(" ".join(lines).split())
    assert all(" ".join(one.tooltip.split()) in said for one in ACTIONS)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 36), (200, 55)])
async def test_the_help_wraps_as_wide_as_its_window(home: Path, size: tuple[int, int]):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("f1")
        await settled(pilot)
        for _ in range(12):
            rows = [one.split("│")[1][:-5] for one in shown(pilot).splitlines() if one.count("│") == 2]
            assert {len(row) - len(row.lstrip()) for row in rows if row.strip()} <= {3, 5, 15}, rows
            await pilot.press("down", "down")
            await pilot.pause()


async def test_the_help_begins_with_the_screen_and_the_tab_one_is_on(home: Path):
    exp = finished_experiment(home, "kd")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch(warning="")).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        for tab, first in (("7", "Log tab"), ("1", "One experiment")):
            await pilot.press(tab)
            await settled(pilot)
            await pilot.press("question_mark")
            await until(pilot, lambda first=first: "esc closes" in shown(pilot) and first in shown(pilot))
            under = shown(pilot)[shown(pilot).index("esc closes") :]
            assert not any(title in under[: under.index(first)] for title in TITLES.values())
            await pilot.press("escape")
            await settled(pilot)


def test_what_works_here_comes_first_and_nothing_is_left_out():
    titles = [
        one[0].text for one in help_lines(80, here={"app", "experiment", "log"}) if one and one[0].style == "title"
    ]
    assert titles[:4] == ["Log tab", "One experiment", "Everywhere", "Experiments"]
    assert sorted(titles) == sorted(one[0].text for one in help_lines(80) if one and one[0].style == "title")


def test_the_figures_of_a_screen_are_explained_behind_its_keys():
    whole = "\n".join(unstyled(one) for one in help_lines(80, here=frozenset({"app", "experiment", "collect"})))
    own, others = whole.index("Figures on this screen"), whole.index("\nFigures\n")
    assert whole.index("One experiment") < own < whole.index("coverage") < whole.index("limiter") < others
    assert others < whole.index("flip shock")
    assert whole.count("The probability outside the candidates") == 1


async def test_all_stages_and_tabs_are_there_at_64_columns(home: Path):
    exp = finished_experiment(home, "kd-two")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch(warning="")).run_test(size=(64, 20)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: "Traces  Reports  Checkpoints  Storage  Config  Log" in shown(pilot))
        assert "dryrun" in shown(pilot).split("\n")[1]
        for cells in range(60, 66):
            await pilot.resize_terminal(cells, 20)
            await settled(pilot)
            head = shown(pilot).split("\n")[0]
            assert "teacher" in head and "  no stage runs here" in head, head
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        await until(pilot, lambda: "6 Config  7 Log" in shown(pilot))


@pytest.mark.parametrize("width", [60, 66, 72, 79, 120])
async def test_keys_and_legend_at_the_foot_are_whole_and_the_most_important_stay(home: Path, width: int):
    exp = finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch(warning="")).run_test(size=(width, 24)) as pilot:
        for needed in (("enter Open", "n New", "? Help", "q Quit"), ("r Run stage", "esc Back", "? Help", "q Quit")):
            await settled(pilot)
            keys = list(pilot.app.screen.query(FooterKey))
            assert all(key.region.right <= width for key in keys)
            foot = shown(pilot).splitlines()[-1]
            assert all(words in foot for words in needed), foot
            if "n New" in needed:
                legend = shown(pilot).splitlines()[-2]
                shape = {LOOKS[name].glyph: LOOKS[name].word for name in LEGEND}
                told = [one.split(" ", 1) for one in legend.strip().split("  ")]
                assert all(shape[glyph] == word for glyph, word in told), legend
                assert {"!", "✗", "↻"} <= {glyph for glyph, _ in told}
            pilot.app.open_experiment(exp.root)


_FIELDS = {
    "filter of the list": (False, ("slash",)),
    "filter of Config": (True, ("6", "slash")),
    "value in Config": (True, ("6", "slash", *"kd_tau", "enter", "enter")),
    "search of the log": (True, ("7", "slash")),
    "search of the traces": (True, ("2", "slash")),
    "prompt of the playground": (True, ("P", "i")),
}


@pytest.mark.parametrize("where", _FIELDS)
async def test_while_one_types_the_foot_names_only_keys_that_are_not_typed(home: Path, where: str):
    exp = finished_experiment(home, "kd")
    opened, keys = _FIELDS[where]
    app = BitnetApp(home, exp.root if opened else None, launch=RecordingLaunch(warning=""))
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        for key in keys:
            await pilot.press(key)
            await settled(pilot)
        assert isinstance(app.focused, Input | TextArea), app.focused
        foot = shown(pilot).splitlines()[-1]
        named = [key.key_display for key in app.screen.query(FooterKey)]
        assert all(len(key) > 1 for key in named), foot
        assert "Type" not in foot
        assert "ctrl+q Quit" in foot
        assert "f1 Help" in foot
        way_out = next(one for one in app.screen.query(FooterKey) if one.key == "escape")
        assert way_out.region.right <= 120
        await pilot.press("escape")
        await settled(pilot)
        assert not isinstance(app.focused, Input | TextArea), app.focused


@pytest.mark.parametrize("width", [60, 66, 80, 100, 120, 200])
async def test_buttons_of_the_tabs_are_whole_and_none_is_left_out(home: Path, width: int):
    exp = finished_experiment(home, "kd")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch(warning="")).run_test(size=(width, 24)) as pilot:
        await settled(pilot)
        for tab in "234567":
            await pilot.press(tab)
            await settled(pilot)
            for bar in pilot.app.screen.query(KeyBar):
                fields = [one for one in bar.query(Input) if one.region]
                buttons = [one for one in bar.query(KeyButton) if one.region]
                wanted = [one for one in bar.query(KeyButton) if one.wanted]
                assert all(one.region.right <= bar.region.right for one in buttons)
                assert all(one.region.width >= len(str(one.label)) + 2 for one in buttons)
                assert all(one.region.width >= 12 for one in fields)
                if bar.region:
                    assert buttons == wanted, bar.id


@pytest.mark.parametrize("size", [(60, 15), (60, 17), (80, 24), (120, 36)])
async def test_a_training_has_its_chart_however_much_there_is_to_say(home: Path, size: tuple[int, int]):
    exp = experiment(home, "kd")
    trained = SimulatedRun(exp, "train")
    trained.train(0, 120, bad_at=91)
    trained.emit("metric", step=100, heldout_loss=6.207, heldout_agreement=0.163)
    for code in ("few", "slow"):
        advice = "Collect more (KD_NUM_PROMPTS), or lower BUDGET_TOKENS or BUDGET_EPOCHS. " * 2
        trained.emit("alert", severity="warning", code=code, message=f"It is {code}. " * 20, advice=advice)
    trained.finish("failed", "The disk is full; free space and start the stage again. " * 3)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch(warning="")).run_test(size=size) as pilot:
        await until(pilot, lambda: "KL" in shown(pilot))
        await settled(pilot)
        said = shown(pilot)
        assert "no room for a chart" not in said
        assert "0┤" in said and "└┬" in said
        assert "The disk is full" in said and "held-out loss 6.207" in said


@pytest.mark.parametrize("rows", range(-3, 20))
def test_what_stands_above_a_chart_takes_the_rows_there_are(rows: int):
    view = RunView(
        metric=Metric(step=100, tokens_per_s=690.0, lr=0.001, grad_norm=0.8),
        held_out=Metric(step=100, heldout_loss=6.2, heldout_agreement=0.16),
    )
    health = tuple(Finding("warn", f"{word} " * 30, "Lower LR. " * 9) for word in ("one", "two"))
    run = RunShown("r", "train", "failed", view, "It broke. " * 20, None, 1.0, 1, 1, None, health=health)
    parts = above(ExperimentView(Path("/e"), (), "train", run), 58, rows)
    assert sum(map(len, parts)) <= max(rows, 2)
    assert parts.health and parts.alerts
    if parts.figures:
        assert "held-out loss 6.200" in unstyled(parts.figures[-1])
    # While it runs, what is below stays where it is whatever is said, also when the first evaluation comes.
    calm, unheard = (Finding("calm", "Training."),), replace(view, held_out=None)
    for said, seen in ((calm, view), (calm, unheard), (health[:1], view), (health, view)):
        going = replace(run, state="running", health=said, view=seen)
        parts = above(ExperimentView(Path("/e"), (), "train", going), 58, rows)
        taken = max(2, min(rows, 2 + len(figures(going, 58)) + (seen is unheard)))
        assert sum(map(len, parts)) == taken
        # So it does when the run ends, unless there is more to say.
        ended = replace(going, state="succeeded", error="", health=said[:1])
        end = above(ExperimentView(Path("/e"), (), "train", ended), 58, rows)
        assert sum(map(len, end)) >= min(taken, rows)
        stopped = replace(going, state="cancelled", error="train was stopped.", health=())
        end = above(ExperimentView(Path("/e"), (), "train", stopped), 58, rows)
        if said is calm and rows >= 2 + len(figures(going, 58)) + (seen is unheard):  # the gauge is above the figures
            assert len(end.health) + len(end.alerts) == len(parts.health)
            assert len(end.figures) == len(parts.figures)


def test_an_upload_that_outlives_its_stage_says_why_nothing_arrives():
    run = RunShown("r", "train", "failed", RunView(), "It broke.", None, 1.0, 1, 1, None)
    stuck = Finding("warn", "S3 can't be reached (no route).", "The stage continues.", "storage_unreachable")
    copy = CopyView("s3", "live", upload=Upload("running", "", (stuck,)))
    view = ExperimentView(Path("/e"), (), "train", run, copy=copy)
    said = "▲ Upload: S3 can't be reached (no route). It is tried again."
    assert unstyled(above(view, 80, 12).alerts[0]) == said
    ended = replace(view, copy=replace(copy, upload=Upload("failed", "", (stuck,))))
    going = replace(view, run=replace(run, state="running"))
    for one in (ended, going):
        assert "Upload" not in "\n".join(unstyled(line) for part in above(one, 80, 12) for line in part)


def test_how_a_run_is_now_and_what_to_do_come_before_what_was_said_of_it_once():
    old = Alert(severity="warning", code="epochs", message="It sees its tokens 9 times. " * 4, advice="Collect more.")
    held_out = Metric(step=100, heldout_loss=6.2, heldout_agreement=0.16)
    view = RunView(metric=Metric(step=100, lr=0.001), held_out=held_out, alerts=(ShownAlert(old),))
    now = Finding("bad", "The loss after step 150 was not finite; the step was skipped.", "Lower LR.", "nonfinite")
    run = RunShown("r", "train", "running", view, "", None, 1.0, 1, 1, None, health=(now,))
    said = "\n".join(map(unstyled, above(ExperimentView(Path("/e"), (), "train", run), 80, 12).health))
    assert "Lower “Learning rate”" in said
    assert said.index("not finite") < said.index("Lower") < said.index("It sees")
    assert "ETA" in unstyled(above(ExperimentView(Path("/e"), (), "train", run), 80, 12).figures[0])


async def test_keys_at_the_foot_come_and_go_with_the_width(home: Path):
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch(warning="")).run_test(size=(120, 24)) as pilot:
        for width, there in ((120, True), (60, False), (120, True)):
            await pilot.resize_terminal(width, 24)
            await settled(pilot)
            assert ("API keys" in shown(pilot).splitlines()[-1]) is there


@pytest.mark.parametrize("tab", ["4", "6", "7"])
async def test_a_list_below_a_dialog_bears_a_window_without_room_for_it(home: Path, tab: str):
    """Where its text may not wrap, Textual fails in no cells at all."""
    exp = finished_experiment(home, "kd")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(200, 55)) as pilot:
        await settled(pilot)
        await pilot.press(tab)
        await settled(pilot)
        await pilot.press("B")
        await settled(pilot)
        for size in ((40, 100), (30, 30), (20, 5), (1, 1), (40, 100), (120, 36)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await settled(pilot)
        assert "Public benchmarks" in shown(pilot)


@pytest.mark.parametrize("long", ["It is so. " * 200, "short"])
async def test_keys_scroll_the_text_of_a_dialog_and_leave_enter_to_its_buttons(home: Path, long: str):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(60, 15)) as pilot:
        await settled(pilot)
        for screen in (
            MessageScreen("What", f"{long} The-end."),
            ConfirmScreen("Sure?", f"{long} The-end.", "Yes", "No"),
        ):
            answers: list[object] = []
            pilot.app.push_screen(screen, answers.append)
            await settled(pilot)
            button = pilot.app.focused
            assert isinstance(button, Button)
            assert str(button.label) in shown(pilot)
            for forth, back in (("down", "up"), ("pagedown", "pageup"), ("end", "home"), ("j", "k"), ("G", "g")):
                before = shown(pilot)
                await pilot.press(forth)
                await settled(pilot)
                assert (shown(pilot) == before) == (long == "short"), forth
                assert "The-end." in shown(pilot) or forth not in ("end", "G")
                await pilot.press(back)
                await settled(pilot)
                assert shown(pilot) == before, back
            assert pilot.app.focused is button
            await pilot.press("enter")
            await settled(pilot)
            assert answers == [None if isinstance(screen, MessageScreen) else False]


async def test_a_notice_does_not_lie_over_the_words_on_a_window_that_is_too_small(home: Path):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(20, 5), notifications=True) as pilot:
        await settled(pilot)
        pilot.app.notify("Something has ended.")
        await settled(pilot)
        assert words(pilot) == " ".join(TOO_SMALL.split())
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: notices(pilot) == ["Something has ended."])
