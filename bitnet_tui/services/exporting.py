"""Exports a checkpoint for other programs: `bitnet export …` in a process of its own, so call `run` in a thread."""

import time
from pathlib import Path

from bitnet_core.runs import exports
from bitnet_core.runs.exports import GGUF, HF, Exported
from bitnet_tui.services.commands import Command

FORMATS = {GGUF: "for llama.cpp: one GGUF file", HF: "for transformers: a folder"}
_SECONDS = 3600.0


class Export(Command):
    """One export of the checkpoint of a step, verified where its runtime is installed; `again` replaces one.

    It goes on when its screen is closed, and holds what is told of it: `said` is a style and a sentence.
    """

    ended = False
    said = ("value", "")
    page: Exported | None = None
    """The export, once it is there and nothing differs: how to use it is shown then, once."""

    def __init__(
        self, home: Path, root: Path, form: str, step: int, checkpoint: Path, *, again: bool = False
    ) -> None:
        arguments = ["--root", str(root), "export", form, "--checkpoint", str(checkpoint)]
        super().__init__(home, [*arguments, *(["--force"] if again else [])], {}, _SECONDS, "The export")
        self.root, self.form, self.step = root, form, step
        self.began = time.time()

    def exported(self) -> tuple[Path, str, Exported | None]:
        """Run it; where the export is, whether it was verified, and itself unless it differs. BitnetError if none."""
        report = self.run()
        where = Path(str((report.get("exported") or [""])[0]))
        if problems := report.get("problems"):
            return where, f"but {' '.join(str(one) for one in problems)}", None
        how = "verified" if report.get("verified") else "not verified: its runtime is not installed here"
        return where, how, next((one for one in exports.of(self.root) if one.path == where), None)
