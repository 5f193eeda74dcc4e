"""The screen of one experiment, driven by keys. Everything it shows comes from files."""

import threading
from pathlib import Path
from typing import Any, cast

import pytest
from textual._compositor import LayoutUpdate
from textual.pilot import Pilot
from textual.widgets._footer import FooterKey

from bitnet_core.runs.catalog import PIPELINE, STAGES
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens import experiment as experiment_screen
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.view.panels import title, what_next
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.watch import ExperimentView, ExperimentWatcher
from bitnet_tui.widgets.chart import ChartTitle
from bitnet_tui.widgets.config_pane import ConfigPane
from bitnet_tui.widgets.log_pane import LogPane
from bitnet_tui.widgets.stage_list import StageList
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import SIZES, click_on, said, settled, shown, until, words
from tests.tui.simulated import NOON, SimulatedRun, experiment, finished_experiment, save_checkpoint


@pytest.mark.parametrize("size", SIZES)
async def test_a_live_run_is_followed_and_found_again(home: Path, size: tuple[int, int]):
    exp = experiment(home, "live")
    live = SimulatedRun(exp, "train", alive=True)
    try:
        live.train(0, 100, bad_at=91)
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
            await settled(pilot)
            text = shown(pilot)
            assert "Train the student" in text
            assert "running" in text
            assert "74.5k of 150k" in text
            assert "A8  flips at 135k (hybrid)" in text
            assert "The loss was not finite." in text
            assert "690" in text
            assert "following what runs" in text and "f Follow" not in text
            shows = pilot.app.screen.shows_run  # type: ignore[attr-defined]
            assert shows(live.run.id)
            await pilot.press("up")
            await until(pilot, lambda: "f follows what runs" in shown(pilot) and "f Follow" in shown(pilot))
            await until(pilot, lambda: not shows(live.run.id))
            await pilot.press("down")  # back to what runs, which following would show
            await until(pilot, lambda: "follow" not in said(pilot, "#head") and "74.5k of 150k" in shown(pilot))
            await pilot.press("up")
            await until(pilot, lambda: "f follows what runs" in said(pilot, "#head"))
            await pilot.press("f")
            await until(pilot, lambda: "following what runs" in shown(pilot))
            live.train(101, 190)
            await pilot.pause(0.4)
            await settled(pilot)
            assert "A4  flipped at 136k" in shown(pilot)
        live.train(191, 200)
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
            await settled(pilot)
            assert "149k of 150k" in shown(pilot)
            live.finish()
            await pilot.pause(0.4)
            await settled(pilot)
            assert "done" in shown(pilot)
            await pilot.press("7")
            await settled(pilot)
            log = pilot.app.screen.query_one(LogPane).text
            assert "activations A8 → A4 at step 182, 135,590 tokens seen" in log
            assert "checkpoint of step 100: mini_bitnet_step_100.pt, 190 MB" in log
    finally:
        live.end_process()


