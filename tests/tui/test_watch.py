"""What is read of an experiment for its screen."""

import dataclasses
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from bitnet_core.runs import outlook
from bitnet_core.runs.elapsed import Elapsed
from bitnet_core.runs.history import History
from bitnet_tui.key_names import key
from bitnet_tui.services.launching import foresee
from bitnet_tui.services.settings import experiment_at
from bitnet_tui.view import starting
from bitnet_tui.view.coming import coming
from bitnet_tui.view.experiment_list import about
from bitnet_tui.view.figures import FiguresReader
from bitnet_tui.view.gauge import gauge
from bitnet_tui.view.panels import figures, load, what_next
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.stage_rows import COPIED, QUEUED
from bitnet_tui.view.watch import ExperimentView, ExperimentWatcher
from bitnet_tui.view.workspace import row_of
from tests.tui.simulated import LEAVES, NOON, SimulatedRun, experiment, save_checkpoint


def test_what_the_machine_does_is_told_beside_an_active_run_and_stands_still_with_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bitnet_core.runs.around._LOAD_SECONDS", 0.0)
    exp = experiment(home, "busy")
    live = SimulatedRun(exp, "train", time.time() - 61, alive=True)
    try:
        live.train(0, 30)
        watcher = ExperimentWatcher(exp.root, home)
        first = watcher.look("train")
        assert [one.split()[0] for one in first.run.load.words()] == ["memory", "CPU"]
        time.sleep(0.1)
        assert watcher.look("train").run.load is first.run.load
        live.train(30, 31)
        later = watcher.look("train")
        assert [one.split()[0] for one in later.run.load.words()] == ["memory", "CPU"]
        assert unstyled(load(later.run, 80)) == "".join(f"   {one}" for one in later.run.load.words())
        assert "CPU" not in unstyled(load(later.run, 24))
        live.finish()
        assert load(watcher.look("train").run, 80) == ()
    finally:
        live.end_process()


