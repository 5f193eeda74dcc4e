"""Secrets: read order, the keyring's time limit, redaction, and what a stage's environment holds."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from bitnet_core import process, secrets
from bitnet_core.errors import BitnetError
from bitnet_core.secrets import KeyPlaces, handover, keyring_store, known
from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable
from bitnet_core.settings.resolve import resolve
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers import stage_keys

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
    """A keyring backend of the test's own, loaded by the real `keyring` package in the real child process."""
    (tmp_path / "fake_keyring.py").write_text(FAKE_KEYRING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("BITNET_KEYRING", "fake_keyring.Keyring")
    monkeypatch.setenv("FAKE_KEYRING_STORE", str(tmp_path / "store.json"))
    return tmp_path / "store.json"


FAKE = Keyring("fake_keyring.Keyring")


def test_a_key_comes_back_from_the_keyring(keyring: Path) -> None:
    assert FAKE.read(["OPENAI_API_KEY"]) == {}
    FAKE.set("OPENAI_API_KEY", "sk-ünï\ncode")
    assert json.loads(keyring.read_text()) == {"bitnet-tui/OPENAI_API_KEY": "sk-ünï\ncode"}
    assert FAKE.read(["OPENAI_API_KEY", "GROQ_API_KEY"]) == {"OPENAI_API_KEY": "sk-ünï\ncode"}
    assert FAKE.delete("OPENAI_API_KEY")
    assert not FAKE.delete("OPENAI_API_KEY")
    assert FAKE.read(["OPENAI_API_KEY"]) == {}


def test_a_locked_keyring_is_a_sentence_without_the_value(keyring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KEYRING", "locked")
    places = KeyPlaces.of(resolve().settings)
    with pytest.raises(BitnetError, match="the OS keyring is locked") as caught:
        places.keep("OPENAI_API_KEY", "sk-canary-1")
    assert "sk-canary-1" not in str(caught.value)
    assert not places.vault.exists()


def test_a_hanging_keyring_is_given_up_with_what_it_started(
    keyring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEYRING", "hang")
    monkeypatch.setattr(keyring_store, "SECONDS", 1.5)
    with pytest.raises(KeyringUnusable, match="gave no answer"):
        FAKE.read(["OPENAI_API_KEY"])
    helper = int((tmp_path / "helper.pid").read_text())
    for _ in range(500):  # killed, it ends when its turn comes
        if process.identify(helper) is None:
            break
        time.sleep(0.01)
    assert process.identify(helper) is None


@pytest.mark.parametrize(
    "backend", ["chainer", "keyring.backends.chainer.ChainerBackend", "keyrings.alt.file.PlaintextKeyring", "pass"]
)
def test_a_backend_that_keeps_plain_text_or_takes_whatever_is_there_is_refused(backend: str) -> None:
    with pytest.raises(BitnetError, match="is not a keyring that keeps keys safe"):
        Keyring(backend).read(["OPENAI_API_KEY"])


def test_a_file_called_keyring_in_the_working_folder_is_not_the_keyring(keyring: Path) -> None:
    Path("keyring.py").write_text("raise SystemExit('hijacked')")
    assert FAKE.read(["OPENAI_API_KEY"]) == {}


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
        FAKE.set("OPENAI_API_KEY", "from-ring")
    if in_file:
        (tmp_path / ".env").write_text("OPENAI_API_KEY=from-file\n")
    environ = {"BITNET_KEYRING": "fake_keyring.Keyring"}
    environ |= {"OPENAI_API_KEY": "from-env"} if environment else {}
    found = secrets.find_secrets(["OPENAI_API_KEY", "GROQ_API_KEY"], resolve(environ=environ, cwd=tmp_path))
    assert found == {"OPENAI_API_KEY": secrets.FoundSecret(value, origin)}


@pytest.mark.parametrize(
    ("stage", "provider", "names"),
    [
        ("collect", "embedded", ()),
        ("collect", "openai", ("TEACHER_API_KEY", "OPENAI_API_KEY")),
        ("pipeline", "hf", ("TEACHER_API_KEY", "HF_TOKEN")),
        ("train", "openai", ()),
    ],
)
def test_a_stage_gets_only_what_it_needs(stage: str, provider: str, names: tuple[str, ...]) -> None:
    assert stage_keys.names_for(stage, TeacherOptions(provider=provider)) == names


def test_a_stages_environment_has_no_secret_and_the_caches_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-canary")
    environment = secrets.child_environment({"HF_HOME": "/big/hf", "TORCH_HOME": None, "SEED": 1})
    assert "GROQ_API_KEY" not in environment
    assert environment["HF_HOME"] == "/big/hf"
    assert "SEED" not in environment
    assert environment["PATH"]


def test_no_variable_goes_on_that_holds_a_key_or_is_named_like_one(monkeypatch: pytest.MonkeyPatch) -> None:
    key, sent = "sk-canary/7f3a91c2", "another-canary-42"
    given = {
        "MY_COMPANY_KEY": key,
        "AS_JSON": json.dumps({"key": key}),
        "AS_ADDRESS": f"https://host/?k={quote(key, safe='')}",
        "AS_BASIC": base64.b64encode(f"user:{key}".encode()).decode(),
        "SENT": f"it is {sent}",
        "SHORT": "abcdef",
        **dict.fromkeys(
            ("HUGGING_FACE_HUB_TOKEN", "GOOGLE_API_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET"), "unknown-to-us"
        ),
    }
    kept = {
        "LANG": "C.UTF-8",
        "TOKENIZERS_PARALLELISM": "false",
        "HOME": f"/home/{key}",
        "LONGER": "xabcdefx",
        "OMP_NUM_THREADS": "1",
    }
    for name, value in (given | kept).items():
        monkeypatch.setenv(name, value)
    secrets.remember([key, "abcdef"])
    secrets.remember(["1"])  # typed by mistake
    environment = secrets.child_environment({}, [sent])
    assert not set(given) & set(environment)
    assert kept.items() <= environment.items()


def test_a_large_secret_goes_through_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"OPENAI_API_KEY": "k" * 4096, "FIREBASE_CREDENTIALS_JSON": '{"a": "\\n"}' * 100_000}
    read_end, write_end = os.pipe()
    monkeypatch.setenv(handover.FD_VARIABLE, str(read_end))
    sender = threading.Thread(target=handover.send_secrets, args=(write_end, keys))
    sender.start()
    assert secrets.read_from_pipe() == keys
    sender.join()
    assert secrets.read_from_pipe() == {}
    assert keys["OPENAI_API_KEY"] in known.values()


def test_a_pipe_that_nobody_closes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "PIPE_SECONDS", 0.05)
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, b'{"OPENAI_API_KEY": "sk-')
        monkeypatch.setenv(handover.FD_VARIABLE, str(read_end))
        with pytest.raises(BitnetError, match="did not end within 0 s; close the pipe"):
            secrets.read_from_pipe()
    finally:
        os.close(write_end)


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("bitnet_core.cli.main", "main(['keys', 'status'])"),
        ("bitnet_core.runs.worker", "main(['/nowhere'], print)"),
        ("bitnet_core.secrets.keyring_child", "main()"),
        ("bitnet_tui.__main__", "main([])"),
    ],
)
def test_a_process_that_holds_keys_leaves_no_core_dump(module: str, call: str) -> None:
    code = f"""
import resource, sys
import bitnet_tui.app
from {module} import main
sys.stdin.isatty = sys.stdout.isatty = lambda: True
bitnet_tui.app.BitnetApp = None
allowed = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (allowed, allowed))
try: {call}
except (Exception, SystemExit): pass
sys.stderr.write(f"core {{resource.getrlimit(resource.RLIMIT_CORE)}}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input='{"service": "", "names": [], "classes": []}',
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TERM": "xterm"},
    )
    assert "core (0, 0)" in done.stdout + done.stderr
