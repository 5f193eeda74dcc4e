"""Fixtures for the app's tests: a workspace, a launcher that only records, and reproducible SVG snapshots."""

import re
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.pilot import Pilot
from textual.widgets import Button

from bitnet_core.errors import BitnetError
from bitnet_core.runs.elapsed import Elapsed
from bitnet_core.runs.experiment import Experiment
from bitnet_core.secrets import vault
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.services import planning
from bitnet_tui.services.launching import Launched
from tests.tui.drawing import drawn_when_looked_at
from tests.tui.event_loop import watched
from tests.tui.idle import until_idle, until_processed
from tests.tui.plans import PLAN, TIMED
from tests.tui.serving import serving
from tests.tui.simulated import SimulatedRun, experiment, finished_experiment, leave_traces, save_checkpoint


class SvgExtension(SingleFileSnapshotExtension):
    file_extension = "svg"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def svg(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(SvgExtension)


def normal(picture: str) -> str:
    """The picture with Textual's random ids replaced."""
    return re.sub(r"terminal-\d+-", "terminal-", picture)


@pytest.fixture
def home(isolated: Path) -> Path:
    return isolated / "experiments"


@pytest.fixture(scope="session", autouse=True)
def parsed_once() -> Iterator[None]:
    """Parse each stylesheet once for all apps of a process: Textual keeps what it parsed for one app alone."""
    parse = Stylesheet._parse_rules
    known: dict[Hashable, list[RuleSet]] = {}
    numbers: dict[Hashable, int] = {}
    last: object = None
    number = 0

    def number_of(variables: dict[str, str]) -> int:
        """One for all that are equal, found without comparing hundreds of texts for each sheet."""
        nonlocal last, number
        if last is not variables:
            last, number = variables, numbers.setdefault(tuple(variables.items()), len(numbers))
        return number

    def parse_or_find(sheet: Stylesheet, css: str, read_from: tuple[str, str], *args: Any, **options: Any) -> Any:
        key = (css, read_from, args, *options.items(), number_of(sheet._variables))
        if key not in known:
            known[key] = parse(sheet, css, read_from, *args, **options)
        return known[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Stylesheet, "_parse_rules", parse_or_find)
        yield


@pytest.fixture(scope="session", autouse=True)
def drawn() -> Iterator[None]:
    with drawn_when_looked_at():
        yield


@pytest.fixture(scope="session", autouse=True)
def idle_by_its_loop() -> Iterator[None]:
    """A key press takes as long as the app works on it, not 40 ms and more.

    Nor does a button show for 0.2 s that it was pressed, during which Textual takes no other click on it.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Button, "_start_active_affect", lambda _: None)
        patched.setattr(Pilot, "_wait_for_screen", until_processed)
        patched.setattr("textual.pilot.wait_for_idle", until_idle)
        patched.setattr("textual.app.wait_for_idle", until_idle)
        yield


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """UTC, no SSH, 256 colours and the app's own theme, so that pictures are the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "xterm-256color")
    time.tzset()
    for name in ("SSH_CONNECTION", "TEXTUAL_THEME", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[None]:
    """Whatever a test does in the app, its event loop touches no file, no network and no process."""
    with watched() as found:
        yield
    assert found == []


@pytest.fixture(autouse=True)
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's estimates without their process, which imports torch and times steps."""
    monkeypatch.setattr(planning.Plan, "run", lambda plan: PLAN if "--no-probe" in plan.arguments else TIMED)


@pytest.fixture(autouse=True)
def looked_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests press Enter as soon as a step of the guide is shown."""
    monkeypatch.setattr(NewExperimentScreen, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(NewExperimentScreen, "REPEAT_SECONDS", 0.0)


WARNING = "KD_TUA (.env line 3) is not a setting; did you mean KD_TAU?"


class RecordingLaunch:
    """Replaces starting a process: records each launch and warns about it, or refuses it with a sentence."""

    def __init__(self, refusal: str = "", warning: str = WARNING) -> None:
        self.launched: list[tuple[Path, str]] = []
        self.values: list[Mapping[str, str] | None] = []
        self._refusal = refusal
        self._warning = warning

    def __call__(self, _: Path, root: Path, stage: str, values: Mapping[str, str] | None = None, /) -> Launched:
        self.launched.append((root, stage))
        self.values.append(values)
        if self._refusal:
            raise BitnetError(self._refusal)
        return Launched(f"{stage}-recorded", (self._warning,))


@pytest.fixture
def recorder() -> RecordingLaunch:
    return RecordingLaunch()


@pytest.fixture
def workspaces(home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder with the workspaces `experiments` and `nothing`. The time of their silent run stands still."""
    counted, now = Elapsed.of, time.time()
    monkeypatch.setattr(Elapsed, "of", lambda elapsed, *asked: counted(replace(elapsed, wall=lambda: now), *asked))
    finished_experiment(home, "finished")
    experiment(home, "fresh")
    path = isolated / "vault.json"
    vault.create(path, "correct horse").set("OPENAI_API_KEY", "sk-very-secret-key")
    locked = experiment(home, "locked").root / ".env"
    locked.write_text(f"TEACHER_PROVIDER=openai\nOPENAI_MODEL=m\nBITNET_VAULT={path}\n")
    silent = SimulatedRun(experiment(home, "silent"), "train", now - 190, alive=True)
    silent.train(0, 60)
    try:
        yield home.parent
    finally:
        silent.end_process()


@pytest.fixture
def saved(home: Path) -> Experiment:
    """An experiment with three checkpoints, the newest at 4 bits."""
    exp = experiment(home, "one")
    leave_traces(exp)
    for step in (100, 150):
        save_checkpoint(exp, step)
    save_checkpoint(exp, 200, 4)
    return exp


@pytest.fixture
def served(home: Path) -> Iterator[str]:
    """The address that a running `bitnet-tui --web` has printed; the workspace has the experiment `kd`."""
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    finished_experiment(home, "kd")
    errors = home.parent / "stderr"
    with serving(home, errors) as address:
        yield address
    assert errors.read_text() == ""
