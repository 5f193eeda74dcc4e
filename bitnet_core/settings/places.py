"""The one group of settings that is read before the first screen is drawn; the others are in `values.py`."""

from pathlib import Path

from bitnet_core.settings.group import Group, setting


class PlaceOptions(Group):
    """The workspace, and the folders of one experiment."""

    home: Path = setting("BITNET_HOME")
    root: Path = setting("DRIVE_ROOT")
    checkpoints: Path = setting("CHECKPOINTS_DIR")
    data: Path = setting("DATA_DIR")
    reports: Path = setting("REPORTS_DIR")
    logs: Path = setting("LOGS_DIR")
    create: bool = setting("AUTO_CREATE_DIRS")
