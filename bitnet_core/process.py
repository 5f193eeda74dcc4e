"""Processes: their identity, their memory, and helpers that answer through a pipe.

Knows nothing of stages or secrets.
"""

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from bitnet_core.errors import BitnetError

PATIENT_THREADS = {"GOMP_SPINCOUNT": "1000"}
"""Environment of processes that compute with OpenMP: threads spin briefly at a barrier, then sleep.

By default they spin for milliseconds. When another program uses a core, the waiting threads take the time that the
last thread needs, and training runs at a twentieth of its speed. On an idle machine a thousand spins cost nothing,
and sleeping at once (`OMP_WAIT_POLICY=passive`) halves the speed of the embedded teacher.
"""
_STATUS = Path("/proc/self/status")
_SESSION_PRIORITY = Path("/proc/self/autogroup")
_SESSION_TRIES = 20
_NAMESPACE = Path("/proc/self/ns/pid")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_VM_COUNTERS = Path("/proc/vmstat")
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file "),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
)
"""Of a cgroup of version 2 and 1: its limit, its use, and what of it in `memory.stat` gives way to an allocation."""
_STACK_BYTES = 8 << 20
"""Of a thread, where its size has no limit."""
_LOG_END_BYTES = 1 << 16
_SILENCE_SECONDS, _LOOK_SECONDS = 600.0, 0.5
"""How long a helper may say nothing, and how often it is looked whether to stop. Reading gigabytes from a slow disk
takes minutes; helpers tell after each token or answer that they are alive."""


@dataclass(frozen=True)
class ProcessIdentity:
    """Identifies one process for ever; a pid may be reused.

    `start` is in clock ticks since boot on Linux, in seconds since 1970 elsewhere.
    """

    pid: int
    start: float
    boot_id: str
    host: str


@cache
def boot_id() -> str:
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip()
    import psutil

    try:
        return f"boot-{int(psutil.boot_time())}"
    except OSError:  # a /proc with processes alone
        return "boot-unknown"


def namespace() -> str:
    """That of the pids here: containers of one host, which may share its name, don't see each other's processes."""
    try:
        return str(_NAMESPACE.readlink())
    except OSError:  # not Linux
        return ""


def uptime() -> float:
    """Seconds since boot, the same for every process; setting the wall clock does not change it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the live process `pid`; None when it is gone or a zombie."""
    start = _start_time(pid)
    return None if start is None else ProcessIdentity(pid, start, boot_id(), socket.gethostname())


