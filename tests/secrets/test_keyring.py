"""The keyring's process: values, time limit, refused backends; and the order in which places are read."""

import json
import time
from pathlib import Path

import pytest

from bitnet_core import process
from bitnet_core.errors import BitnetError
from bitnet_core.secrets import keyring_store
from bitnet_core.secrets.find import FoundSecret, find_secrets
from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable
from bitnet_core.secrets.places import KeyPlaces
from bitnet_core.settings.resolve import resolve

FAKE_KEYRING = """
import json, os, pathlib, subprocess, time
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked
STORE = pathlib.Path(os.environ["FAKE_KEYRING_STORE"])
class Keyring(KeyringBackend):
    priority = 9
    def _all(self):
        if os.environ.get("FAKE_KEYRING") == "hang":
            helper = subprocess.Popen(["sleep", "60"])
            STORE.with_name("helper.pid").write_text(str(helper.pid))
            time.sleep(60)
        if os.environ.get("FAKE_KEYRING") == "locked": raise KeyringLocked("locked")
        return json.loads(STORE.read_text()) if STORE.exists() else {}
    def get_password(self, service, name): return self._all().get(f"{service}/{name}")
    def set_password(self, service, name, value):
        STORE.write_text(json.dumps(self._all() | {f"{service}/{name}": value}))
    def delete_password(self, service, name):
        kept = self._all(); kept.pop(f"{service}/{name}"); STORE.write_text(json.dumps(kept))
"""


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A test backend, loaded by the real `keyring` package in the real child process."""
    (tmp_path / "fake_keyring.py").write_text(FAKE_KEYRING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("BITNET_KEYRING", "fake_keyring.Keyring")
    monkeypatch.setenv("FAKE_KEYRING_STORE", str(tmp_path / "store.json"))
    return tmp_path / "store.json"


def _fake() -> Keyring:
    return Keyring("fake_keyring.Keyring")


def test_a_key_comes_back_from_the_keyring(keyring: Path) -> None:
    assert _fake().read(["OPENAI_API_KEY"]) == {}
    _fake().set("OPENAI_API_KEY", "sk-ünï\ncode")
    assert json.loads(keyring.read_text()) == {"bitnet-tui/OPENAI_API_KEY": "sk-ünï\ncode"}
    assert _fake().read(["OPENAI_API_KEY", "GROQ_API_KEY"]) == {"OPENAI_API_KEY": "sk-ünï\ncode"}
    assert _fake().delete("OPENAI_API_KEY")
    assert not _fake().delete("OPENAI_API_KEY")
    assert _fake().read(["OPENAI_API_KEY"]) == {}


def test_a_locked_keyring_is_a_sentence_without_the_value(keyring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KEYRING", "locked")
    places = KeyPlaces.of(resolve().settings)
    with pytest.raises(BitnetError, match="the OS keyring is locked") as caught:
        places.keep("OPENAI_API_KEY", "sk-canary-1")
    assert "sk-canary-1" not in str(caught.value)
    assert not places.vault.exists()


def test_a_hanging_keyring_is_killed_with_what_it_started(
    keyring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEYRING", "hang")
    monkeypatch.setattr(keyring_store, "SECONDS", 1.5)
    with pytest.raises(KeyringUnusable, match="gave no answer"):
        _fake().read(["OPENAI_API_KEY"])
    helper = int((tmp_path / "helper.pid").read_text())
    for _ in range(500):  # a killed process ends when it is scheduled
        if process.identify(helper) is None:
            break
        time.sleep(0.01)
    assert process.identify(helper) is None


@pytest.mark.parametrize(
    "backend", ["chainer", "keyring.backends.chainer.ChainerBackend", "keyrings.alt.file.PlaintextKeyring", "pass"]
)
def test_a_backend_that_keeps_plain_text_or_uses_any_plugin_is_refused(backend: str) -> None:
    with pytest.raises(BitnetError, match="is not a keyring that keeps keys safe"):
        Keyring(backend).read(["OPENAI_API_KEY"])


def test_a_file_called_keyring_in_the_working_folder_is_not_the_keyring(keyring: Path) -> None:
    Path("keyring.py").write_text("raise SystemExit('hijacked')")
    assert _fake().read(["OPENAI_API_KEY"]) == {}


@pytest.mark.parametrize(
    ("environment", "in_keyring", "in_file", "value", "origin"),
    [
        (True, True, True, "from-env", "environment"),
        (False, True, True, "from-ring", "keyring"),
        (False, False, True, "from-file", ".env line 1 (plain text)"),
        (True, False, False, "from-env", "environment"),
    ],
)
def test_read_order(
    keyring: Path, tmp_path: Path, environment: bool, in_keyring: bool, in_file: bool, value: str, origin: str
) -> None:
    if in_keyring:
        _fake().set("OPENAI_API_KEY", "from-ring")
    if in_file:
        (tmp_path / ".env").write_text("OPENAI_API_KEY=from-file\n")
    environ = {"BITNET_KEYRING": "fake_keyring.Keyring"}
    environ |= {"OPENAI_API_KEY": "from-env"} if environment else {}
    found = find_secrets(["OPENAI_API_KEY", "GROQ_API_KEY"], resolve(environ=environ, cwd=tmp_path))
    assert found == {"OPENAI_API_KEY": FoundSecret(value, origin)}
