"""Folders for temporary files in the system's place for them, which a killed process does not leave for ever.

Knows nothing of experiments.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bitnet_core.files.half_written import scratch_beside


@contextlib.contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """A folder that only this user may enter, for as long as the context lasts; `name` says what it is for."""
    with scratch_beside(Path(tempfile.gettempdir()) / f"bitnet-{name}") as folder:
        yield folder
