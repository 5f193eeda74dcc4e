"""The playground's two models, each in a process `bitnet answer` that lives as long as its screen.

The processes end with their stdin, which the system closes even if the app is killed. `look` and `keys` are slow.
"""

import contextlib
import json
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bitnet_core.errors import BitnetError
from bitnet_core.process import kill_group, pipe_of
from bitnet_core.runs.experiment import Experiment
from bitnet_core.secrets.find import find_secrets
from bitnet_core.settings.values import EvalOptions, TeacherOptions
from bitnet_core.teachers.profiles import profile
from bitnet_tui import key_names
from bitnet_tui.services.commands import be_nicer, last_sentence, start
from bitnet_tui.services.settings import resolved

Who = Literal["teacher", "student"]
_EXAMPLES = (
    "How do I make a cup of tea?",
    "Write a Python function that multiplies two numbers.",
    "Give three tips for writing a clear email.",
    "Compare a bus and a tram in two points.",
    "Why do ships float?",
)
"""Five that the baseline asks, of different kinds. The embedded teacher has a sensible answer to each."""
_LAST_LINES = 20
_NO_STUDENT = "There is no student yet: training saves the first one."


@dataclass(frozen=True)
class Found:
    """What a playground starts with. `problems` says for each side why it can't be opened."""

    temperature: float
    length: int
    seed: int
    problems: Mapping[Who, str]
    examples: tuple[str, ...]


def look(home: Path, root: Path) -> Found:
    """The settings of the experiment, and whether it has a student. BitnetError for wrong settings."""
    settings = resolved(home, root).checked()
    options = EvalOptions.of(settings)
    has_student = any(Experiment.from_settings(settings).checkpoints.glob("*.pt"))
    problems: dict[Who, str] = {} if has_student else {"student": _NO_STUDENT}
    sampling = options.sampling
    return Found(sampling.temperature, sampling.max_tokens, options.seed, problems, _EXAMPLES)


def keys(home: Path, root: Path) -> dict[str, str]:
    """The keys that the teacher may need. BitnetError if it needs one and there is none, or VaultLocked."""
    resolution = resolved(home, root)
    provider = profile(TeacherOptions.of(resolution.checked()).chosen)
    names = provider.key_settings(own=True)
    found = {name: one.value for name, one in find_secrets(names, resolution).items()} if names else {}
    if provider.needs_key and not found:
        raise BitnetError(
            f"There is no key for {provider.label}; press {key_names.key('app.keys')} to enter one, then ask."
        )
    return found


class Model:
    """One side's process, started and fed by a thread. Nothing here waits: what happens is told by `take`."""

    def __init__(self, home: Path, root: Path, who: Who, keys: Mapping[str, str]) -> None:
        self._arguments: tuple[Path, list[str], dict[str, str], Mapping[str, str]]
        self._arguments = (home, ["--root", str(root), "answer", who], {}, keys if who == "teacher" else {})
        self._events: deque[dict[str, Any]] = deque()
        self._requests: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._lock = threading.Lock()
        _in_thread(self._run)

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request; if the process is gone, its end is among the events."""
        self._requests.put(request)

    def take(self) -> list[dict[str, Any]]:
        """The events since the last call. The last of all has the name "gone", and the reason."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def close(self) -> None:
        """End it now, with all that it has started."""
        with self._lock:
            self._closed = True
            if self._process is not None and self._process.poll() is None:
                kill_group(self._process.pid)
        self._requests.put(None)

    def _run(self) -> None:
        try:
            process = start(*self._arguments, given=subprocess.PIPE)
        except OSError as error:
            self._tell_end(f"No process can be started: {error.strerror}; end other programs.")
            return
        with self._lock:
            self._process = process
            if self._closed:
                kill_group(process.pid)
        be_nicer(process.pid)
        _in_thread(partial(self._listen, process))
        given = pipe_of(process.stdin)
        with contextlib.suppress(OSError, ValueError):  # it is gone; `_listen` tells why
            while (request := self._requests.get()) is not None:
                given.write(json.dumps(request) + "\n")
                given.flush()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        complaints: deque[str] = deque(maxlen=_LAST_LINES)
        complaining = _in_thread(partial(self._listen_to_complaints, process, complaints))
        with process:
            for line in pipe_of(process.stdout):
                with contextlib.suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        self._events.append(event)
            complaining.join()
            with contextlib.suppress(OSError):
                pipe_of(process.stdin).close()
            process.wait()
        self._requests.put(None)
        self._tell_end(last_sentence("\n".join(complaints)) or "It ended without an error message; free some memory.")

    def _listen_to_complaints(self, process: "subprocess.Popen[str]", complaints: deque[str]) -> None:
        for line in pipe_of(process.stderr):
            complaints.append(line)
            if sentence := last_sentence(line):
                self._events.append({"event": "note", "text": sentence})

    def _tell_end(self, why: str) -> None:
        self._events.append({"event": "gone", "problem": why})


def _in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
