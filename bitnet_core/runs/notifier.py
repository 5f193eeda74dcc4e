"""The process beside a run that sends its notices: `python -m bitnet_core.runs.notifier RUN_FOLDER`.

It only reads the run's files, in a session of its own: so it neither slows nor fails the run, and also tells of one
that was killed. In quiet hours it keeps what it has to tell until they end. What it can't send becomes one alert for
each way of sending: while the run lives it says so in a line to the run's process, which writes the events.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bitnet_core import process
from bitnet_core.errors import BitnetError
from bitnet_core.runs import messenger
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.event_files import EventWriter
from bitnet_core.runs.events import Alert
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.lines import LineReader
from bitnet_core.runs.notices import NOT_NOTIFIED, WEBHOOK, Alarms, Ending, Notice, end_notice, is_quiet, new_alerts
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.secrets import handover, known
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import NotifyOptions

_POLL_SECONDS = 0.5
_QUIET_POLL_SECONDS = 20.0
_ONCE = "Further failures of this kind are not reported."


def start_beside(context: StageContext, record: RunRecord) -> None:
    """Start the notifier of a run, if it is to send anything. What goes wrong is one alert."""
    keys = {name: value for name, value in context.secrets.items() if name == WEBHOOK}
    options = NotifyOptions.of(context.settings)
    # What an upload beside a stage has to say, the stage says.
    if not (options.command or keys) or (record.stage == "upload" and record.starter):
        return
    command = process.python("bitnet_core.runs.notifier", str(context.run_dir))
    environment = handover.environment_without_secrets(context.secrets.values())
    try:
        child = handover.start_with_secrets(command, keys, environment, subprocess.PIPE)
    except OSError as error:
        problem = f"No notice of this run can be sent: the notifier can't be started ({error.strerror})."
        context.alert("warning", NOT_NOTIFIED, problem)
        return
    for stream in (child.stdout, child.stderr):
        threading.Thread(target=_pass_on, args=(process.pipe_of(stream), context), daemon=True).start()


def _pass_on(lines: Iterable[str], context: StageContext) -> None:
    for line in lines:
        context.alert("warning", NOT_NOTIFIED, line.strip(), _ONCE)


@dataclass
class Notifier:
    """Follows a run until it has ended and everything is told. `ways` send a notice or raise BitnetError."""

    run: Run
    options: NotifyOptions
    ways: dict[str, Callable[[Notice], None]]
    hour: Callable[[], int] = lambda: time.localtime().tm_hour
    sleep: Callable[[float], None] = time.sleep
    redact: Callable[[str], str] = str
    _waiting: list[Notice] = field(default_factory=list)
    _broken: set[str] = field(default_factory=set)

    def follow(self) -> None:
        record = self.run.record()
        experiment = Experiment.from_settings(Settings.from_record(record.settings, record.origins)).name
        alarms, lines = Alarms(self.run, experiment, record.stage), LineReader(self.run.events_path)
        ending, ended = Ending(), False
        while not ended:
            # Looked at before reading: the last event is written before the record says that the run has ended.
            record = self.run.record()
            ended = ending.is_final(state := self.run.state(record))
            for alert in new_alerts(lines):
                if notice := alarms.notice(alert):
                    self._waiting.append(notice)
            if ended and not record.starter:
                self._waiting.append(end_notice(self.run, record, state, experiment))
            self._send()
            if not ended:
                self.sleep(_POLL_SECONDS)
        while self._waiting:
            self.sleep(_QUIET_POLL_SECONDS)
            self._send()

    def _send(self) -> None:
        """Send what waits, unless the hour is quiet."""
        if is_quiet(self.options, self.hour()):
            return
        notices, self._waiting = self._waiting, []
        for notice in notices:
            for name, send in self.ways.items():
                try:
                    send(notice)
                except BitnetError as error:
                    self._say(name, self.redact(str(error)))

    def _say(self, name: str, problem: str) -> None:
        if name in self._broken:
            return
        self._broken.add(name)
        if self.run.is_active():
            sys.stdout.write(f"{problem}\n")
            sys.stdout.flush()
            return
        writer = EventWriter(self.run.events_path)  # no other process writes there any more
        writer.emit(Alert(severity="warning", code=NOT_NOTIFIED, message=problem, advice=_ONCE))
        writer.close()


def main(argv: list[str]) -> None:
    """Follow the run in the folder `argv[0]`. Ends without a word when the run is removed."""
    known.keep_out_of_core_dumps()
    process.let_others_go_first(5)
    keys = handover.read_from_pipe()
    run = Run(Path(argv[0]))
    try:
        record = run.record()
        options = NotifyOptions.of(Settings.from_record(record.settings, record.origins))
        ways: dict[str, Callable[[Notice], None]] = {}
        if options.command:
            ways["NOTIFY_COMMAND"] = partial(messenger.run_command, options.command)
        if keys.get(WEBHOOK):
            ways[WEBHOOK] = partial(messenger.call_webhook, keys[WEBHOOK], options.form)
        Notifier(run, options, ways, redact=Redactor(keys.values())).follow()
    except (BitnetError, OSError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # without waiting for a request that never ends
