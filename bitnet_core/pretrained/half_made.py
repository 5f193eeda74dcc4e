"""The finished parts of a start from a model, kept beside the checkpoints.

Making a start takes minutes to hours, and a stop may come at any time. Its parts are kept until the first checkpoint
is saved. The fitted layers stay, so that a training that begins anew, here or in a duplicate, need not fit them
again. All is tied to everything that decides it: a start from another model, on other text or for another student
finds nothing, and starts over.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from bitnet_core import __version__, files
from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.model.tensor_file import load_tensors, save_tensors
from bitnet_core.runs.catalog import HALF_MADE, START_MADE
from bitnet_core.runs.reporter import Reporter
from bitnet_core.traces.examples import Example, collate

Part = Literal["read", "fit", "made"]
"""What the source has read of the text, how far the student is fitted to it, and the student that is fitted."""


@dataclass(frozen=True)
class HalfMade:
    """The files of a start in `folder`; `decides` is a hash of what decides it, `made` the name once it is made."""

    folder: Path
    decides: str
    made: str

    def find(self, part: Part) -> dict[str, Any]:
        """What was kept of this start, empty if nothing was. Where it is another start's, that is removed.

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
            # Otherwise a reader would take another start's parts for this one's.
            _remove(self.folder, START_MADE if part == "made" else HALF_MADE)
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

    def keep_made(self, done: dict[str, Any], reporter: Reporter) -> None:
        """Keep the start that is made, in place of an earlier one."""
        self.keep("made", done, reporter)
        _remove(self.folder, START_MADE, but=self.made)

    def _path(self, part: Part) -> Path:
        return self.folder / (self.made if part == "made" else f".start-{part}.pt")


def deciding(student: Student, *tensors: torch.Tensor, **others: Any) -> str:
    """A hash of the student as it is, of tensors, and of what else decides a start."""
    found = hashlib.sha256(json.dumps([__version__, student.config.to_dict(), others], sort_keys=True).encode())
    for one in (*student.state_dict().values(), *tensors):
        found.update(one.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def made_name(config: StudentConfig, examples: Sequence[Example], steps: int, settings: Mapping[str, Any]) -> str:
    """The name of the file of a start that is made for such a student, fitted on these examples.

    It says all that is known without the model's weights, so that a plan can tell whether the start is there.
    """
    batch = collate(examples)
    # Without what the model alone decides: a plan may know its numbers in another precision.
    shape = [config.vocab_size, config.num_hidden_layers, config.hadamard, config.a4_policy, config.embedding_type]
    found = hashlib.sha256(json.dumps([__version__, shape, steps, settings], sort_keys=True).encode())
    for one in (batch.ids_BT, batch.positions_N):
        found.update(one.contiguous().view(-1).view(torch.uint8).numpy().data)
    return f".made-start-{found.hexdigest()[:16]}.pt"


def remove(folder: Path, *, made: bool = False) -> None:
    """Remove what was kept of a start while it was made and, if asked, the one that is `made`."""
    _remove(folder, (*HALF_MADE, *START_MADE) if made else HALF_MADE)


def _remove(folder: Path, outputs: Sequence[tuple[str, str]], but: str = "") -> None:
    for _, pattern in outputs:
        for path in folder.glob(pattern):
            if path.name == but:
                continue
            with suppress(OSError):
                path.unlink()
