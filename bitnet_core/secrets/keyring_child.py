"""The program of the keyring's own process: one request as JSON on stdin, one answer as JSON on stdout.

Run as a script by `keyring_store.py`, so it imports nothing of this package. The backend is chosen by its class,
never by the chainer, which would take any plugin it finds. A locked or missing collection is said, not prompted for.

Every write is a write-ahead: `NAME.next` first, then `NAME`, then `NAME.next` is deleted. Whoever reads finds
`NAME.next` first and finishes what was begun, so a kill at any moment loses neither the old value nor the new one.
A lock lets one process at a time do so; it could undo with an older value what another has just written.
"""

import contextlib
import fcntl
import importlib
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

# Importing `keyring` would otherwise load every plugin there is, some of which prompt.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

_ASKS_ON_THE_DESKTOP = "keyring.backends.SecretService.Keyring"


class Unusable(Exception):
    """`kind` is absent, locked or failed; the message says what was found, never a value."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def chosen(classes: list[str]) -> Any:
    """The first backend of these that works on this machine."""
    found = []
    for path in classes:
        module, _, name = path.rpartition(".")
        try:
            backend = getattr(importlib.import_module(module), name)
            backend.priority  # noqa: B018 - keyring's own test: it raises where the backend can't work
        except Exception as error:  # noqa: BLE001 - backends let out whatever their libraries raise
            found.append(f"{module.rpartition('.')[2]}: {type(error).__name__}")
            continue
        if path == _ASKS_ON_THE_DESKTOP:
            _require_unlocked()
        return backend()
    raise Unusable("absent", ", ".join(found))


def _require_unlocked() -> None:
    """The backend itself would ask on the desktop, and wait for ever for an answer over SSH."""
    import secretstorage
    from secretstorage.collection import get_collection_by_alias

    with contextlib.closing(secretstorage.dbus_init()) as bus:
        try:
            collection = get_collection_by_alias(bus, "default")
        except secretstorage.exceptions.ItemNotFoundException:
            raise Unusable("locked", "it has no default collection yet") from None
        if collection.is_locked():
            raise Unusable("locked", "the default collection is locked")


def read(backend: Any, service: str, name: str) -> str | None:
    coming: str | None = backend.get_password(service, f"{name}.next")
    if coming is None:
        value: str | None = backend.get_password(service, name)
        return value
    backend.set_password(service, name, coming)
    backend.delete_password(service, f"{name}.next")
    return coming


def write(backend: Any, service: str, name: str, value: str) -> None:
    backend.set_password(service, f"{name}.next", value)
    backend.set_password(service, name, value)
    if backend.get_password(service, name) != value:
        raise Unusable("failed", "it did not keep what it was given")
    backend.delete_password(service, f"{name}.next")


def delete(backend: Any, service: str, name: str) -> bool:
    # The coming value first: left alone, it would bring the key back.
    there = [entry for entry in (f"{name}.next", name) if backend.get_password(service, entry) is not None]
    for entry in there:
        backend.delete_password(service, entry)
    return bool(there)


def take_lock(path: str) -> None:
    """Held until this process ends. Where no file can be written, there is none."""
    with contextlib.suppress(OSError):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    service, names = request["service"], request["names"]
    try:
        backend = chosen(request["classes"])
        take_lock(request["lock"])
        if request["action"] == "set":
            write(backend, service, names[0], request["value"])
            return {}
        if request["action"] == "delete":
            return {"found": delete(backend, service, names[0])}
        values = {name: read(backend, service, name) for name in names}
        return {"values": {name: value for name, value in values.items() if value}}
    except Unusable as problem:
        return {"problem": problem.kind, "detail": str(problem)}
    except Exception as error:  # noqa: BLE001 - backends let out whatever their libraries raise
        kind = type(error).__name__
        locked = kind in ("KeyringLocked", "InitError", "LockedException", "PromptDismissedException")
        return {"problem": "locked" if locked else "failed", "detail": kind}


def main() -> None:
    # Whoever asked ends this process after 5 s; killed itself, it can't, and the lock must not be held for ever.
    signal.alarm(10)
    with contextlib.suppress(OSError, ValueError):  # no image of the memory of a process that holds keys
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a backend prints is not the answer.
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with told:
        json.dump(answer(json.load(sys.stdin)), told)


if __name__ == "__main__":
    main()
