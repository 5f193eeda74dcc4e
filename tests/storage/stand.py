"""A stand is a server, or a fake of one, that a target is tested against; `stands/` has one file for each."""

import contextlib
import importlib
import pkgutil
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import resolve
from bitnet_core.settings.resolved import Settings
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.opening import open_target
from bitnet_core.storage.target import OBJECT_BYTES, Target
from tests.storage import stands
from tests.storage.tls_proxy import Proxy


@dataclass(frozen=True)
class Running:
    """A running stand: the settings and keys of a user of it, and those that make it refuse or not be found."""

    settings: Mapping[str, str]
    keys: Mapping[str, str] = field(default_factory=dict)
    wrong_keys: Mapping[str, str] = field(default_factory=dict)
    """Keys with which the server refuses; empty if it takes everybody."""
    dead: Mapping[str, str] = field(default_factory=dict)
    """Settings that lead to a port where nothing listens; empty where there is no such setting. May be keys too."""
    port: int = 0
    """The server's port on loopback, for a proxy in front of it; 0 = none."""
    through: Callable[[int], Mapping[str, str]] | None = None
    """The settings of a user who reaches it through a proxy on this port. May be keys too."""
    nowhere: Mapping[str, str] = field(default_factory=dict)
    """Settings that lead to a place that can't be used: a folder below a file, a missing bucket. May be keys too."""
    overwrite: Callable[[bytes, bytes], int] | None = None
    """Put other bytes in the place of those of an object, behind the target's back; how many objects had them."""
    page: int = 0
    """The most objects that one reply to a listing has; 0 = it has them all, or another stand's are the same."""
    most_bytes: int = OBJECT_BYTES
    """Of the largest object that it stores in a second."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of its user's environment, such as the way to a fake that stands in for a vendor's hosts."""


@dataclass(frozen=True)
class Stand:
    """How to start one. `missing` says what has to be installed; empty if nothing."""

    name: str
    start: Callable[[Path], AbstractContextManager[Running]]
    missing: Callable[[], str] = str
    races: bool = True
    """Whether put-if-absent has one winner among many writers; some servers ignore conditions."""


def behind_a_proxy(
    proxy: Proxy, settings: Mapping[str, str], keys: Mapping[str, str], wrong_keys: Mapping[str, str], page: int
) -> Running:
    """A fake of a vendor's hosts, reached through its proxy."""
    return Running(
        settings,
        keys,
        wrong_keys,
        port=proxy.port,
        through=proxy.through,
        environment=proxy.environment(),
        page=page,
    )


def all_stands() -> list[Stand]:
    """Every stand, found by walking `stands/`."""
    modules = [
        importlib.import_module(f"{stands.__name__}.{one.name}") for one in pkgutil.iter_modules(stands.__path__)
    ]
    return [stand for module in modules for stand in module.STANDS]


def webdav() -> str:
    """The name of the first WebDAV stand that can be started: Apache is no Python package."""
    names = [one.name for one in all_stands() if one.name.startswith("webdav-") and not one.missing()]
    return next(iter(names), "webdav-apache")


def settings_of(given: Mapping[str, str], folder: Path) -> Settings:
    return resolve(dict(given), environ={}, cwd=folder, root=folder).checked()


@contextlib.contextmanager
def opened(
    running: Running, folder: Path, settings: Mapping[str, str] | None = None, keys: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """The stand's target as `open_target` opens it, with some other settings or other keys."""
    given = {**running.settings, **(running.keys if keys is None else keys), **(settings or {})}
    secret = {name: given.pop(name) for name in [*given] if REGISTRY[name].secret}
    with open_target(settings_of(given, folder), Keys(secret)) as target:
        yield target


def overwriting(folder: Path, stored_size: Callable[[int], int] | None = None) -> Callable[[bytes, bytes], int]:
    """`Running.overwrite` for objects that are files below a folder; with `stored_size`, those of that size."""

    def overwrite(old: bytes, new: bytes) -> int:
        size = stored_size(len(old)) if stored_size else len(old)
        found = [
            path
            for path in folder.rglob("*")
            if path.is_file() and path.stat().st_size == size and (stored_size or path.read_bytes() == old)
        ]
        for path in found:
            path.write_bytes(new)
        return len(found)

    return overwrite


def below_a_file(folder: Path) -> Path:
    """A folder that nobody can make, as what is above it is a file."""
    (folder / "a file").touch()
    return folder / "a file" / "folder"


# Below the range that the kernel takes outgoing connections from: a port of that range may be taken by any request
# between its choice and its server's start.
_PORTS = range(10_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on, and that no other call in this process was given."""
    for port in random.SystemRandom().sample(_PORTS, k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port not in _given:
                probe.bind(("127.0.0.1", port))
                _given.add(port)
                return port
    raise AssertionError(f"no port is free between {_PORTS.start} and {_PORTS.stop}")


@contextlib.contextmanager
def server(
    command: list[str], port: int, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the context ends; entered when its port answers. Its output is in `server.log`."""
    log = folder / "server.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            command, cwd=folder, env=dict(environment) if environment is not None else None,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
