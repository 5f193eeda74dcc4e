"""What a stage gets: its experiment, settings and secrets, and a reporter that writes into the run's folder."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.files.writable import require_writable, require_writable_folder, writing
from bitnet_core.runs import catalog
from bitnet_core.runs.event_files import EventWriter
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.presence import Presence
from bitnet_core.runs.reporter import Reporter
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.values import LogOptions


class StageContext(Reporter):
    """The argument of every stage's `run`."""

    def __init__(
        self,
        stage: str,
        run_dir: Path,
        experiment: Experiment,
        events: EventWriter,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        level = LogOptions.of(experiment.settings).level.lower()
        super().__init__(events.emit, name=stage, level=level, resumes=catalog.stage(stage).resumes)
        self.stage = stage
        self.run_id = run_dir.name
        self.run_dir = run_dir
        self.experiment = experiment
        self.settings = experiment.settings
        self.secrets = dict(secrets or {})
        self.presence = Presence(stage)
        """What the run has open; `check_stop` looks whether it is still there."""

    @cached_property
    def redact(self) -> Redactor:
        """Masks this stage's keys. Whatever is not written by `emit` or `report` must go through it."""
        return Redactor(self.secrets.values())

    def require_writable(self, stage: str) -> None:
        """BitnetError unless what the stage leaves can be written: asked first, as it may work for hours."""
        for at, pattern in catalog.stage(stage).outputs:
            folder: Path = getattr(self.experiment, at)
            if "*" in pattern:
                require_writable_folder(folder)
            else:
                require_writable(folder / pattern)

    def check_stop(self) -> None:
        """As `Reporter.check_stop`; also raises Gone if what the run works in was removed or replaced."""
        self.presence.require()
        super().check_stop()

    def secret(self, name: str) -> str | None:
        return self.secrets.get(name) or None

    def report(self, name: str, payload: dict[str, Any]) -> Path:
        """Write `reports/<name>` as a complete file of strict JSON without keys, and announce it."""
        path = self.experiment.reports / name
        with writing(path):
            files.write_json(path, self.redact.tree(payload))
        self.artifact(path, "report")
        return path
