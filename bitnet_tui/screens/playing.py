"""Asks teacher and student of an experiment, each in a process that ends with the screen."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from textual.timer import Timer

from bitnet_tui.screens.keyed import AttemptingScreen
from bitnet_tui.services import playing
from bitnet_tui.services.playing import Found, Model, Who
from bitnet_tui.view.play.answers import SIDES, Asked
from bitnet_tui.view.play.session import Session, Side

_LEFT = "The playground was left before the answer was complete."


class PlayingScreen(AttemptingScreen[None]):
    """Opens the two sides, sends what is asked, and draws what they tell a few times a second while they do."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.session = Session()
        self.found: Found | None = None
        self._models: dict[Who, Model] = {}
        self._waiting: dict[Who, list[dict[str, Any]]] = {who: [] for who in SIDES}
        """What a side that is being opened will be asked."""
        self._heard = dict.fromkeys(SIDES, monotonic())
        self._seeking: tuple[Who, ...] = ()
        """The sides that the running call is for."""

    def prepare(self) -> None:
        """Go on with what was asked in this experiment before, and open both sides."""
        self.session = self.shell.played.setdefault(self.root, self.session)
        self._clock: Timer = self.set_interval(self.shell.redraw_seconds, self._tick, pause=True)
        self._open(SIDES)

    def draw_play(self) -> None:
        raise NotImplementedError

    def opened(self, found: Found) -> None:
        """The settings are known."""

    def on_unmount(self) -> None:
        for model in self._models.values():
            model.close()
        for who in SIDES:
            self.session.closed(who, _LEFT)
            self.session.sides[who] = Side()

    # -- opening ---------------------------------------------------------------------------------------------------

    def _open(self, sides: Iterable[Who]) -> None:
        """Open the sides that are closed."""
        for who in sides:
            if self.session.sides[who].state == "closed":
                self.session.sides[who] = Side("opening")
        self._seek()

    def _seek(self) -> None:
        """Look for what the sides need that are to be opened: the settings, and then the teacher's key."""
        if not self.busy and self._sought():  # else the end of the running call seeks again
            self._seeking = SIDES
            self.attempt(partial(playing.look, self.shell.home, self.root), self._looked)
        self._follow()

    def _sought(self) -> list[Who]:
        return [who for who in SIDES if self.session.sides[who].state == "opening" and who not in self._models]

    def _looked(self, found: Found) -> None:
        self.found = found
        self.opened(found)
        for who in self._sought():
            if who in found.problems:
                self._lose(who, found.problems[who])
            elif who == "student":
                self._start(who, {})
        if "teacher" in self._sought():
            self._seeking = ("teacher",)
            self.attempt(partial(playing.keys, self.shell.home, self.root), partial(self._start, "teacher"))
        self._follow()

    def refused(self, problem: str) -> None:
        """The settings are wrong, the teacher's key is missing, or the vault that may hold it stayed closed."""
        for who in self._sought():
            if who in self._seeking:
                self._lose(who, problem)
        self._seek()

    def _start(self, who: Who, keys: Mapping[str, str]) -> None:
        model = self._models[who] = Model(self.shell.home, self.root, who, keys)
        for request in self._waiting[who]:
            model.send(request)
        self._waiting[who] = []
        self._seek()

    def _lose(self, who: Who, problem: str) -> None:
        self._models.pop(who, None)
        self._waiting[who] = []
        self.session.closed(who, problem)

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(self, asked: Asked, whom: Sequence[Who]) -> None:
        """Ask; a side that has ended, or could not be opened, is opened again."""
        for who, request in self.session.begin(asked, whom).items():
            self._heard[who] = monotonic()
            self._send(who, request)
        self._open(whom)
        self._follow()

    def stop(self) -> None:
        for model in self._models.values():
            model.send(self.session.stop())

    def quiet(self, who: Who) -> float:
        """For how many seconds a side has told nothing."""
        return monotonic() - self._heard[who]

    def _send(self, who: Who, request: dict[str, Any]) -> None:
        if who in self._models:
            self._models[who].send(request)
        else:
            self._waiting[who].append(request)

    # -- hearing ---------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Draw now, and then while something is under way."""
        if self.session.busy:
            self._clock.resume()
        self.draw_play()

    def _tick(self) -> None:
        for who, model in list(self._models.items()):
            events = model.take()
            if not events:
                continue
            self._heard[who] = monotonic()
            for request in self.session.take(who, events):
                self._send("student", request)
            if events[-1].get("event") == "gone":
                self._models.pop(who)
        if not self.session.busy:
            self._clock.pause()
        self.draw_play()
