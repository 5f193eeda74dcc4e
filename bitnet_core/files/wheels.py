"""Fetch a pinned wheel with pip, so that the user's mirrors, proxies and certificates apply. Knows no contents."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files.half_written import scratch_beside
from bitnet_core.network.proxy import through
from bitnet_core.network.trickle import LEAST_BYTES
from bitnet_core.process import python, rss_bytes

_POLL_SECONDS = 0.1
_MOST_MORE = 1 << 20
"""How many bytes a file beside the wheel may be larger than the wheel."""
_MOST_MEMORY = 1 << 30
"""The most that pip may take. It reads an index's pages whole, and usually takes 100 MB."""
_STILL_SECONDS = 300.0
"""How long the download may rest: pip has its own time-outs and tries again, but each byte restarts them."""
_SPACE_SIGNS = ("No space left", "quota exceeded")
_NETWORK_SIGNS = (
    *("connection", "timed out", "timeout", "network", "name resolution", "resolve", "proxy"),
    *("ssl", "certificate"),
)
_ANOTHER_SIGNS = ("do not match the hashes", "is invalid", "not a zip file")

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total), counted in bytes; a total of 1 is a step of unknown size."""


@dataclass(frozen=True)
class Wheel:
    """A wheel of a package index. `what` says in messages what it brings; `otherwise` ends the advice if offline."""

    requirement: str
    filename: str
    sha256: str
    size: int
    what: str
    otherwise: str = ""


def intact(path: Path, size: int, sha256: str) -> bool:
    """Whether the file is there with this size and hash."""
    return path.is_file() and path.stat().st_size == size and files.sha256_file(path) == sha256


def fetch(wheel: Wheel, folder: Path, environment: Mapping[str, str], report: Progress) -> Path:
    """The wheel in `folder`, downloaded unless it is there. The caller holds the folder's lock.

    pip runs with `environment`. BitnetError if there is no pip, the index can't be reached, or what it delivers does
    not have the pinned hash; then nothing is left in the folder.
    """
    target = folder / wheel.filename
    if intact(target, wheel.size, wheel.sha256):
        return target
    with scratch_beside(folder / "fetch") as temporary:
        _pip_download(wheel, temporary, environment, report)
        downloaded = temporary / wheel.filename
        if not intact(downloaded, wheel.size, wheel.sha256):
            raise BitnetError(_another(wheel))
        downloaded.replace(target)
    return target


def _pip_download(wheel: Wheel, folder: Path, environment: Mapping[str, str], report: Progress) -> None:
    """Let pip download the wheel into `folder`.

    pip writes to its temporary folder first. It gets one in `folder`, where the growing file can be watched.
    """
    temp = folder / "tmp"
    temp.mkdir()
    command = python("pip", "--disable-pip-version-check", "--no-input", "download")
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--quiet"]
    command += [*_resume_options(wheel, environment), "--dest", str(folder), wheel.requirement]
    label = f"downloading {wheel.what}"
    report(label, 0, wheel.size)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace", dir=folder) as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environment, "TMPDIR": str(temp)},
        )
        arrived, since = 0, time.monotonic()
        try:
            while process.poll() is None:
                here = _largest_file(folder)
                if here - arrived >= LEAST_BYTES:
                    arrived, since = here, time.monotonic()
                elif time.monotonic() - since > _STILL_SECONDS:
                    raise BitnetError(
                        f"The package index sends nearly nothing of {wheel.requirement}; try again, or point pip at "
                        "another index (PIP_INDEX_URL)."
                    )
                if here > wheel.size + _MOST_MORE or rss_bytes(process.pid) > _MOST_MEMORY:
                    raise BitnetError(
                        f"The package index sends more than a {wheel.requirement} can be; "
                        "point pip at another index (PIP_INDEX_URL) and try again."
                    )
                report(label, min(here, wheel.size), wheel.size)
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()  # nothing, if it has ended
            process.wait()
        if process.returncode != 0:
            raise BitnetError(_pip_failure(wheel, log, folder))
    report(label, wheel.size, wheel.size)


def _resume_options(wheel: Wheel, environment: Mapping[str, str]) -> list[str]:
    """pip 25.1 and later resume a broken download. BitnetError if there is no pip."""
    command = python("pip", "--version")
    asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=dict(environment))
    if asked.returncode != 0:
        raise BitnetError(
            f"Python at {sys.executable} has no pip, which downloads {wheel.what}; "
            "run `python -m ensurepip` with it and try again."
        )
    words = asked.stdout.split()
    version = tuple(int(part) for part in words[1].split(".")[:2] if part.isdigit()) if len(words) > 1 else ()
    return ["--resume-retries=20"] if version >= (25, 1) else []


def _largest_file(folder: Path) -> int:
    """In bytes; 0 if there is none. pip removes its folders meanwhile, which `rglob` would not bear."""
    largest = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, Path(place, name).lstat().st_size)
    return largest


def _another(wheel: Wheel) -> str:
    return (
        f"The package index delivered a {wheel.requirement} that is not the pinned one; point pip at another index "
        "(PIP_INDEX_URL) and try again."
    )


def _pip_failure(wheel: Wheel, log: IO[str], folder: Path) -> str:
    """Why pip failed. On a full disk its own words may be lost: the log is there, too."""
    log.seek(0)
    text = log.read()
    errors = [line for line in text.splitlines() if line.startswith("ERROR:")]
    reason = (errors or text.splitlines() or ["no message"])[-1].removeprefix("ERROR:").strip()
    megabytes = f"{wheel.size / 1e6:.0f} MB"
    if any(sign in text for sign in _SPACE_SIGNS) or shutil.disk_usage(folder).free < wheel.size:
        return f"The disk is too full to download {wheel.what} ({megabytes}); free some space and try again."
    way = through("https://pypi.org")
    if any(sign in text.lower() for sign in _NETWORK_SIGNS):
        return (
            f"pip can't download {wheel.what} ({wheel.requirement}, {megabytes}) from the package index{way}: "
            f"go online{',' if wheel.otherwise else ' or'} set a mirror in PIP_INDEX_URL{wheel.otherwise}."
        )
    fix = "check PIP_INDEX_URL, and that this network asks for no login"
    if "no matching distribution" in text.lower():
        return (
            f"pip can't download {wheel.what} ({wheel.requirement}, {megabytes}) from the package index{way}, which "
            f"has no file for this Python or is not a package index: go online, {fix}{wheel.otherwise}."
        )
    if any(sign in text.lower() for sign in _ANOTHER_SIGNS):
        return _another(wheel)
    return f"pip can't download {wheel.what} ({wheel.requirement}): {reason.rstrip('.')}; {fix}."
