"""Exports a checkpoint for other programs: `bitnet export …` in a process of its own, so call `run` in a thread."""

from pathlib import Path

from bitnet_tui.services.commands import Command

FORMATS = {"gguf": "for llama.cpp: one GGUF file", "hf": "for transformers: a folder"}
_SECONDS = 3600.0


class Export(Command):
    """One export of one checkpoint, verified where its runtime is installed."""

    def __init__(self, home: Path, root: Path, form: str, checkpoint: Path) -> None:
        arguments = ["--root", str(root), "export", form, "--checkpoint", str(checkpoint)]
        super().__init__(home, arguments, {}, _SECONDS, "The export")

    def sentence(self) -> str:
        """Run it; where the export is, and whether it was verified. BitnetError if there is none."""
        report = self.run()
        where = ", ".join(str(path) for path in report.get("exported") or ())
        if problems := report.get("problems"):
            return f"{where} was written, but {' '.join(str(one) for one in problems)}"
        verified = "verified" if report.get("verified") else "not verified: its runtime is not installed here"
        return f"Exported and {verified}: {where}"
