"""Which files a target can hold: their names, their sizes, and names that it would take for one."""

from collections.abc import Mapping, Sequence

from bitnet_core.storage import names
from bitnet_core.storage.layout import Stored, most_bytes
from bitnet_core.storage.snapshot import LocalFile
from bitnet_core.storage.target import Target
from bitnet_core.text import printable, size


def faults(files: Sequence[LocalFile], target: Target, stored: Mapping[str, Stored]) -> list[str]:
    """A sentence for each file that the target can't hold."""
    most = most_bytes(target.limits)
    return [
        *names.faults((file.name for file in files), target.limits, stored),
        *(
            f"{printable(one.name)} is larger than {target.place} can hold ({size(most)}); use another target."
            for one in files
            if one.size > most
        ),
    ]


def fit(
    files: Sequence[LocalFile], target: Target, stored: Mapping[str, Stored]
) -> tuple[list[LocalFile], list[str]]:
    """The files that the target can hold, of two that it would take for one the first; and why others are left."""
    found: list[LocalFile] = []
    left: list[str] = []
    folded: dict[str, LocalFile] = {}
    for file in files:
        twin = folded.get(file.name.casefold())
        if why := faults([twin, file] if twin else [file], target, stored):
            left.append(why[0])
        else:
            found.append(file)
            folded[file.name.casefold()] = file
    return found, left