async def test_while_a_run_is_silent_it_is_glanced_at_and_no_glance_takes_the_place_of_a_look(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    exp = experiment(home, "silent")
    live = SimulatedRun(exp, "train", alive=True)
    read: list[str] = []
    held, look = threading.Event(), ExperimentWatcher.look

    def glancing(*given: Any) -> ExperimentView:
        read.append("glance")
        held.wait(30)
        return look(*given)

    monkeypatch.setattr(ExperimentWatcher, "glance", glancing)
    monkeypatch.setattr(ExperimentWatcher, "look", lambda *given: read.append("look") or look(*given))
    try:
        live.train(0, 3)
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test() as pilot:
            await until(pilot, lambda: read[-1:] == ["glance"])
            screen = cast("ExperimentScreen", pilot.app.screen)
            read.clear()
            screen.look()
            screen._ticks = 0
            screen._tick()
            held.set()
            await until(pilot, lambda: bool(read))
            assert read[0] == "look"
            await pilot.press("4")
            await settled(pilot)
            view, looked, drawn = screen._view, 0, list[ExperimentView]()

            def the_same(*_: Any) -> ExperimentView:
                nonlocal looked
                looked += 1
                return view

            monkeypatch.setattr(ExperimentWatcher, "glance", the_same)
            monkeypatch.setattr(ExperimentWatcher, "look", the_same)
            await until(pilot, lambda: screen._view is view and looked > 2)
            with monkeypatch.context() as recording:
                recording.setattr(screen.pane, "show", lambda view, *_, **__: drawn.append(view))
                looked = 0
                await until(pilot, lambda: looked > 5)
                assert not drawn, "nothing differs"
            assert "1.5k" not in words(pilot)
            save_checkpoint(exp, 1500)
            await until(pilot, lambda: "1.5k" in words(pilot))  # the tab reads files itself
            assert "stopping" not in shown(pilot)
            screen.shell.stops_sent[live.run.id] = 0.0
            await until(pilot, lambda: "stopping" in shown(pilot))  # no file tells that
    finally:
        held.set()
        live.end_process()


@pytest.mark.parametrize("size", SIZES)
async def test_results_of_finished_runs(home: Path, size: tuple[int, int]):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        assert "QEI            7.281        –  measured  (Q_s/Q_t)/(M_s/M_t)" in shown(pilot)
        await pilot.press("up")
        await settled(pilot)
        assert "Train the student" in shown(pilot)
        assert "flipped at 136k" in shown(pilot)
        await pilot.press("3")
        await settled(pilot)
        assert "The capital of France." in shown(pilot)
        assert "no stage runs here" in shown(pilot) and "f Follow" not in shown(pilot)


async def test_older_runs_of_a_stage(home: Path):
    exp = experiment(home, "twice")
    SimulatedRun(exp, "train", NOON).finish("cancelled", "train was stopped; what it had made is kept.")
    failed = SimulatedRun(exp, "train", NOON + 100).finish(
        "failed", "Memory ran out; take a smaller TRAIN_BATCH_SIZE."
    )
    failed.run.output_path.write_text("a trace")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(240, 40)) as pilot:
        await settled(pilot)
        assert "Memory ran out; take a smaller “Batch size” (6 Config)." in words(pilot)
        assert "output.log" in shown(pilot)
        assert "run 2 of 2  older ([) " in shown(pilot)
        spans = title(pilot.app.screen._view, 90)
        assert [span.text.strip() for span in spans if span.style == "key"] == ["["]
        assert unstyled(title(pilot.app.screen._view, 52)).endswith("run 2 of 2  older ([)")
        assert unstyled(title(pilot.app.screen._view, 44)).endswith("run 2 of 2")
        await pilot.press("left_square_bracket")
        await settled(pilot)
        assert "run 1 of 2  newer (]) " in shown(pilot)
        assert "“Train the student” was stopped" in shown(pilot)
        await click_on(pilot, "newer")
        assert "run 2 of 2" in shown(pilot)
        await click_on(pilot, "older ([")
        assert "run 1 of 2" in shown(pilot)
        await pilot.press("right_square_bracket", "6")
        pane = pilot.app.screen.query_one(ConfigPane)
        await until(pilot, lambda: pane._row is not None and pane._row.name == "TRAIN_BATCH_SIZE")
        await pilot.press("home", "1", "3", "6")  # what was chosen there stays
        await settled(pilot)
        assert pane._row is not None and pane._row.name != "TRAIN_BATCH_SIZE"


@pytest.mark.parametrize(("provider", "told"), [("embedded", True), ("hf", True), ("groq", False)])
def test_the_device_is_not_that_of_a_teacher_on_another_machine(home: Path, provider: str, told: bool):
    exp = experiment(home, "asked")
    (exp.root / ".env").write_text(f"TEACHER_PROVIDER={provider}\n")
    for name in ("teacher", "train"):
        SimulatedRun(exp, name, NOON).finish()
        view = ExperimentWatcher(exp.root, home).look(name)
        assert ("on cpu" in unstyled(title(view, 120))) == (told or name == "train")


async def test_an_empty_experiment_says_what_to_do(home: Path):
    exp = experiment(home, "empty")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "Press p to run all five stages" in shown(pilot)
        await pilot.press("down")
        await settled(pilot)
        assert "Press r to run it" in shown(pilot)


def test_a_teacher_without_logprobs_is_not_said_to_run_all_stages(home: Path):
    exp = experiment(home, "mute")
    (exp.root / ".env").write_text("TEACHER_PROVIDER=anthropic\n")
    for name, told in (("pipeline", True), ("collect", True), ("teacher", False)):
        said = unstyled(*what_next(ExperimentWatcher(exp.root, home).look(name), 200))
        assert ("This teacher gives no logprobs" in said) == told
        assert ("to run all five" in said, "for the whole" in said) == (False, name == "teacher")