def test_a_glance_reads_the_experiment_only_once_a_run_has_written_something(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    exp = experiment(home, "glanced")
    now = started = time.time()
    live = SimulatedRun(exp, "train", started, alive=True)
    reads, read, stops = [0], History.read, set()
    monkeypatch.setattr(History, "read", lambda *given: reads.append(1) or read(*given))
    try:
        live.train(0, 1)
        watcher = ExperimentWatcher(exp.root, home, elapsed=Elapsed(lambda: now), stops_sent=stops)

        def settle() -> ExperimentView:
            """Until a glance reads nothing any more."""
            for _ in range(3):
                reads.clear()
                view = watcher.glance("train")
                if not reads:
                    return view
            raise AssertionError("each glance reads everything")

        now = started + 3
        first = settle()
        now = started + 3.2
        assert watcher.glance("train") is first
        assert watcher.look("train") is first  # nothing that is shown differs
        now = started + 4
        later = settle()
        assert later.run is not None and first.run is not None
        assert later.run.elapsed == pytest.approx(4, abs=1e-3)
        assert later == dataclasses.replace(first, run=dataclasses.replace(first.run, elapsed=later.run.elapsed))

        (exp.root / ".env").write_text("MINI_PRESET=mini\n")
        assert [watcher.glance("train").preset, watcher.look("train").preset] == ["nano", "mini"]
        settle()
        live.train(2, 2)
        assert watcher.glance("train").run.view.step == 2
        settle()
        stops.add(live.run.id)
        assert watcher.glance("train") and reads
        settle()
        assert watcher.glance("train", 1) and reads
        settle()
        SimulatedRun(exp, "eval", started).finish()
        assert watcher.glance("eval").run.state == "succeeded"
        settle()
        live.end_process()
        assert watcher.glance("train").run.state == "interrupted"
    finally:
        live.end_process()


@pytest.mark.parametrize(
    ("lines", "student"),
    [
        ("", "nano"),
        ("STUDENT_INIT=random\n", "nano"),
        ("STUDENT_INIT=teacher\n", "from teacher"),
        (f"STUDENT_INIT=/{'x' * 90}\n", f"from /{'x' * 38}…"),
    ],
)
def test_the_student_is_a_preset_or_what_it_starts_from(home: Path, lines: str, student: str):
    exp = experiment(home, "started")
    with (exp.root / ".env").open("a") as env:
        env.write(lines)
    assert ExperimentWatcher(exp.root, home).look(None).preset == student


@pytest.mark.parametrize(
    ("lines", "teacher"),
    [
        ("TEACHER_PROVIDER=embedded\n", "embedded"),
        ("TEACHER_PROVIDER=custom\n", "Other server"),
        ("TEACHER_PROVIDER=custom\nCUSTOM_MODEL=org/small-7b\n", "small-7b · Other server"),
        ("TEACHER_PROVIDER=openai\nTEACHER_MODEL=gpt-4o\n", "gpt-4o · openai"),
    ],
)
def test_the_teacher_is_its_model_and_its_provider_as_the_guide_has_it(home: Path, lines: str, teacher: str):
    exp = experiment(home, "taught")
    with (exp.root / ".env").open("a") as env:
        env.write(lines)
    assert ExperimentWatcher(exp.root, home).look(None).teacher_words == teacher


def test_a_pipeline_is_shown_with_the_evaluation_that_came_after_it(home: Path):
    exp = experiment(home, "evaluated")
    for stage, at in (("eval", NOON), ("pipeline", NOON + 100), ("eval", NOON + 200)):
        run = SimulatedRun(exp, stage, at)
        run.emit("table", name="qei", columns=["quantity", "student"], rows=[["QEI", at - NOON]])
        run.finish()
        seen = ExperimentWatcher(exp.root, home).look("pipeline").run
        newer = [table.rows for table in seen.since] if seen else []
        assert newer == ([[["QEI", 200.0]]] if at == NOON + 200 else [])


def test_gates_are_told_with_how_the_training_went(home: Path):
    exp = experiment(home, "judged")
    training = SimulatedRun(exp, "train", NOON)
    for step, loss in ((0, 12.4), (60, 6.67), (120, 5.5)):
        training.emit("metric", step=step, seen_tokens=step * 700, loss=loss, heldout_loss=loss)
    training.finish()
    for stage in ("eval", "pipeline"):
        run = SimulatedRun(exp, stage, NOON + 1000)
        run.emit("table", name="gates", columns=["gate", "result"], rows=[["QEI", "fail"], ["speed", "pass"]])
        run.finish()
        shown = ExperimentWatcher(exp.root, home).look(stage).run
        assert shown is not None
        assert [one.words for one in shown.health] == [
            "Training: held-out fell from 12.4 to 5.50.",
            "1 of 2 gates met; failed: QEI.",
        ]


def test_bar_and_stage_show_one_progress_though_metrics_are_reported_less_often(home: Path):
    run = SimulatedRun(experiment(home, "one"), "train", alive=True)
    try:
        run.train(0, 10)
        run.emit("progress", 1, done=9000, total=150_000, unit="tokens", seen_tokens=9000)
        view = ExperimentWatcher(home / "one", home).look("train")
        assert view.run is not None and view.run.view.seen == 9000
        row, bar = view.row("train"), unstyled(gauge(view.run, 100))
        assert row is not None and row.note == "6%"
        assert "tokens 9k of 150k" in bar and "  6%  " in bar
        assert FiguresReader().read(History.read(experiment_at(home / "one", home)[0])).seen == 9000
    finally:
        run.end_process()


@pytest.mark.parametrize("told", [False, True])
def test_steps_that_a_resumed_training_threw_away_do_not_count_while_it_prepares(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, told: bool
):
    """As it has said, or as its checkpoint tells, which are read once a look; no time runs back."""
    foreseen = Mock(wraps=outlook.outlook)
    monkeypatch.setattr(outlook, "outlook", foreseen)
    exp = experiment(home, "one")
    first = SimulatedRun(exp, "train", NOON)
    for step in (10, 20):
        first.emit("metric", 50, step=step, seen_tokens=step * 700, loss=5.0, heldout_loss=6.0 - step / 20)
    first.finish("failed")
    save_checkpoint(exp, 10, seen_tokens=7000)
    later = SimulatedRun(exp, "train", NOON + 2000, alive=True)
    try:
        if told:
            later.emit("budget", 0, tokens=150_000, epoch_tokens=9000, epochs=9.5, seen_tokens=7000)
        prepares = ExperimentWatcher(exp.root, home).look("train").run
        assert foreseen.call_count == (0 if told else 1)
        later.emit("metric", 0, step=11, seen_tokens=7700, loss=5.0)
        trains = ExperimentWatcher(exp.root, home).look("train").run
    finally:
        later.end_process()
    assert prepares is not None and trains is not None
    assert prepares.view.held_out is not None and prepares.view.held_out.step == 10
    assert prepares.elapsed is not None and trains.elapsed is not None and prepares.elapsed <= trains.elapsed


@pytest.mark.parametrize("stage, unit", [("train", "steps"), ("train", "shards"), ("collect", "bytes")])
def test_the_progress_of_a_preparation_is_not_that_of_the_stage(home: Path, stage: str, unit: str):
    run = SimulatedRun(experiment(home, "one"), stage, alive=True)
    look = ExperimentWatcher(home / "one", home).look
    try:
        run.emit("progress", 1, done=400, total=400, unit=unit, rate=1.0, eta_s=0.0, label="unpacking the teacher")
        for view in (look(stage), look("eval")):  # as the run tells it, and as its file ends
            row = view.row(stage)
            assert row is not None and (row.note, row.eta) == ("preparing", "")
        if (stage, unit) == ("train", "steps"):
            told = {"part": 1, "parts": 3, "first_step_in_s": 540.0}
            run.emit("progress", 1, done=3, total=30, unit="layers", eta_s=200.0, label="reading", **told)
            row = look(stage).row(stage)
            assert row is not None and (row.note, row.eta, row.brief_note) == ("preparing", "9 min", "in 9 min")
            assert coming(look(stage).rows, stage) == "Train the student starts in 9 min."
        shown = look(stage).run
        assert shown is not None and "ETA 0" not in " ".join(unstyled(*figures(shown, 100)).split())
        own = {"unit": "tokens", "step": 3} if stage == "train" else {"unit": "sequences"}
        run.emit("progress", 1, done=100, total=400, rate=1.0, eta_s=300.0, label="collecting", **own)
        row = look(stage).row(stage)
        assert row is not None and (row.note, row.eta, row.brief_note) == ("25%", "5 min", "25%")
        for part, eta in ((1, ""), (2, "5 min")):
            run.emit("progress", 1, done=100, total=400, eta_s=300.0, label="asked", part=part, parts=2, **own)
            row = look(stage).row(stage)
            assert row is not None and (row.note, row.eta, row.brief_note) == (
                f"part {part}/2 25%",
                eta,
                f"{part}/2 25%",
            )
            shown = look(stage).run
            assert shown is not None and (stage == "train" or ("ETA" in unstyled(*figures(shown, 100))) is bool(eta))
    finally:
        run.end_process()


def test_a_run_that_was_asked_to_stop_is_not_said_to_be_done_soon(home: Path):
    run = SimulatedRun(experiment(home, "one"), "train", time.time(), alive=True)
    sent: set[str] = set()
    watcher = ExperimentWatcher(home / "one", home, stops_sent=sent)
    try:
        run.train(0, 10)
        for stops in (set(), {run.run.id}):
            sent |= stops
            view = watcher.look("train")
            row = view.row("train")
            assert view.run is not None and row is not None
            words = view.run.health[0].words
            assert ("done in" in words or "flip in" in words, bool(row.eta)) == (not stops, not stops)
    finally:
        run.end_process()


def test_a_stage_whose_files_came_from_elsewhere_is_said_to_need_no_run(home: Path):
    exp = experiment(home, "duplicate")
    (exp.root / LEAVES["collect"]).touch()
    view = ExperimentWatcher(exp.root, home).look("collect")
    assert [row.name for row in view.rows if row.note == COPIED] == ["collect"]
    assert "✓ collect copied   · train" in unstyled(*about(row_of(exp.root, home), 100))
    said = " ".join(unstyled(one) for one in what_next(view, 100))
    assert "was copied from another experiment; it need not run. Press r" in said
    needed = unstyled(*what_next(ExperimentWatcher(exp.root, home).look("train"), 100))
    assert "needs   ✓ Collect traces  copied from another experiment" in needed
    pipeline = SimulatedRun(exp, "pipeline", NOON, alive=True)
    runs = [pipeline, SimulatedRun(exp, "teacher", NOON, alive=True, by=pipeline)]
    try:
        notes = {row.name: row.note for row in ExperimentWatcher(exp.root, home).look(None).rows}
        assert (notes["collect"], notes["train"]) == (COPIED, QUEUED)
    finally:
        for one in runs:
            one.end_process()
    SimulatedRun(exp, "collect").finish()
    assert not [row for row in ExperimentWatcher(exp.root, home).look(None).rows if row.note == COPIED]


def test_what_a_running_pipeline_has_yet_to_come_to_is_queued(home: Path):
    exp = experiment(home, "whole")
    SimulatedRun(exp, "teacher", NOON - 300).finish()
    (exp.root / "reports" / "teacher_baseline.json").touch()
    SimulatedRun(exp, "eval", NOON - 200).finish("failed", "It failed.")
    pipeline = SimulatedRun(exp, "pipeline", NOON, alive=True)
    runs = [pipeline, SimulatedRun(exp, "collect", NOON, alive=True, by=pipeline)]
    runs[1].emit("progress", done=30, total=100, unit="sequences", rate=1.0, eta_s=240.0, label="")
    try:
        rows = {row.name: row for row in ExperimentWatcher(exp.root, home).look(None).rows}
        assert {name: row.note for name, row in rows.items() if row.note == QUEUED} == dict.fromkeys(
            ("train", "eval", "dryrun"), QUEUED
        )
        assert (rows["collect"].note, rows["collect"].eta) == ("30%", "4 min")
        assert rows["eval"].state == "failed"
        running = "Collect traces is running: 30%, 4 min left."
        waits = "{} starts by itself in the pipeline, after {}."
        view = ExperimentWatcher(exp.root, home).look("train")
        train = waits.format("Train the student", "Collect traces")
        said = " ".join(unstyled(one) for one in what_next(view, 200))
        assert train in said and "Press" not in said
        assert starting.refusal(foresee(home, exp.root, "train"), key, view.rows) == (
            f"It reads what Collect traces leaves, and that is not there yet. {running} {train}"
        )
        assert coming(view.rows, "dryrun") == waits.format("7B dry run", "Evaluate")
        assert coming(view.rows, "teacher") == ""
        runs[0].finish("cancelled")
        rows = {row.name: row for row in ExperimentWatcher(exp.root, home).look(None).rows}
        assert QUEUED not in {row.note for row in rows.values()}
        view = ExperimentWatcher(exp.root, home).look("train")
        assert running in " ".join(unstyled(one) for one in what_next(view, 200))
        assert starting.refusal(foresee(home, exp.root, "train"), key, view.rows).endswith(f"yet. {running}")
    finally:
        for one in runs:
            one.end_process()
