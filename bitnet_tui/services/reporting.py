"""Writing the report of an experiment, in a process of its own: a run may have a million events to read."""

from pathlib import Path

from bitnet_tui.services.commands import Command

FORMATS = {
    "html": "one page: results with their origin, curves, commands",
    "csv": "every metric of the training, a line a step",
    "svg": "the curves as a picture that scales",
    "png": "the curves as a picture",
}
_SECONDS = 120.0


def save_report(home: Path, root: Path, kind: str, run: str = "") -> str:
    """A sentence that says where the file lies now. Slow; BitnetError says why there is none."""
    which = ["--run", run] if run else []
    command = Command(home, ["--root", str(root), "report", "--as", kind, *which], {}, _SECONDS, "The report")
    return f"It is in {command.run()['path']}."
