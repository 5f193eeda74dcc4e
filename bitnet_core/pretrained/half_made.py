"""What is done of a start that is being made, kept beside the checkpoints until the first of them is there.

Making one takes minutes to hours, and a stop may come at any time. It is tied to everything that decides it: a start
from another model, on other text or for another student finds nothing, and starts over.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from bitnet_core import __version__, files
from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.model.student import Student
from bitnet_core.model.tensor_file import load_tensors, save_tensors
from bitnet_core.runs.catalog import HALF_MADE
from bitnet_core.runs.reporter import Reporter

Part = Literal["read", "fit"]
"""What the source has read of the text, and how far the student is fitted to it."""


@dataclass(frozen=True)
class HalfMade:
    """The files of a start in `folder`; `decides` is a hash of what decides it."""

    folder: Path
    decides: str

    def find(self, part: Part) -> dict[str, Any]:
        """What was kept of this start, empty if nothing was. All parts of another start are removed.

        OSError if the disk or the memory keeps it from being read: hours of work are not removed for that.
        """
        path = self._path(part)
        try:
            found = load_tensors(path) if path.is_file() else None
        except Exception as error:  # noqa: BLE001 - a file of any content; then the part starts over
            raise_if_not_the_file(error, path)
            found = None
        if not isinstance(found, dict):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return {}
        if found.get("decides") != self.decides:
            remove(self.folder)  # otherwise a reader would take another start's parts for this one's
            return {}
        return found

    def keep(self, part: Part, done: dict[str, Any], reporter: Reporter) -> None:
        """Replace what was kept before. The work continues if that fails, as on a full disk."""
        try:
            with files.atomic_path(self._path(part)) as temp:
                save_tensors(done | {"decides": self.decides}, temp)
        except (OSError, BitnetError) as error:
            reporter.log(f"What is done of the start can't be kept: {error}", "warning")
        else:
            reporter.resumes = True

    def _path(self, part: Part) -> Path:
        return self.folder / f".start-{part}.pt"


def deciding(student: Student, *tensors: torch.Tensor, **others: Any) -> str:
    """A hash of the student as it is, of tensors, and of what else decides a start."""
    found = hashlib.sha256(json.dumps([__version__, student.config.to_dict(), others], sort_keys=True).encode())
    for one in (*student.state_dict().values(), *tensors):
        found.update(one.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def remove(folder: Path) -> None:
    """Remove what was kept of a start."""
    for _, pattern in HALF_MADE:
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()
