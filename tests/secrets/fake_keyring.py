"""A keyring in memory. Tests of the real one's process are in test_keyring.py and test_gnome_keyring.py."""

from collections.abc import Iterable

import pytest

from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable


class FakeKeyring:
    """In memory; `state` is `ready` or what is wrong with it. Records every call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: dict[str, str] = {}
        self.state = "ready"
        self.asked: list[str] = []
        monkeypatch.setattr(Keyring, "set", lambda _, name, value: self._open("set").__setitem__(name, value))
        monkeypatch.setattr(Keyring, "delete", lambda _, name: self._open("delete").pop(name, None) is not None)
        monkeypatch.setattr(Keyring, "read", lambda _, names: self._read(names))

    def _open(self, what: str) -> dict[str, str]:
        self.asked.append(what)
        if self.state != "ready":
            raise KeyringUnusable(self.state)
        return self.held

    def _read(self, names: Iterable[str]) -> dict[str, str]:
        held = self._open("read")
        return {name: held[name] for name in names if name in held}
