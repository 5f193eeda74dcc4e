"""Exports a checkpoint for other programs: `bitnet export …` in a process of its own, so call `run` in a thread."""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bitnet_core import process
from bitnet_core.files import real_path
from bitnet_core.runs.exports import GGUF, HF, Exported
from bitnet_core.text import finite
from bitnet_tui.services import kept
from bitnet_tui.services.commands import Command

FORMATS = {GGUF: "for llama.cpp: one GGUF file", HF: "for transformers: a folder"}
_SECONDS = 3600.0
_BEGUN = "exports"
"""The record of the exports whose end no app has seen, by the folder of the experiment."""


class Export(Command):
    """One export of the checkpoint of a step, verified where its runtime is installed; `again` replaces one.

    `before` are the exports of the step that were there as it began.
    It goes on when its screen is closed, and holds what is told of it: `said` is a style and a sentence.
    """

    ended = False
    said = ("value", "")

    def __init__(
        self,
        home: Path,
        root: Path,
        form: str,
        step: int,
        checkpoint: Path,
        *,
        before: tuple[Exported, ...] = (),
        again: bool = False,
    ) -> None:
        arguments = ["--root", str(root), "export", form, "--checkpoint", str(checkpoint)]
        super().__init__(home, [*arguments, *(["--force"] if again else [])], {}, _SECONDS, "The export")
        self.root, self.form, self.step = root, form, step
        self._before, self._begun = before, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun

    def written(self, now: tuple[Exported, ...]) -> tuple[Exported, ...]:
        """What it has written and now compares with the student, of the exports of the step that are there now."""
        return () if self.ended else tuple(one for one in now if one.kind == self.form and one not in self._before)

    def exported(self) -> tuple[Path, str]:
        """Run it; where the export is, and whether it was verified. BitnetError if there is none."""
        app = process.identify(os.getpid())
        _note(self.root, {"step": self.step, "form": self.form, "app": app and asdict(app)})
        try:
            report = self.run()
        finally:
            if not self.cancelled:  # the app ends, and the next one tells
                _note(self.root, None)
        where = Path(str((report.get("exported") or [""])[0]))
        if problems := report.get("problems"):
            return where, f"but {' '.join(str(one) for one in problems)}"
        return where, "verified" if report.get("verified") else "not verified: its runtime is not installed here"


def unfinished(root: Path) -> tuple[int, str] | None:
    """The step and the format of an export that has ended with its app; None if there is none, or it still runs."""
    found = _begun().get(str(real_path(root)))
    if not isinstance(found, dict) or found.get("form") not in FORMATS:
        return None
    step, app = finite(found.get("step")), found.get("app")
    try:
        runs = isinstance(app, dict) and process.is_alive(process.ProcessIdentity(**app))
    except TypeError:  # of another version
        runs = False
    return None if step is None or runs else (int(step), found["form"])


def _begun() -> dict[str, Any]:
    record = kept.read(_BEGUN)
    return record if isinstance(record, dict) else {}


def _note(root: Path, begun: dict[str, Any] | None) -> None:
    place = str(real_path(root))
    others = {name: one for name, one in _begun().items() if name != place}
    kept.write(_BEGUN, others if begun is None else others | {place: begun})
