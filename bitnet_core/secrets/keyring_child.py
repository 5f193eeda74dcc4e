"""The program of the process that uses the keyring: a request as JSON on stdin, an answer as JSON on stdout.

`keyring_store.py` runs it as a script, so it imports nothing from this package. It loads a backend by its class
instead of keyring's chainer, which would use any plugin. It reports a locked or missing collection and never prompts.

Every write is a write-ahead: set `NAME.next`, set `NAME`, delete `NAME.next`. A read that finds `NAME.next` completes
the write first, so a kill at any moment loses neither the old value nor the new one. Only one process at a time holds
the lock: otherwise a read could complete an older write over a newer one.
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

# Without this, importing `keyring` loads every installed plugin, and some of them prompt.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

_ASKS_ON_THE_DESKTOP = "keyring.backends.SecretService.Keyring"


class Unusable(Exception):
    """`kind` is absent, locked or failed; the message never contains a value."""

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
            backend.priority  # noqa: B018 - keyring's own test: raises if the backend can't work here
        except Exception as error:  # noqa: BLE001 - backends raise whatever their libraries do
            found.append(f"{module.rpartition('.')[2]}: {type(error).__name__}")
            continue
        if path == _ASKS_ON_THE_DESKTOP:
            _require_unlocked()
        return backend()
    raise Unusable("absent", ", ".join(found))


def _require_unlocked() -> None:
    """Otherwise the backend asks on the desktop, and over SSH it waits for an answer forever."""
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
    pending: str | None = backend.get_password(service, f"{name}.next")
    if pending is None:
        value: str | None = backend.get_password(service, name)
        return value
    backend.set_password(service, name, pending)
    backend.delete_password(service, f"{name}.next")
    return pending


def write(backend: Any, service: str, name: str, value: str) -> None:
    backend.set_password(service, f"{name}.next", value)
    backend.set_password(service, name, value)
    if backend.get_password(service, name) != value:
        raise Unusable("failed", "it did not keep the value")
    backend.delete_password(service, f"{name}.next")


def delete(backend: Any, service: str, name: str) -> bool:
    # `NAME.next` first: left behind, it would restore the key.
    entries = [entry for entry in (f"{name}.next", name) if backend.get_password(service, entry) is not None]
    for entry in entries:
        backend.delete_password(service, entry)
    return bool(entries)


def take_lock(path: str) -> None:
    """Lock until this process ends. Where no file can be written there is no lock."""
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
    except Exception as error:  # noqa: BLE001 - backends raise whatever their libraries do
        kind = type(error).__name__
        locked = kind in ("KeyringLocked", "InitError", "LockedException", "PromptDismissedException")
        return {"problem": "locked" if locked else "failed", "detail": kind}


def main() -> None:
    # The caller kills this process after 5 s. If the caller was killed itself, the lock must still be released.
    signal.alarm(10)
    with contextlib.suppress(OSError, ValueError):  # a process that has keys leaves no image of its memory
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a backend prints must not get into the answer.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with output:
        json.dump(answer(json.load(sys.stdin)), output)


if __name__ == "__main__":
    main()
