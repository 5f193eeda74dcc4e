"""The folder of a projection: complete or absent, and only what has changed is made again.

A projection is prepared in a hidden folder beside its place and renamed when it is complete. If it fails, the folder
is removed; if it is stopped or killed, the next one continues in it.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bitnet_core.errors import BitnetError, explained
from bitnet_core.files import half_written
from bitnet_core.traces import schema, writer
from bitnet_core.traces.schema import TraceMetadata

PROJECTION_FILE = "projection.json"
"""Written last: marks a folder as a complete projection."""
_PARTS = (schema.kd_stream, schema.kd_shard)


def require_replaceable(out: Path) -> None:
    """BitnetError if `out` is anything but a new folder, an empty one or an earlier projection."""
    if out.exists() and not out.is_dir():
        raise BitnetError(f"{out} is a file; give --out a new folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / PROJECTION_FILE).is_file():
        raise BitnetError(f"{out} holds something else; give --out a new or an empty folder.")


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder to work in, which replaces `folder` at the end."""
    place = folder
    try:
        place = half_written.continued_beside(folder)
        place.mkdir(parents=True, exist_ok=True)
        half_written.remove_leftovers(place)
        yield place
        half_written.replace_folder(place, folder)
    except Exception as error:
        if place != folder:
            shutil.rmtree(place, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise BitnetError(
            f"The projection can't be written to {folder.parent} "
            f"{explained(error, 'check its permissions')}, or name another place in --out."
        ) from error


def is_complete(folder: Path, wanted: Mapping[int, TraceMetadata]) -> bool:
    """Whether the folder holds exactly the wanted shards, by index, each as wanted."""
    return (
        (folder / PROJECTION_FILE).is_file()
        and {path.name for path in folder.glob("kd_*.parquet")} == _names(wanted)
        and all(is_current(folder, index, metadata) for index, metadata in wanted.items())
    )


def is_current(folder: Path, index: int, metadata: TraceMetadata) -> bool:
    return all(writer.is_current(folder / name(index), metadata) for name in _PARTS)


def reuse_shard(folder: Path, place: Path, index: int, metadata: TraceMetadata) -> bool:
    """Move a shard over from the folder that is being replaced, if it is up to date. Returns whether it was moved."""
    if not is_current(folder, index, metadata):
        return False
    for name in _PARTS:
        (place / name(index)).unlink(missing_ok=True)
        try:
            os.link(folder / name(index), place / name(index))
        except OSError:  # a file system without hard links
            shutil.copy2(folder / name(index), place / name(index))
    return True


def remove_others(place: Path, wanted: Mapping[int, TraceMetadata]) -> None:
    names = _names(wanted)
    for path in place.glob("kd_*.parquet"):
        if path.name not in names:
            path.unlink()


def shard_counts(folder: Path, wanted: Mapping[int, TraceMetadata]) -> list[Mapping[str, float]]:
    """The counts that each shard was written with."""
    found = [writer.metadata_of(folder / schema.kd_shard(index)) for index in wanted]
    return [one.counts for one in found if one is not None]


def _names(wanted: Mapping[int, TraceMetadata]) -> set[str]:
    return {name(index) for index in wanted for name in _PARTS}