def current() -> ProcessIdentity:
    """BitnetError on Linux without /proc, where no process can be told from a later one of the same pid."""
    me = identify(os.getpid())
    if me is None:
        raise BitnetError("/proc is not mounted, so a running stage can't be recognised; mount it.")
    return me


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether the process still runs on this host. Always False for processes of other hosts."""
    return identity.boot_id == boot_id() and _start_time(identity.pid) == identity.start


def owner(pid: int) -> str:
    """The name of the user whose process it is."""
    import psutil

    try:
        return str(psutil.Process(pid).username())
    except psutil.Error:
        return "another user"


def rss_bytes(pid: int | None = None) -> int:
    """Resident memory of a process, this one by default; 0 when it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def peak_rss_bytes() -> int:
    """The most memory that was resident in this process since it started.

    On Linux this is VmHWM: unlike ru_maxrss it starts anew with exec, so it never shows the peak of the parent.
    """
    if peak := _of_status("VmHWM"):
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _of_status(name: str) -> int:
    """Bytes that Linux tells of this process under that name; 0 elsewhere."""
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def limit_growth(extra: int, connections: int) -> None:
    """Let this process open `connections` more files, each with a thread, and grow by `extra` bytes.

    It may always grow to twice its size. What exceeds it fails to be allocated. Memory is bounded on Linux alone.
    """
    used = len(list(Path("/dev/fd").iterdir())) - 1  # one is the folder's own
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = used + connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (files if hard == resource.RLIM_INFINITY else min(files, hard), hard))
    if data := _of_status("VmData"):
        stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
        stacks = connections * (_STACK_BYTES if stack == resource.RLIM_INFINITY else stack)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = data + max(extra, data) + stacks
        resource.setrlimit(
            resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
        )


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python, which then imports nothing from the working folder.

    A `random.py` of the user there would run in every stage, in the place of Python's own. Only in a checkout of ours
    modules are found there: the package may not be installed.
    """
    return [sys.executable, *([] if _in_checkout() else ["-P"]), "-m", module, *arguments]


def _in_checkout() -> bool:
    with contextlib.suppress(OSError):
        return Path.cwd() == Path(__file__).resolve().parents[1]
    return False


def start_helper(
    module: str, job: object, log: IO[str], environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start `python -m module` and write `job` to its stdin as one JSON line; it answers in lines on stdout.

    Its stderr goes to `log`. It stays in our session and process group: what kills us as a group kills it too.
    """
    command, pipe = python(module), subprocess.PIPE
    helper = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment)
    # If the helper has already died, the caller notices by its exit.
    with contextlib.suppress(BrokenPipeError):
        pipe_of(helper.stdin).write(json.dumps(job) + "\n")
        pipe_of(helper.stdin).flush()
    return helper


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Collect no garbage during an import: what is imported stays, and collecting takes a sixth of the time."""
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looks:
            gc.enable()


@contextlib.contextmanager
def parents_pipe() -> Iterator[IO[str]]:
    """In a helper: its stdout, for lines to the parent alone. What libraries print there goes to stderr."""
    with os.fdopen(os.dup(1), "w") as parent:
        os.dup2(2, 1)
        yield parent


def say_alive(parent: IO[str]) -> None:
    """In a helper: a blank line, so that `lines_of` does not give it up."""
    parent.write("\n")
    parent.flush()


def pipe_of(stream: IO[str] | None) -> IO[str]:
    """The pipe, which `Popen` types as optional. AssertionError if the process was started without it."""
    if stream is None:
        raise AssertionError("the process was started without this pipe")
    return stream


def gives(pipe: int, seconds: float | None) -> bool:
    """Whether the pipe gives bytes, or its end, within this time; None waits for ever.

    `select.select` would refuse descriptors from 1,024 on.
    """
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    return bool(waiting.poll(None if seconds is None else seconds * 1000))


def lines_of(
    child: "subprocess.Popen[str]", who: str, check_stop: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """What a helper writes to stdout, line by line, until it ends; `check_stop` is called meanwhile and may raise.

    BitnetError, which names it as `who`, if it says nothing for ten minutes.
    """
    pipe, rest = pipe_of(child.stdout).fileno(), b""
    while True:
        waited = 0.0  # counted, not timed: while Ctrl-Z stops the whole job, the helper is not at fault
        while not gives(pipe, _LOOK_SECONDS):
            check_stop()
            waited += _LOOK_SECONDS
            if waited >= _SILENCE_SECONDS:
                raise BitnetError(
                    f"{who} gave no sign of life for {_SILENCE_SECONDS:.0f} s; close other programs and try again."
                )
        data = os.read(pipe, _LOG_END_BYTES)
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
        if not data:
            if rest:
                yield rest.decode(errors="replace")
            return


def last_line(log: IO[str]) -> str:
    """The last line in a log that is not blank, or an empty text."""
    return next(reversed(last_lines(log)), "")


def last_lines(log: IO[str]) -> list[str]:
    """The lines at the end of a log that are not blank. No more is read: it may be of any length."""
    file = log.fileno()
    end = os.pread(file, _LOG_END_BYTES, max(0, os.fstat(file).st_size - _LOG_END_BYTES)).decode(errors="replace")
    return [line.strip() for line in end.splitlines() if line.strip()]


def communicate(child: "subprocess.Popen[str]", seconds: float, request: str | None = None) -> tuple[str, str]:
    """Wait for a child that leads its own session; return what it wrote to stdout and stderr.

    When the time is up (`subprocess.TimeoutExpired`) or anything else goes wrong, its whole group is killed.
    """
    try:
        return child.communicate(request, timeout=seconds)
    except BaseException:
        kill_group(child.pid)
        raise


def let_others_go_first(niceness: int) -> None:
    """Lower the priority of this process by a nice value, and that of its session if it has one of its own.

    Linux shares the processors out among sessions first, unless they are in cgroups that have shares. Within its own
    session a nice value changes nothing for those of others (man 7 sched, "The autogroup feature").
    """
    with contextlib.suppress(OSError):
        os.nice(niceness)
    if os.getsid(0) != os.getpid():
        return
    for _ in range(_SESSION_TRIES):
        try:
            _SESSION_PRIORITY.write_text(str(niceness))
        except BlockingIOError:  # one change every tenth of a second is allowed, for all processes together
            time.sleep(0.1)
        except OSError:  # a system without them
            return
        else:
            return


def kill_group(pid: int) -> None:
    """Kill the process group that `pid` leads: a helper and everything that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def interrupt_group(pid: int) -> None:
    """Send SIGINT to the process group that `pid` leads, as Ctrl-C in a terminal does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGINT)


def _start_time(pid: int) -> float | None:
    if Path("/proc/self/stat").exists():
        try:
            # The command name may contain spaces and brackets; the fields after its last ")" don't.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def available_bytes() -> int:
    """What can be allocated without swapping: the machine's free memory, or what the container may still use."""
    return memory()[0]


def memory() -> tuple[int, int]:
    """`available_bytes`, and the memory of the machine, or what the container may use of it."""
    import psutil

    try:
        machine = psutil.virtual_memory()
        available, total = int(machine.available), int(machine.total)
    except OSError:  # no /proc, or one with processes alone
        page = os.sysconf("SC_PAGE_SIZE")
        available, total = os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
    limits = list(_memory_limits())
    free = min([available, *(limit - used for limit, used in limits)])
    return max(0, free), min([total, *(limit for limit, _ in limits)])


def oom_kills() -> int | None:
    """How many processes the system has killed for lack of memory since the boot, if it says so."""
    return _number_in(_VM_COUNTERS, "oom_kill ")


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Limit and use, in bytes, of each cgroup that holds this process and has a limit.

    File pages that give way to an allocation don't count as used.
    """
    for group in dict.fromkeys(_groups()):
        for limit_in, used_in, pages in _MEMORY_FILES:
            limit = _number_in(group / limit_in)
            if limit is not None and (used := _number_in(group / used_in)) is not None:
                yield limit, used - (_number_in(group / "memory.stat", pages) or 0)


def _groups() -> Iterator[Path]:
    """The cgroups that this process may be in, the whole container's first; some may not be there."""
    yield _CGROUP
    with contextlib.suppress(OSError, ValueError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            base = _CGROUP / "memory" if controllers else _CGROUP
            group = base / path.lstrip("/")
            yield from (one for one in (group, *group.parents) if one.is_relative_to(base))


def _number_in(path: Path, before: str = "") -> int | None:
    """The number that is the file's line, or that follows `before` in its line; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            if line.startswith(before) and line[len(before) :].isdecimal():
                return int(line[len(before) :])
    return None
