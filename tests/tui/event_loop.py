"""Finds what the app does on its event loop that a disk, a network or a keyring can hold up: then keys wait, too.

And lets them hold up its threads.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import textual

import bitnet_core
import bitnet_tui

_AUDITED = {
    "open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.utime",
    "subprocess.Popen", "socket.connect", "socket.getaddrinfo", "sqlite3.connect",
}  # fmt: skip
"""Of what Python tells an audit hook; looking at a path is not among it."""
_LOOKS = ("stat", "lstat", "access", "readlink")
_OWN = tuple(str(Path(str(one.__file__)).parent) for one in (bitnet_core, bitnet_tui, textual, os))
"""Code and stylesheets, which a screen reads when it is first shown, lie in these folders."""
_AFTER = {("app.py", "_fatal_error")}
"""Where no key is waited for: the report of a crash."""
_found: list[str] | None = None
"""What was done while `watched`."""
_HANG_SECONDS = 60.0
_hanging: "tuple[threading.Event, Path | None] | None" = None
"""Until this event, threads wait for each process that they start and, in this folder, for each file."""


def _note(what: str, path: object) -> None:
    if _found is None or asyncio._get_running_loop() is None:
        return
    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)
    if name.startswith(_OWN) or any(own.startswith(name) for own in _OWN):
        return
    callers: list[str] = []
    frame = sys._getframe(2)
    while frame is not None and "/textual/" not in (file := frame.f_code.co_filename):
        if "/tests/" in file or "importlib" in file or (Path(file).name, frame.f_code.co_name) in _AFTER:
            return
        callers.append(f"{Path(file).name}:{frame.f_lineno}")
        frame = frame.f_back
    if frame is not None and callers:
        _found.append(f"{what} {name} ({' < '.join(callers)})")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _found is not None and event in _AUDITED:
        what = arguments[0] if arguments else ""
        _hang(event, what)
        _note(event, what)


def _hang(event: str, what: object) -> None:
    if _hanging is None or threading.current_thread() is threading.main_thread():
        return
    over, folder = _hanging
    is_path = isinstance(what, str | bytes | os.PathLike)
    if event == "subprocess.Popen" or (folder and is_path and folder in Path(os.fsdecode(what)).parents):
        over.wait(_HANG_SECONDS)


@contextmanager
def hanging(folder: Path | None = None) -> Iterator[None]:
    """Meanwhile no thread gets an answer of a process, such as a keyring or a provider, or of a file in `folder`."""
    global _hanging
    before, over = _hanging, threading.Event()
    _hanging = over, folder
    try:
        yield
    finally:
        _hanging = before
        over.set()


sys.addaudithook(_audit)


def _noting(what: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def noting(path: object, *arguments: Any, **options: Any) -> Any:
        _hang(what, path)
        _note(what, path)
        return call(path, *arguments, **options)

    return noting


@contextmanager
def watched() -> Iterator[list[str]]:
    """What the app does meanwhile, in an event loop, that may take long. What tests do themselves does not count."""
    global _found
    calls = {name: getattr(os, name) for name in _LOOKS}
    for name, call in calls.items():
        setattr(os, name, _noting(f"os.{name}", call))
    _found = found = []
    try:
        yield found
    finally:
        _found = None
        for name, call in calls.items():
            setattr(os, name, call)
