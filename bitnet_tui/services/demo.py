"""The demo experiment. Its pipeline is started once, when the experiment is new; later it is opened as it is."""

from pathlib import Path

from bitnet_core.runs.catalog import PIPELINE
from bitnet_core.runs.experiment import Workspace, demo_env_text

NAME = "demo"


def find_or_create(home: Path) -> tuple[Path, str | None]:
    """The demo's folder and the stage to start in it, if any. BitnetError if it can't be created."""
    root = home / NAME
    if (root / ".env").exists():
        return root, None
    Workspace(home).create(NAME, demo_env_text())
    return root, PIPELINE.name