@pytest.mark.parametrize("size", SIZES)
async def test_a_click_selects_the_stage_under_the_mouse(home: Path, size: tuple[int, int]):
    """Every cell of a stage's name, beside the run on a wide screen and in one line above it on a narrow one."""
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        stages = pilot.app.screen.query_one(StageList).region
        lines = [text[: stages.right] for text in shown(pilot).split("\n")]
        for one in (PIPELINE, *STAGES.values()):
            label = one.title if size[0] >= 100 else one.name
            y = next(index for index, text in enumerate(lines) if label in text and index >= stages.y)
            first = lines[y].index(label)
            for x in (first, first + len(label) - 1):
                await pilot.click(offset=(x, y))
                await settled(pilot)
                assert pilot.app.screen._view.stage == one.name  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
async def test_a_running_training_shows_its_held_out_figures_and_its_end_moves_no_chart(
    home: Path, size: tuple[int, int]
):
    exp = experiment(home, "live")
    live = SimulatedRun(exp, "train", alive=True)
    try:
        live.train(0, 50)
        live.emit("metric", step=50, seen_tokens=50 * 745, when="checkpoint", heldout_loss=2.7182,
                  heldout_agreement=0.3141, heldout_tokens=900)  # fmt: skip
        live.train(51, 60)
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
            await settled(pilot)
            assert "held-out loss 2.718   agreement" in shown(pilot)
            assert "31.4%   at step 50" in shown(pilot)
            live.emit("metric", step=60, seen_tokens=60 * 745, when="checkpoint", heldout_loss=None,
                      heldout_agreement=0.25)  # fmt: skip
            await pilot.pause(0.4)
            await settled(pilot)
            assert "held-out loss –   agreement" in shown(pilot)
            assert "25.0%   at step 60" in shown(pilot)
            charts = pilot.app.screen.query_one("#charts")
            before = charts.region
            live.end_process()
            live.finish("cancelled", "stopped by a signal")
            await until(pilot, lambda: "stopped by a signal" in said(pilot, "#alerts"))
            await settled(pilot)
            assert charts.region == before
    finally:
        live.end_process()


@pytest.mark.parametrize("size", SIZES)
async def test_every_tab_says_that_the_experiment_is_gone_and_shows_it_again_once_it_is_back(
    home: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
):
    monkeypatch.setattr(experiment_screen, "_IDLE_EVERY", 1)  # it is looked at often
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        parts = ("above 1", "There are no traces yet", "Save report", "Export", "No storage", "filter", "wrap")
        tabs = pilot.app.screen.query_one("#views")
        row = tabs.region.y
        for key, part in zip("1234567", parts, strict=True):
            await pilot.press(key)
            await until(pilot, lambda part=part: part in words(pilot))
            assert tabs.region.y == row
            exp.root.rename(home / "elsewhere")
            pane, alerts = pilot.app.screen.query_one("#switch"), pilot.app.screen.query_one("#alerts")
            await until(pilot, lambda: "is not an experiment any more" in " ".join(said(pilot, "#alerts").split()))
            await until(pilot, lambda alerts=alerts: alerts.region.height > 0)
            assert not pane.display, key
            (home / "elsewhere").rename(exp.root)
            await until(pilot, lambda pane=pane: pane.display)


def _named(pilot: Pilot[None]) -> list[str]:
    """What the keys at the foot do."""
    return [one.description for one in pilot.app.screen.query(FooterKey)]


async def test_a_turn_of_a_tab_draws_only_what_differs(home: Path, monkeypatch: pytest.MonkeyPatch):
    """Each key tells what is bound again, and making the line of keys costs more than most keys do."""
    updates: list[object] = []
    display = BitnetApp._display
    monkeypatch.setattr(
        BitnetApp, "_display", lambda app, screen, one: updates.append(one) or display(app, screen, one)
    )
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert "Run stage" in _named(pilot)
        await pilot.press("up")  # to the training, which has charts
        await until(pilot, lambda: "‹" in shown(pilot))
        above_chart = pilot.app.screen.query(ChartTitle).first()
        updates.clear()
        for tab, charted in (("1", True), ("7", False), ("1", True)):
            await pilot.press(tab)
            await until(pilot, lambda charted=charted: ("Next chart" in _named(pilot)) == charted)
            pilot.app.screen.redraw()  # type: ignore[attr-defined]
            assert "‹" in str(above_chart.content), "it is there at once when its tab is shown again"
        assert updates
        assert not any(isinstance(one, LayoutUpdate) for one in updates), "of the whole screen"
        await pilot.press(*["up"] * 6)
        await settled(pilot)
        made = list(pilot.app.screen.query(FooterKey))
        assert "Run stage" not in _named(pilot)
        assert "Next stage" in _named(pilot)
        pilot.app.screen.refresh_bindings()
        await pilot.press("up", "m")
        await settled(pilot)
        assert list(pilot.app.screen.query(FooterKey)) == made
