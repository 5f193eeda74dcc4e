"""One experiment: its stages, and one run of the selected stage, live or finished. Everything is read from files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from textual.containers import Container, Vertical
from textual.widget import Widget

from bitnet_core.errors import BitnetError
from bitnet_core.runs.catalog import PIPELINE, UPLOAD, stage
from bitnet_core.text import flat, width
from bitnet_tui import bindings
from bitnet_tui.labels import first_setting, stage_title
from bitnet_tui.remedies import offering
from bitnet_tui.screens.asking import AskingScreen
from bitnet_tui.screens.base import LookingScreen
from bitnet_tui.screens.charting import ChartingScreen
from bitnet_tui.screens.stopping import StoppingScreen
from bitnet_tui.screens.storing import StoringScreen
from bitnet_tui.screens.tabs import TABS, TabbedScreen
from bitnet_tui.services.benchmarks import Benchmark, missing
from bitnet_tui.services.launching import Foreseen, foresee
from bitnet_tui.shell import Shell
from bitnet_tui.view import benchmarks, panels, starting
from bitnet_tui.view.above import advised_setting
from bitnet_tui.view.copy import CopyView
from bitnet_tui.view.places import Agreed
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.spans import Line, Span, cells_of, spread
from bitnet_tui.view.stage_rows import StageRow, running
from bitnet_tui.view.watch import ExperimentView, ExperimentWatcher, RunShown
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.stage_list import StageList

_IDLE_EVERY = 4
_WHOLE_SECONDS = 1.0
"""How often everything is read while something runs; between, it is only seen whether that has written anything."""
_HEAD_GAP = 3
"""Cells between what the head line has at both ends."""
_FIRST_SECONDS, _SLICE_SECONDS = 0.1, 1.2
"""How long one look reads of a long run: if longer, another stage is shown late; if shorter, too much is drawn."""


class ExperimentScreen(
    LookingScreen[ExperimentView], ChartingScreen, StoringScreen, StoppingScreen, TabbedScreen, AskingScreen
):
    """`first` is a stage to start as soon as the screen is shown, `at` one that is chosen."""

    CSS_PATH = ["experiment.tcss", "tabs.tcss", "traces.tcss"]  # noqa: RUF012
    BINDINGS = [*(row for one in TABS for row in bindings.of(one)), *bindings.of("experiment")]  # noqa: RUF012

    def __init__(self, root: Path, first: str | None = None, at: str | None = None) -> None:
        super().__init__()
        self.root = root
        self._first = first
        self._view = ExperimentView(root)
        self._chosen = at
        """None = follow the stage that is running."""
        self._back = 0
        self._launching: str | None = None
        self._advised = ""
        """The setting that the last warning or refusal was about, at which Config opens."""
        self._ticks = 0
        self._glances = False
        self._drawn_with: tuple[object, ...] = ()

    # -- drawing ---------------------------------------------------------------------------------------------------

    def head(self) -> Line:
        left = [Span(flat(self.root.name), "title")]
        follow = self.shell.key("experiment.follow")
        ways = "following what runs", f"{follow} follows what runs"
        following = ways[self._chosen is not None]
        if self._chosen is not None and self._shows_what_runs:
            following = ""
        if not self._view.active:
            alone = "only an upload runs" if self._view.copy.sending else "no stage runs here"
            following = alone if self.complete else ""
        right, cells = [Span(following, "label")], max(0, self.app.size.width - 2)
        free = cells - max(map(width, ways)) - _HEAD_GAP  # so nothing comes and goes with the words on the right
        if self._view.teacher:
            teacher, student = f"   teacher {self._view.teacher_words}", f"   student {self._view.preset}"
            room = free - cells_of(left)
            both = width(teacher + student) <= room or width(teacher) > room
            left.append(Span(teacher + student if both else teacher, "label"))
        elif not self.complete:  # a slow disk or machine takes seconds
            left.append(Span("   opening…", "value"))
        left += panels.load(self._view.run, free - cells_of(left))
        return spread(left, right, cells)

    @property
    def _shows_what_runs(self) -> bool:
        """Whether following would show the same run."""
        followed = running(self._view.rows)
        return followed is not None and (followed.name, 0) == (self._chosen, self._back)

    def skeleton(self) -> Iterable[Widget]:
        yield Container(StageList(id="stages"), Vertical(id="main"), id="body")

    async def furnish(self) -> None:
        from bitnet_tui.widgets.run_pane import RunPane

        self._watcher = ExperimentWatcher(self.root, self.shell.home, stops_sent=self.shell.stops_sent)
        await self.query_one("#main").mount(RunPane(self.shell.home, self.root))

    @property
    def complete(self) -> bool:
        return super().complete and bool(self._view.rows or self._view.problem)

    def begin(self) -> None:
        super().begin()
        self.query_one(StageList).focus()
        self.set_interval(self.shell.redraw_seconds, self._tick)
        self.look()
        if self._first is not None:
            self.start_stage(self._first)

    def _tick(self) -> None:
        self._ticks += 1
        at_work = self._view.active or self._view.copy.sending
        whole_every = max(1, round(_WHOLE_SECONDS / self.shell.redraw_seconds)) if at_work else _IDLE_EVERY
        if self._launching or self._ticks % whole_every == 0:
            self.look()
        elif at_work and not self._looking:  # a look that is asked for meanwhile reads everything
            self._glances = True
            self.look()
        elif self.shows_checkpoints and self.exports_now:
            self.pane.keep_up()

    def looker(self) -> Callable[[], ExperimentView]:
        seconds = _SLICE_SECONDS if self._view.rows else _FIRST_SECONDS
        glances, self._glances = self._glances, False
        look = self._watcher.glance if glances else self._watcher.look
        return partial(look, self._chosen, self._back, seconds)

    def draw(self, view: ExperimentView) -> None:
        if view is self._view and self._drawn_with == self._of_this_app:
            self.pane.keep_up()
        else:
            self._draw(view)

    @property
    def _of_this_app(self) -> tuple[object, ...]:
        """What is drawn and no file tells."""
        return self._launching, *self.shell.stops_sent

    def _draw(self, view: ExperimentView) -> None:
        before, charted = self._view, self.charted.charted
        self._view, self._drawn_with = view, self._of_this_app
        self.query_one("#head", Painted).show((self.head(),))
        self.query_one(StageList).show(view.rows, self.chosen_stage)
        active = {row.run_id or "" for row in view.rows if row.active}
        for ended in {row.run_id or "" for row in view.rows} - active:
            self.shell.take_back(ended)
        stopping = not active.isdisjoint(self.shell.stops_sent)
        self.pane.show(view, self.lens, launching=self._launching, stopping=stopping)
        self.draw_storage()
        self.draw_export()
        if before.rows != view.rows or before.stage != view.stage or charted != self.charted.charted:
            self.refresh_bindings()
        if self.charted.unread:
            self.look()

    def on_run_pane_resized(self) -> None:
        self.redraw()

    def redraw(self) -> None:
        if self.query_one_optional("#run"):
            self._draw(self._view)

    @property
    def charted(self) -> RunView:
        return self._view.run.view if self._view.run else RunView()

    @property
    def run_shown(self) -> RunShown | None:
        return self._view.run

    def shows_run(self, run: str) -> bool:
        return self.complete and self.pane.open == "live" and self._view.run is not None and self._view.run.id == run

    @property
    def rows_shown(self) -> tuple[StageRow, ...]:
        return self._view.rows

    @property
    def column_share(self) -> float:
        return self.pane.charts.column_share

    def draw_charts(self) -> None:
        if self.query_one_optional("#run"):
            self.pane.charts.show(self.charted, self.lens)

    @property
    def copy_shown(self) -> CopyView:
        return self._view.copy

    async def show_storage(self) -> None:
        await self.pane.choose("storage")

    def draw_storage(self) -> None:
        if self.query_one_optional("#run"):
            self.pane.show_storage(self._view.copy, self.said, self.stored_tree)

    @property
    def training(self) -> bool:
        row = self._view.row("train")
        return self._launching == "train" or (row is not None and row.active)

    def start_upload(self) -> None:
        self.start_stage(UPLOAD.name)

    # -- choosing what to see --------------------------------------------------------------------------------------

    @property
    def chosen_stage(self) -> str:
        """The stage that keys act on: the last one chosen, even while its view is still being read."""
        return self._chosen or self._view.stage

    def action_move_stage(self, by: int) -> None:
        names = [row.name for row in self._view.rows]
        if names:
            place = names.index(self.chosen_stage) if self.chosen_stage in names else 0
            self._choose(names[max(0, min(len(names) - 1, place + by))])

    def on_stage_list_chosen(self, message: StageList.Chosen) -> None:
        self._choose(message.stage)

    def _choose(self, name: str | None) -> None:
        self._chosen, self._back = name, 0
        self.lens = self.lens.whole()
        self.refresh_bindings()
        if name is not None:
            self.query_one(StageList).show(self._view.rows, name)
        self.look()

    def action_follow(self) -> None:
        self._choose(None)

    def action_play(self) -> None:
        if self.is_active:
            self.shell.open_playground(self.root)

    def action_older(self) -> None:
        if self._view.run is not None:
            self._chosen = self.chosen_stage
            self._back = min(self._view.run.of - 1, self._back + 1)
            self.lens = self.lens.whole()
            self.look()

    def action_newer(self) -> None:
        self._back = max(0, self._back - 1)
        self.lens = self.lens.whole()
        self.look()

    def action_scroll(self, way: str) -> None:
        self.pane.scroll(way)

    async def action_view(self, name: str) -> None:
        found = self._advised or (advised_setting(self._view.run) if self.pane.open == "live" else "")
        if name == "config" and found:
            self._advised = ""
            await self.action_setting(found)
        else:
            await self.pane.choose(name)

    # -- starting --------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.complete:
            return super().check_action(action, parameters)
        row = self._view.row(self.chosen_stage)
        if action in ("launch", "resume", "launch_all"):
            if self.chosen_stage == PIPELINE.name:  # the foot has one key for it, that of "pipeline"
                wanted = "launch_all"
            else:
                wanted = "resume" if row is not None and row.resumable else "launch"
            return action == wanted and not (row is not None and row.active)
        if action == "pipeline":
            pipeline = self._view.row(PIPELINE.name)
            return None if pipeline is not None and pipeline.active else True
        if action == "follow":
            return self._chosen is not None and self._view.active
        if action == "stop":
            return self._view.active
        if action == "curve":
            return self.charted.charted and self.pane.open == "live"
        return super().check_action(action, parameters)

    def action_launch(self) -> None:
        self.start_stage(self.chosen_stage)

    action_launch_all = action_resume = action_launch

    def action_pipeline(self) -> None:
        self.start_stage(PIPELINE.name)

    def start_stage(self, name: str, values: Mapping[str, str] | None = None, *, agreed: bool = False) -> None:
        """Start it, unless what it reads is missing; if it puts checkpoints away, ask before, unless `agreed`."""
        if self._launching:
            self.notify(f"{self._launching} is still starting.", severity="warning")
            return
        self._launching = name
        self._back = 0
        if name != UPLOAD.name:  # it has a tab of its own, and no row among the stages
            self._chosen = None if name == PIPELINE.name else name
        self.redraw()
        self.attempt(
            partial(self._start, self.shell, name, values, agreed=agreed),
            partial(self._started, name, values, starting.awaited_words(name, self._view.rows)),
            without=f"{stage(name).title} was not started",
            title=f"{stage(name).title} of {self.root.name}: not started",
        )

    def _start(
        self, shell: Shell, name: str, values: Mapping[str, str] | None, *, agreed: bool
    ) -> Foreseen | tuple[Benchmark, ...]:
        """In a thread. What is left to ask is what to fetch, or about the training; then nothing was started."""
        found = foresee(shell.home, self.root, name, values)
        if problem := starting.refusal(found, shell.key, self._view.rows):
            raise BitnetError(problem)
        if lacking := missing(shell.home, self.root, name):
            if not self.on_stack:
                raise BitnetError(benchmarks.question(lacking)[1])
            return lacking
        if found.stale == shell.place(self.root, Agreed).stale:
            found = replace(found, stale="")
        if agreed or not starting.asks(found):
            shell.call_later(self._advise, *shell.launch(self.root, name, values))
            return replace(found, training=replace(found.training, aside=(), diverged=""), stale="")
        if not self.on_stack:
            raise BitnetError(f"{starting.question_before(found)[1]} Open the experiment to start it anyway.")
        return found

    def _started(
        self, name: str, values: Mapping[str, str] | None, awaits: str, found: Foreseen | tuple[Benchmark, ...]
    ) -> None:
        self._launch_ended()
        if isinstance(found, tuple):
            self.ask_to_fetch(name, values, found, self._waits(name))
            return
        if not starting.asks(found):
            words = starting.changed_words(found.training), starting.worse_words(found.training)
            if told := " ".join(filter(None, words)):
                self.notify(told)
            if self.pane.open == "config":  # what was changed there is being tried now
                self.call_next(self.pane.choose, "live")
            if awaits:
                self.notify(awaits)
            return
        from bitnet_tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                # Asked for like this, the run raises no alarm: its user has just agreed.
                anew = {"RESUME_STEP": "0"} if found.training.starts_again else {}
                self.shell.place(self.root, Agreed).stale = found.stale
                self.start_stage(name, {**(values or {}), **anew}, agreed=True)

        self.ask_on_top(ConfirmScreen(*starting.question_before(found)), answered, self._waits(name))

    def _waits(self, name: str) -> str:
        return (
            f"{stage_title(name)} of {self.root.name} has not started yet: it asks something first. "
            "Go back to answer."
        )

    def refused(self, problem: str) -> None:
        if not self._launching and self.store_refused(problem):
            return
        from bitnet_tui.screens.message import MessageScreen

        self._advise(problem)
        title = f"{stage(self._launch_ended()).title}: not started"
        if self.is_active:
            self.app.push_screen(MessageScreen(title, offering(problem), config=bool(self._advised)))
        else:
            self.app.notify(offering(problem), title=title, severity="error")

    def _advise(self, *sentences: str) -> None:
        self._advised = next(filter(None, map(first_setting, sentences)), "")

    def declined(self, problem: str) -> None:
        if not self._launching and self.store_refused(problem):
            return
        self._launch_ended()
        self.notify(problem, severity="warning")

    def _launch_ended(self) -> str:
        """Returns the stage that was to be started."""
        name, self._launching = self._launching or PIPELINE.name, None
        self.look()
        return name
