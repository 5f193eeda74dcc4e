"""What has happened in the workspace while the app is open: runs that ended and their alarms, each once.

Not thread-safe, and cheap: an experiment in which no run was made costs one look at a folder.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bitnet_core.errors import BitnetError
from bitnet_core.runs.lines import LineReader
from bitnet_core.runs.notices import Alarms, Ending, Notice, end_notice, new_alerts
from bitnet_core.runs.record import ACTIVE, BALLAST, Run, RunRecord
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import NotifyOptions
from bitnet_tui.services.settings import experiment_beside

_NEWS_SECONDS = 60.0
"""A run that ended longer ago, when it is first seen, is no news."""
_CLOCK_SECONDS = 2.0
"""A folder that was changed less than this ago may be changed again without another time."""


class News(NamedTuple):
    """A notice, and how the settings of its run want it to be told."""

    notice: Notice
    options: NotifyOptions


@dataclass
class _Followed:
    alarms: Alarms
    lines: LineReader
    options: NotifyOptions
    ending: Ending = field(default_factory=Ending)


@dataclass
class NewsReader:
    """Runs that had ended before its first look, and what they had said by then, are no news."""

    home: Path
    opened: Path | None = None
    """An experiment that may be outside the workspace."""
    _logs: dict[str, tuple[float, str]] = field(default_factory=dict)
    _seen: dict[str, tuple[float, set[str]]] = field(default_factory=dict)
    _followed: dict[Path, _Followed] = field(default_factory=dict)
    _first: bool = True

    def look(self) -> tuple[News, ...]:
        """What has happened since the look before; what can't be read is left out."""
        for root in self._experiments():
            with contextlib.suppress(BitnetError, OSError, ValueError):
                self._find(root)
        self._first = False
        found: list[News] = []
        for path in list(self._followed):
            try:
                found += self._of(path)
            except (BitnetError, OSError, ValueError):
                self._followed.pop(path, None)
        return tuple(found)

    def _experiments(self) -> Iterator[str]:
        """Their folders, as texts: of hundreds, making paths takes longer than looking."""
        with contextlib.suppress(OSError), os.scandir(self.home) as entries:
            yield from [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        if self.opened is not None and self.opened.parent != self.home:
            yield str(self.opened)

    def _logs_of(self, root: str) -> tuple[str, float]:
        """Where the experiment's runs are, and when one was made or removed last.

        Settings are resolved only where there is no `logs`, and once.
        """
        logs = f"{root}/logs"
        with contextlib.suppress(OSError):
            status = os.stat(logs)  # noqa: PTH116 - see above
            if stat.S_ISDIR(status.st_mode):
                return logs, status.st_mtime
        changed = Path(root, ".env").stat().st_mtime
        if self._logs.get(root, (None,))[0] != changed:
            self._logs[root] = changed, str(experiment_beside(Path(root), self.home)[0].logs)
        logs = self._logs[root][1]
        return logs, Path(logs).stat().st_mtime

    def _find(self, root: str) -> None:
        """Follow the runs that were made since the last look; at the first look, those that have not ended."""
        logs, changed = self._logs_of(root)
        before = self._seen.get(logs)
        if before and before[0] == changed and abs(time.time() - changed) > _CLOCK_SECONDS:
            return
        names = {entry.name for entry in os.scandir(logs) if entry.is_dir(follow_symlinks=False)}
        for name in names - (before[1] if before else set()):
            path = Path(logs, name)
            if not self._first or (path / BALLAST).exists():
                try:
                    self._follow(Run(path), Path(root), appeared=before is None)
                except BitnetError:  # its record may be written a moment later
                    changed = 0.0
                    names.discard(name)
        self._seen[logs] = changed, names

    def _follow(self, run: Run, root: Path, *, appeared: bool) -> None:
        """`appeared`: with its experiment, which was renamed, or fetched from its copy, and brings its old runs."""
        record = run.record()
        if record.stage == "upload" and record.starter:  # the stage beside it tells what it has to say
            return
        if run.state(record) not in ACTIVE and (self._first or (appeared and _is_old(record))):
            return
        options = NotifyOptions.of(Settings.from_record(record.settings, record.origins))
        lines = LineReader(run.events_path, last_bytes=0 if self._first else None)
        self._followed[run.path] = _Followed(Alarms(run, root.name, record.stage), lines, options)

    def _of(self, path: Path) -> Iterator[News]:
        run, followed = Run(path), self._followed[path]
        record = run.record()
        ended = followed.ending.is_final(state := run.state(record))
        for alert in new_alerts(followed.lines):
            if notice := followed.alarms.notice(alert):
                yield News(notice, followed.options)
        if not ended:
            return
        del self._followed[path]
        if not record.starter:
            yield News(end_notice(run, record, state, followed.alarms.experiment), followed.options)


def _is_old(record: RunRecord) -> bool:
    return time.time() - (record.ended or 0.0) > _NEWS_SECONDS
