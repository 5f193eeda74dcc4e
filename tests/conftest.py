"""Isolates every test: its own HOME, cache, working folder, environment and keyring, and no outside network."""

import gc
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from bitnet_core import process
from bitnet_core.process import PATIENT_THREADS, peak_rss_bytes
from bitnet_core.secrets import known, places, vault
from bitnet_core.settings.registry import REGISTRY
from tests.fuzzing import BY_HAND, MOST_BYTES

pytest_plugins = ["tests.rewriting", "tests.teacher_fixtures"]

# What is made while tests are collected stays; each worker would look it through for two seconds, and free nothing.
gc.disable()

# Several workers compute at once; before torch starts its threads.
os.environ.update(PATIENT_THREADS)

# A slow test on a busy machine is not a failure.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name packed bytes after their argument: they may hold the time, and every worker must find the same tests."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: at the end one worker would be left with them."""
    items.sort(key=lambda item: not {"e2e", "stages", "storage", "traces", "training", "tui"} & set(item.path.parts))


def pytest_collection_finish() -> None:
    """What is imported stays: a garbage collection that walks it, a tenth of a second each, finds nothing.

    The app's tests make objects by the million, which took a quarter of their time at the usual threshold.
    """
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """What a file's tests left in cycles may hold files and sockets open. What remains is not looked at again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def not_waiting_for_the_disk() -> Iterator[None]:
    """No test cuts the power: what the kernel has is kept, and tests waited for the disk one minute in twenty.

    A descriptor that can't be synchronised still fails. Processes that a test starts wait as ever.
    """
    really = os.fsync

    def checked(file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            really(descriptor)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", checked)
        yield


@pytest.fixture(autouse=True)
def bounded_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if BY_HAND and request.node.get_closest_marker("fuzz"):
        assert peak_rss_bytes() < MOST_BYTES


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the test's HOME. `BITNET_KEYRING=none` keeps the OS keyring of this machine out; a vault opens fast."""
    home = tmp_path_factory.mktemp("home")
    for name in REGISTRY.keys() & os.environ.keys():
        monkeypatch.delenv(name)
    monkeypatch.setattr(known, "_values", set())
    monkeypatch.setattr(places, "_open_vaults", {})
    monkeypatch.setattr(vault, "COST", 2)
    monkeypatch.setenv("HOME", str(home))
    for name, folder in {
        "CACHE": ".cache",
        "CONFIG": ".config",
        "DATA": ".local/share",
        "STATE": ".local/state",
    }.items():
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / folder))
    monkeypatch.setenv("BITNET_KEYRING", "none")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    # An upload that a test runs in this process would leave the worker behind all others.
    monkeypatch.setattr(process, "let_others_go_first", lambda _: None)
    monkeypatch.chdir(home)
    yield home
