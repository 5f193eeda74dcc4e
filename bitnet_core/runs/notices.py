"""What people who don't watch a run are told of it: its alarms and its end. Pure: events and records go in.

An alarm is told once for each code. The end of a run that another one has started is that one's to tell.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bitnet_core.runs.event_files import each_event
from bitnet_core.runs.events import Alert, decode
from bitnet_core.runs.judge import Judge
from bitnet_core.runs.lines import LineReader
from bitnet_core.runs.record import ACTIVE, KILL_SECONDS, Run, RunRecord
from bitnet_core.settings.values import NotifyOptions
from bitnet_core.text import capital, crop, duration, flat, state_word

WEBHOOK = "NOTIFY_WEBHOOK"
"""The secret setting with the address that notices are sent to."""
NOT_NOTIFIED = "not_notified"
"""The code of the alert that a notice could not be sent. It is not a reason for another one."""
_TITLE_CELLS = 80
_TEXT_CELLS = 600


@dataclass(frozen=True)
class Notice:
    """One message. `kind` is `end` or `alarm`, `state` the run's, `code` the alarm's; the texts are bounded."""

    kind: str
    experiment: str
    stage: str
    run: str
    state: str
    words: str
    code: str = ""

    @property
    def title(self) -> str:
        what = "alarm" if self.kind == "alarm" else state_word(self.state)
        return crop(f"{self.stage} {what}: {flat(self.experiment)}", _TITLE_CELLS)

    @property
    def text(self) -> str:
        return crop(flat(self.words), _TEXT_CELLS)

    @property
    def is_bad(self) -> bool:
        return self.kind == "alarm" or self.state in ("failed", "interrupted")

    def to_record(self) -> dict[str, str]:
        """The notice as JSON for a program."""
        names = ("kind", "experiment", "stage", "run", "state", "code")
        return {"title": self.title, "text": self.text, **{name: flat(getattr(self, name)) for name in names}}


@dataclass
class Alarms:
    """Makes a notice of the first alert of each code."""

    run: Run
    experiment: str
    stage: str
    _told: set[str] = field(default_factory=set)

    def notice(self, alert: Alert) -> Notice | None:
        """None for an alert that only informs, and for one whose code was told before."""
        if alert.severity == "info" or alert.code in (NOT_NOTIFIED, *self._told):
            return None
        self._told.add(alert.code)
        words = " ".join(filter(None, (alert.message, alert.advice)))
        return Notice("alarm", self.experiment, self.stage, self.run.id, "running", words, alert.code)


@dataclass
class Ending:
    """Knows when a run's state is its last one: a kill is recorded only once the run's process is gone."""

    clock: Callable[[], float] = time.monotonic
    _gone_since: float | None = None

    def is_final(self, state: str) -> bool:
        """False while the run is at work, and while it has been `interrupted` for less than `KILL_SECONDS`."""
        if state != "interrupted":
            self._gone_since = None
            return state not in ACTIVE
        now = self.clock()
        self._gone_since = now if self._gone_since is None else self._gone_since
        return now - self._gone_since > KILL_SECONDS


def new_alerts(lines: LineReader) -> Iterator[Alert]:
    """The alerts among the lines that were not read before."""
    while True:
        for line in lines.read_new():
            # Most lines are metrics; an alert has its kind somewhere.
            event = decode(line.data) if line.data and b'"alert"' in line.data else None
            if isinstance(event, Alert):
                yield event
        if lines.at_end:
            return


def is_quiet(options: NotifyOptions, hour: int) -> bool:
    """Whether nothing is to be told in this hour, from 0 to 23. Two hours that are the same are no quiet ones."""
    start, end = options.quiet_from, options.quiet_until
    if start is None or end is None or start == end:
        return False
    return start <= hour < end if start < end else hour >= start or hour < end


def end_notice(run: Run, record: RunRecord, state: str, experiment: str) -> Notice:
    """What a run's end is told with: why it ended, or what came of it, and how long it took. Reads its events."""
    words = [_why(run, record, state)]
    if (seconds := record.seconds()) is not None and record.started is not None:
        words.append(f"This run took {duration(seconds)}.")
    return Notice("end", experiment, record.stage, run.id, state, " ".join(filter(None, words)))


def _why(run: Run, record: RunRecord, state: str) -> str:
    if state == "interrupted":
        return f"{capital(run.gone(record))}; it recorded no end."
    if state != "succeeded":
        return record.error or ""
    judge = Judge(run)
    for event in each_event(run.events_path):
        judge.feed(event)
    found = judge.findings(record, state)
    return capital(found[0].words.removeprefix("Done: ")) if found else ""  # the title has said so
