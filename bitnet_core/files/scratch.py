"""Folders for temporary files, which a killed process does not leave for ever.

Knows nothing of experiments.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bitnet_core import files


@contextlib.contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """A folder that only this user may enter, for as long as the context lasts; `name` says what it is for.

    What killed processes of this program have left beside it is removed first.
    """
    place = Path(tempfile.gettempdir())
    with contextlib.suppress(OSError):
        files.remove_leftovers(place, of="bitnet-")
    folder = files.temp_beside(place / f"bitnet-{name}")
    folder.mkdir(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
