"""Stands for `bitnet export` in tests of the app."""

import os
import threading
from collections.abc import Callable
from typing import IO

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.export.gguf_file import write_gguf
from bitnet_core.runs import export_run
from bitnet_core.runs.experiment import Experiment
from bitnet_tui.services.exporting import Begun


class Exporting:
    """Stands for `bitnet export`, which writes an export when it `may_write`, and ends when it `may_end`."""

    def __init__(self, experiment: Experiment, monkeypatch: pytest.MonkeyPatch, problem: str = "") -> None:
        self.made = experiment.root / "exports" / "one-step200-TQ2_0.gguf"
        self.arguments: list[list[str]] = []
        self.may_write, self.may_end = threading.Event(), threading.Event()

        def waited(begun: Begun, said: IO[bytes], leaves: Callable[[], bool]) -> int:
            self.arguments.append(begun.arguments[2:])
            begun.pid = os.getpid()
            try:
                with export_run.recorded(experiment, [begun.form], [], str) as recording:
                    recording.tell(step=begun.step)
                    self.may_write.wait(60)
                    if problem:
                        raise BitnetError(problem)
                    self.write()
                    recording.tell(written=[self.made.name])
                    self.may_end.wait(60)
                    recording.tell(verified=True, problems=[])
            except BitnetError:
                return 1
            return 0

        monkeypatch.setattr(Begun, "_waited", waited)

    def write(self) -> None:
        keys = {"general.architecture": "bitnet", "bitnet_core.step": 200, "bitnet_core.checkpoint_sha256": "0"}
        self.made.parent.mkdir(exist_ok=True)
        write_gguf(self.made, keys, [])

    def end(self) -> None:
        self.may_write.set()
        self.may_end.set()
