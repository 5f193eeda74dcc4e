"""Scoring the newest student: begins and stops it, and says how far it is. It goes on when its screen is closed."""

import time
from functools import partial
from pathlib import Path
from typing import Literal, cast

from textual.message import Message
from textual.timer import Timer

from bitnet_core.errors import BitnetError
from bitnet_core.text import flat
from bitnet_tui.services.tracing import Scoring
from bitnet_tui.shell import Shell
from bitnet_tui.view.traces import scoring as words
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.works import Work


class ScoringLine(Painted):
    """Empty while nothing is scored."""

    class Ended(Message):
        """Scoring has ended, and its tab is in sight."""

        def __init__(self, scoring: Scoring) -> None:
            super().__init__()
            self.scoring = scoring

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(id="trace-scoring", classes="-empty")
        self._home, self.root = home, root
        self._seconds: Timer

    def on_mount(self) -> None:
        self._seconds = self.set_interval(1, self.look, pause=True)

    @property
    def _shell(self) -> Shell:
        return cast("Shell", self.app)

    @property
    def running(self) -> bool:
        scoring = self._shell.scorings.get(self.root)
        return scoring is not None and not scoring.ended

    @property
    def seen(self) -> bool:
        """Whether its tab is open, with nothing but dialogs above it."""
        tab = next(one for one in self.ancestors if one.id == "traces")
        return bool(tab.display) and bool(getattr(self.screen, "in_sight", False))

    def toggle(self) -> None:
        """Begin, or stop it."""
        shell = self._shell
        if self.running:
            shell.scorings[self.root].cancel()
            return
        shell.scorings[self.root] = scoring = Scoring(self._home, self.root)
        shell.run_worker(partial(_run, shell, scoring), thread=True, group="score", description="score the student")
        self.look()

    def look(self) -> None:
        """Say how far it is. What came of it is told where it is in sight, once."""
        scoring = self._shell.scorings.get(self.root)
        if scoring is not None and not scoring.ended:
            self._seconds.resume()
            self.say(words.running(scoring.done, scoring.total, time.monotonic() - scoring.began), "value")
            return
        self._seconds.pause()
        self.say("", "value")
        if scoring is not None and self.seen:
            del self._shell.scorings[self.root]
            self.post_message(self.Ended(scoring))


def _run(shell: Shell, scoring: Scoring) -> None:
    what = f"the student of {flat(scoring.root.name)} is being scored"
    if_ended = "A scoring that is stopped starts over; earlier scores are kept."
    try:
        with shell.at_work(Work(what, if_ended, scoring.cancel, scoring.root)):
            scoring.scored = scoring.score()
    except (BitnetError, OSError) as error:
        scoring.problem = str(error) if scoring.cancelled or scoring.root.is_dir() else words.GONE
    shell.call_later(_ended, shell, scoring)


def _ended(shell: Shell, scoring: Scoring) -> None:
    """Tell what came of it in its tab, or where that can't be seen."""
    scoring.ended = True
    every = [one for screen in shell.screen_stack for one in screen.query(ScoringLine) if one.root == scoring.root]
    seen = any(one.seen for one in every)
    for one in every:
        one.look()
    if not seen:
        severity: Literal["information", "error"] = "error" if scoring.problem else "information"
        told = scoring.problem or f"{words.ended(scoring.scored, None)}."
        shell.notify_beside(told, title=f"Traces of {scoring.root.name}", severity=severity)
