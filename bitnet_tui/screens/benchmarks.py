"""A dialog: the public benchmarks with their licences, and fetching them while one goes on."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button

from bitnet_core.errors import BitnetError
from bitnet_core.text import size
from bitnet_tui import bindings
from bitnet_tui.screens.keyed import KeyedScreen
from bitnet_tui.services.benchmarks import Benchmark, GetBenchmarks, listed
from bitnet_tui.shell import Shell
from bitnet_tui.view import benchmarks
from bitnet_tui.widgets.buttons import relabel
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words
from bitnet_tui.works import Work

_TICK_SECONDS = 0.5
_WANTED = "Fetch what this experiment scores"


class BenchmarksScreen(KeyedScreen[None]):
    """What is being fetched goes on when it is closed."""

    CSS_PATH = ["cards.tcss", "benchmarks.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#close"
    AROUND = 12
    BINDINGS = [  # noqa: RUF012
        bindings.shared("dialog.close", "dismiss"),
        bindings.shared("move.left", "app.focus_previous"),
        bindings.shared("move.right", "app.focus_next"),
        *bindings.scrolling(),
    ]

    def __init__(self, root: Path | None) -> None:
        """Without `root`, "wanted" is what a new experiment would score."""
        super().__init__()
        self._root = root
        self._found: tuple[Benchmark, ...] = ()
        self._was_getting = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="card wide benchmarks"):
            yield Words("Public benchmarks", classes="title")
            with VerticalScroll(id="benchmarks-scroll", classes="long"):
                yield Painted(id="benchmarks-lines")
            yield Painted(id="problem")
            with Horizontal(classes="buttons"):
                yield Button("Fetch all", id="all", name="fetch('all')", disabled=True)
                yield Button(Content(_WANTED), id="wanted", name="fetch('wanted')", disabled=True)
                yield Button("Close", id="close", name="dismiss")

    def on_mount(self) -> None:
        self.say("Checking which are here…", "label")
        self._look()
        self.set_interval(_TICK_SECONDS, self._tick)

    def _look(self) -> None:
        self.attempt(partial(listed, self.shell.home, self._root), self._listed)

    def _listed(self, found: tuple[Benchmark, ...]) -> None:
        self._found = found
        self.say("", "label")
        self._draw()

    def refused(self, problem: str) -> None:
        self.say(problem, "bad")

    def on_resize(self) -> None:
        if not self.too_small:  # hidden, it stays as it was
            self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        lines = self.query_one("#benchmarks-lines", Painted)
        if self._found:
            lines.show(benchmarks.lines(self._found, max(30, lines.content_size.width)))
        free = self.shell.getting is None and bool(self._found)
        cost = benchmarks.cost(self._found)
        every, wanted = self.query_one("#all", Button), self.query_one("#wanted", Button)
        every.disabled = not free
        relabel(every, f"Fetch all ({size(cost)})" if cost or not self._found else "Check all again")
        asked = [one for one in self._found if one.wanted]
        cost = benchmarks.cost(asked)
        wanted.disabled = not (free and cost)
        wanted.display = bool(cost)
        relabel(wanted, f"{_WANTED} ({size(cost)})")

    def _tick(self) -> None:
        """Show how far it is; when it has ended, look again."""
        getting = self.shell.getting
        if getting is not None:
            self.say(f"Fetching {getting.said} You may close this; a notice tells when it is done.", "accent")
        elif self._was_getting:
            self.say("", "label")
            self._look()
        self._was_getting = getting is not None

    def action_fetch(self, which: str) -> None:
        names = [one.name for one in self._found if which == "all" or (one.wanted and not one.here)]
        if names and self.shell.getting is None:
            get(self.shell, names)
            self._was_getting = True
            self._draw()
            self.query_one("#close").focus()


def get(shell: Shell, names: Sequence[str], then: Callable[[], object] = lambda: None) -> None:
    """Fetch them in the background, tell the end, and call `then` if they are here."""
    shell.getting = getting = GetBenchmarks(shell.home, names)
    shell.notify("Fetching benchmarks in the background.")
    work = partial(_get, shell, getting, then)
    shell.run_worker(work, thread=True, group="benchmarks", description="fetch benchmarks")


def _get(shell: Shell, getting: GetBenchmarks, then: Callable[[], object]) -> None:
    problem = ""
    if_ended = "A benchmark that has not arrived whole is fetched again."
    try:
        with shell.at_work(Work("benchmarks are being fetched", if_ended, getting.interrupt)):
            getting.fetched()
    except BitnetError as error:
        problem = str(error)
    shell.call_later(_got, shell, getting, problem, then)


def _got(shell: Shell, getting: GetBenchmarks, problem: str, then: Callable[[], object]) -> None:
    shell.getting = None
    if problem:
        shell.notify(problem, title="Benchmarks not fetched", severity="error")
        return
    shell.notify(f"Here now: {', '.join(getting.names)}.", title="Benchmarks")
    then()
