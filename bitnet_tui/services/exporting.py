"""Exports a checkpoint for other programs: `bitnet export …` in a process of its own, so call `run` in a thread."""

import time
from pathlib import Path

from bitnet_core.runs.exports import GGUF, HF, Exported
from bitnet_tui.services.commands import Command

FORMATS = {GGUF: "for llama.cpp: one GGUF file", HF: "for transformers: a folder"}
_SECONDS = 3600.0


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
        report = self.run()
        where = Path(str((report.get("exported") or [""])[0]))
        if problems := report.get("problems"):
            return where, f"but {' '.join(str(one) for one in problems)}"
        return where, "verified" if report.get("verified") else "not verified: its runtime is not installed here"
