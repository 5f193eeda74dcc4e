"""Where a trace set keeps what belongs to it, and where earlier versions kept it. Paths only.

`data/` holds Parquet and the tokenizer alone, so that any Parquet reader takes the whole folder: readers pass over
names that begin with `.` or `_`. Everything else is in folders beside it, such as `data.journal/`.
"""

import os
from pathlib import Path

from bitnet_core.traces.schema import OLD_TOKENIZER_FOLDER, TOKENIZER_FOLDER

JOURNAL_FILE = "journal.sqlite"


def beside(data_dir: Path, what: str) -> Path:
    """The folder of a trace set's `what`. Two trace sets never share one.

    It is beside the folder that links lead to. Where nothing can be beside it (a mounted volume, a parent that can't
    be written), it is a hidden folder inside.
    """
    data = data_dir.resolve()
    found = data.with_name(f"{data.name}.{what}") if data.name else data / f".{what}"
    inside = os.path.ismount(data) or not os.access(data.parent, os.W_OK)
    return data / f".{what}" if inside and not found.is_dir() else found


def journal(data_dir: Path) -> Path:
    return beside(data_dir, "journal") / JOURNAL_FILE


def old_journal(data_dir: Path) -> Path:
    """Where version 0.1.0 kept the journal."""
    return data_dir / JOURNAL_FILE


def projection(data_dir: Path, name: str) -> Path:
    """The folder of a projection; that of an earlier version where there is one, because settings name it."""
    old = data_dir / "projected" / name
    return old if old.is_dir() else beside(data_dir, "projected") / name


def tokenizer(data_dir: Path) -> Path:
    """The folder of the tokenizer that the traces were made with. It may be missing."""
    old, found = data_dir / OLD_TOKENIZER_FOLDER, data_dir / TOKENIZER_FOLDER
    return old if old.is_dir() and not found.is_dir() else found
