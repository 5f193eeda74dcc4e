"""A `bitnet … --json` command in a process of its own, with settings and keys, that another thread may cancel.

Slow, so `run` is called in a thread.
"""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bitnet_core import process
from bitnet_core.errors import BitnetError
from bitnet_core.secrets.find import find_secrets
from bitnet_core.secrets.handover import environment_without_secrets, start_with_secrets
from bitnet_core.text import duration, finite, flat, progress_words
from bitnet_tui.remedies import by_keys
from bitnet_tui.services.settings import overrides, resolved

_WARNING = "bitnet: warning: "
_SILENT_SECONDS = 300.0
"""How long a command that says how far it has come may say nothing."""
_GRACE_SECONDS = 3.0
"""How long a command may take to end when it is interrupted."""
_NICER = 5
"""So that the app's keys are answered while it works."""


class Command:
    """One command. `values` are settings to run it with, `arguments` what follows `bitnet --json`."""

    def __init__(
        self, home: Path, arguments: Sequence[str], values: Mapping[str, str], seconds: float, subject: str
    ) -> None:
        self.home = home
        self.values = dict(values)
        self.arguments = list(arguments)
        self._seconds = seconds
        self._subject = subject
        self._process: subprocess.Popen[str] | None = None
        self.cancelled = False

    def run(self) -> dict[str, Any]:
        """Its answer, the last JSON object that it writes. BitnetError if there is none, or VaultLocked."""
        keys = self.keys()
        with self.started(keys) as child:
            try:
                output, complaint = process.communicate(child, self._seconds)
            except subprocess.TimeoutExpired:
                raise self._late() from None
        return _report(object_of((output.splitlines() or [""])[-1]), complaint, child.returncode, self.worded)

    def run_hearing(self, early: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """As `run`; `early` hears, in this thread, what the command writes with `early` before its answer."""
        complaints: list[str] = []
        answer: dict[str, Any] | None = None
        late = threading.Event()
        with self.started(self.keys()) as child:

            def end() -> None:
                late.set()
                process.kill_group(child.pid)

            limit = threading.Timer(self._seconds, end)
            limit.daemon = True
            limit.start()
            try:
                for said in objects(child, complaints):
                    if said.get("early"):
                        early(said)
                    else:
                        answer = said
                code = child.wait()
            finally:
                limit.cancel()
        if late.is_set():
            raise self._late()
        return _report(answer, "".join(complaints), code, self.worded)

    def _late(self) -> BitnetError:
        return BitnetError(f"{self._subject} gave no complete answer in {duration(self._seconds)}; try again.")

    def keys(self) -> dict[str, str]:
        """The keys that the command gets."""
        return {}

    def worded(self, sentence: str) -> str:
        """A sentence of the command as the app says it."""
        return by_keys(sentence)

    def cancel(self) -> None:
        self.cancelled = True
        if self._process is not None:
            process.kill_group(self._process.pid)

    def interrupt(self) -> None:
        """As Ctrl-C does it, so that it removes what it has half written; if that takes long it is killed."""
        self.cancelled = True
        interrupt(self._process)

    @contextlib.contextmanager
    def started(
        self, keys: Mapping[str, str], more: Sequence[str] = (), pass_fds: Sequence[int] = ()
    ) -> "Iterator[subprocess.Popen[str]]":
        """The process, until the context ends. It inherits the descriptors `pass_fds`."""
        self._process = start(self.home, ["--json", *self.arguments, *more], self.values, keys, pass_fds)
        be_nicer(self._process.pid)
        with self._process as child:
            if self.cancelled:  # while the process was being started
                process.kill_group(child.pid)
            yield child


class Followed(Command):
    """A command that says how far it has come. It may take as long as it likes, if only it is not silent."""

    def followed(self, show: Callable[[str], object]) -> tuple[list[dict[str, Any]], str, int]:
        """Run it; `show` hears its progress, in this thread. Its answers, its last complaint, and its exit code."""
        answers: list[dict[str, Any]] = []
        complaints: list[str] = []
        heard, ended = threading.Event(), threading.Event()

        def end_silence(pid: int) -> None:
            while heard.wait(_SILENT_SECONDS) and not ended.is_set():
                heard.clear()
                ended.wait(1.0)
            if not ended.is_set():
                show(f"It said nothing for {duration(_SILENT_SECONDS)}, so it was ended.")
                process.kill_group(pid)

        with self.started(self.keys()) as child, contextlib.ExitStack() as stack:
            stack.callback(heard.set)
            stack.callback(ended.set)
            threading.Thread(target=end_silence, args=(child.pid,), daemon=True).start()
            for said in objects(child, complaints):
                heard.set()
                if said.get("kind") == "progress":
                    words = progress_words(finite(said.get("done")) or 0.0, finite(said.get("total")), "bytes")
                    show(f"{words}, {flat(str(said.get('label', '')))}")
                else:
                    answers.append(said)
            code = child.wait()
        return answers, last_sentence("".join(complaints)), code


def start(
    home: Path,
    arguments: Sequence[str],
    values: Mapping[str, str],
    keys: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    given: int = subprocess.DEVNULL,
    output: int | IO[bytes] = subprocess.PIPE,
) -> "subprocess.Popen[str]":
    """Start `bitnet` with these arguments, settings and keys. What it writes goes to pipes, or to `output`.

    With `given=subprocess.PIPE` it reads from a pipe, too.
    """
    command = process.python("bitnet_core", *arguments)
    for name, value in overrides(home, values).items():
        command += ["--set", f"{name}={value}"]
    environment = environment_without_secrets(keys.values())
    return start_with_secrets(command, keys, environment, output, pass_fds, given)


def interrupt(child: "subprocess.Popen[str] | None") -> None:
    """End a process as Ctrl-C does; if that takes long it is killed."""
    if child is None or child.poll() is not None:
        return

    def kill() -> None:
        if child.poll() is None:
            process.kill_group(child.pid)

    process.interrupt_group(child.pid)
    late = threading.Timer(_GRACE_SECONDS, kill)
    late.daemon = True
    late.start()


def objects(child: "subprocess.Popen[str]", complaints: list[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects that a process writes, a line each.

    What it writes to stderr is read meanwhile, so that it never waits for a reader. After the last object,
    `complaints` holds those lines.
    """
    reader = threading.Thread(target=complaints.extend, args=(process.pipe_of(child.stderr),), daemon=True)
    reader.start()
    for line in process.pipe_of(child.stdout):
        found = object_of(line)
        if found is not None:
            yield found
    reader.join(1)  # a process that the child has left behind may hold the pipe


def be_nicer(pid: int) -> None:
    """Let a process give way to the app."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICER)


def find_keys(
    home: Path, names: Collection[str], values: Mapping[str, str], typed: Mapping[str, str]
) -> dict[str, str]:
    """The keys of these names: those that were typed, and for the others those that are kept."""
    missing = [name for name in names if not typed.get(name)]
    found = find_secrets(missing, resolved(home, values=values)) if missing else {}
    return {name: one.value for name, one in found.items()} | {name: typed[name] for name in names if typed.get(name)}


def _report(
    answer: dict[str, Any] | None, complaint: str, exit_code: int, worded: Callable[[str], str]
) -> dict[str, Any]:
    """The answer with its warnings; if there is none, BitnetError with the command's own sentence."""
    if answer is None:
        raise BitnetError(
            last_sentence(complaint, worded)
            or f"It failed without an error message (exit code {exit_code}); try again."
        )
    warnings = [one for one in complaint.splitlines() if one.startswith(_WARNING)]
    return answer | {"warnings": [worded(one.removeprefix(_WARNING)) for one in warnings]}


def object_of(line: str) -> dict[str, Any] | None:
    """The JSON object of a line; None if it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def last_sentence(complaint: str, worded: Callable[[str], str] = by_keys) -> str:
    """The error that a command ended with, on its stderr; empty if there is none."""
    sentences = [line.removeprefix("bitnet: ") for line in complaint.splitlines() if line.startswith("bitnet: ")]
    return worded(sentences[-1]) if sentences else ""
