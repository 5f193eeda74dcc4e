"""Writing the report of an experiment, in a process of its own: a run may have a million events to read."""

from pathlib import Path

from bitnet_tui.services.commands import Command

_SECONDS = 120.0


def save_report(home: Path, root: Path, run: str = "") -> str:
    """A sentence that says where the report lies now. Slow; BitnetError says why there is none."""
    which = ["--run", run] if run else []
    command = Command(home, ["--root", str(root), "report", *which], {}, _SECONDS, "The report")
    return f"The report is in {command.run()['path']}."
