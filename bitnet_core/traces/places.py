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
    found, hidden = _outside(data, what), data / f".{what}"
    inside = os.path.ismount(data) or not os.access(data.parent, os.W_OK)
    return hidden if inside and not found.is_dir() else found


def all_beside(data_dir: Path, what: str) -> list[Path]:
    """Every folder that may hold a trace set's `what`, first the one that `beside` chooses now.

    It chooses otherwise when the data is mounted, moved behind a link, or its parent's permissions change.
    """
    data = data_dir.resolve()
    found = [beside(data_dir, what), _outside(data, what)]
    if data_dir.is_symlink():
        found.append(_outside(data_dir.parent.resolve() / data_dir.name, what))
    return list(dict.fromkeys([*found, data / f".{what}"]))


def _outside(data: Path, what: str) -> Path:
    return data.with_name(f"{data.name}.{what}") if data.name else data / f".{what}"


def journal(data_dir: Path) -> Path:
    """The journal of a trace set, or where a new one belongs."""
    found = journals(data_dir)
    return next((path for path in found if path.is_file()), found[0])


def journals(data_dir: Path) -> list[Path]:
    """Every path that a trace set's journal may have, first the one for a new journal."""
    return [folder / JOURNAL_FILE for folder in all_beside(data_dir, "journal")]


def old_journal(data_dir: Path) -> Path:
    """Where version 0.1.0 kept the journal."""
    return data_dir / JOURNAL_FILE


def projection(data_dir: Path, name: str) -> Path:
    """The folder of a projection; that of an earlier version where there is one, because settings name it."""
    there = [data_dir / "projected" / name, *(folder / name for folder in all_beside(data_dir, "projected"))]
    return next((folder for folder in there if folder.is_dir()), there[1])


def tokenizer(data_dir: Path) -> Path:
    """The folder of the tokenizer that the traces were made with. It may be missing."""
    old, found = data_dir / OLD_TOKENIZER_FOLDER, data_dir / TOKENIZER_FOLDER
    return old if old.is_dir() and not found.is_dir() else found
