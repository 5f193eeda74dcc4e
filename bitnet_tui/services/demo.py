"""The demo experiment: made once, opened ever after, its pipeline started when it has not been run through."""

from typing import TYPE_CHECKING

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Workspace, demo_env_text

if TYPE_CHECKING:
    from bitnet_tui.app import BitnetApp

NAME = "demo"


def open_demo(app: "BitnetApp") -> None:
    """Make `demo` in the workspace and run its pipeline; an earlier one is opened as it is."""
    root = app.home / NAME
    if (root / ".env").exists():
        app.open_experiment(root)
        return
    try:
        Workspace(app.home).create(NAME, demo_env_text())
    except BitnetError as error:
        from bitnet_tui.screens.dialogs import MessageScreen

        app.push_screen(MessageScreen("The demo can't be made", str(error)))
        return
    app.open_experiment(root, "pipeline")
