"""The value kept last is the one found, whether its place was chosen or the keyring was locked."""

import json
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.secrets import keyring_store, vault
from bitnet_core.secrets import places as key_places
from bitnet_core.secrets.find import FoundSecret, find_secrets
from bitnet_core.secrets.inventory import Inventory
from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable
from bitnet_core.secrets.places import KeyPlaces, VaultLocked
from bitnet_core.settings.resolve import resolve
from bitnet_core.teachers import stage_keys
from tests.secrets.fake_keyring import FakeKeyring

TOKEN = "ONEDRIVE_REFRESH_TOKEN"
K = "OPENAI_API_KEY"
WORDS = "correct horse"


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> FakeKeyring:
    return FakeKeyring(monkeypatch)


@pytest.fixture(autouse=True)
def passphrase_file(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (isolated / "passphrase").write_text(WORDS)
    monkeypatch.setenv("BITNET_VAULT_PASSPHRASE_FILE", str(isolated / "passphrase"))


def _places() -> KeyPlaces:
    return KeyPlaces.of(resolve().settings)


def _found(name: str = TOKEN) -> FoundSecret | None:
    return find_secrets([name], resolve()).get(name)


def _lock_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITNET_VAULT_PASSPHRASE_FILE")
    key_places._open_vaults.clear()


@pytest.mark.parametrize("state", ["locked", "silent", "failed", "absent"])
def test_a_token_rotated_while_the_keyring_was_locked_is_found_when_it_is_unlocked_again(
    keyring: FakeKeyring, state: str
) -> None:
    assert _places().keep(TOKEN, "old token") == "keyring"
    keyring.state = state
    assert _places().keep(TOKEN, "new token") == "vault"
    assert _found() == FoundSecret("new token", "vault")
    keyring.state = "ready"
    assert _found() == FoundSecret("new token", "vault")
    assert keyring.held == {}, "what is older is deleted when it can be"
    assert _places().keep(TOKEN, "newest token") == "vault"
    assert _found() == FoundSecret("newest token", "vault")


def test_a_key_kept_in_the_vault_by_choice_counts_and_the_keyrings_is_deleted(keyring: FakeKeyring) -> None:
    _places().keep(K, "v1")
    assert _places().keep(K, "v2", "vault") == "vault"
    assert keyring.held == {}
    assert _found(K) == FoundSecret("v2", "vault")
    assert _places().keep(K, "v3", "keyring") == "keyring"
    assert _found(K) == FoundSecret("v3", "keyring")
    assert _places().opened().read() == {}
    assert _places().keep(K, "v4") == "keyring"
    assert _found(K) == FoundSecret("v4", "keyring")


def test_a_locked_vault_with_the_newer_key_is_reported_and_the_older_key_not_used(
    keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    _places().keep(K, "v1")
    keyring.state = "locked"
    _places().keep(K, "v2")
    keyring.state = "ready"
    _lock_vault(monkeypatch)
    with pytest.raises(VaultLocked, match=r"OPENAI_API_KEY is in .*vault.json, which is locked"):
        _found(K)
    _, (held,) = Inventory.of(resolve()).status([K])
    assert held.origin == "vault (locked)"
    for to in ("", "keyring"):
        with pytest.raises(VaultLocked):
            _places().keep(K, "v3", to)
    assert keyring.held == {K: "v1"}


def test_a_locked_vault_is_reported_where_a_file_has_another_key(
    keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` says what `find_secrets` does."""
    keyring.state = "absent"
    _places().keep(K, "v1")
    Path(".env").write_text(f"{K}=an-older-one\n")
    _lock_vault(monkeypatch)
    _, (held,) = Inventory.of(resolve()).status([K])
    assert held.origin == "vault (locked)"
    with pytest.raises(VaultLocked):
        _found(K)


def test_an_older_vault_opens_and_is_read_after_the_keyring(keyring: FakeKeyring, isolated: Path) -> None:
    """A file written and sealed before `over` existed."""
    path = _places().vault
    opened = vault.create(path, WORDS)
    content = json.loads(path.read_text())
    assert "over" not in content
    entries = {K: opened._seal("in the vault", f"entry {K}")}
    seal = opened._seal("", f"seal {json.dumps(entries, sort_keys=True)}")
    vault._store(path, {**content, "entries": entries, "seal": seal})
    assert _found(K) == FoundSecret("in the vault", "vault")
    keyring.held[K] = "in the keyring"
    assert _found(K) == FoundSecret("in the keyring", "keyring")
    opened.set(TOKEN, "another")
    assert _found(K) == FoundSecret("in the keyring", "keyring")
    assert opened.read() == {K: "in the vault", TOKEN: "another"}


@pytest.mark.parametrize("over", [[], [K], [K, TOKEN, "HF_TOKEN"], "text", 1])
def test_over_can_be_neither_removed_nor_added_unnoticed(over: object) -> None:
    path = _places().vault
    opened = vault.create(path, WORDS)
    opened.set(TOKEN, "one")
    opened.set(K, "two")
    content = json.loads(path.read_text()) | {"over": over}
    content["sha256"] = vault._checksum(content)
    path.write_text(json.dumps(content))
    with pytest.raises(vault.DamagedVault):
        vault.unlock(path, WORDS)


@pytest.mark.parametrize(
    "change",
    [
        {"cost": 3},
        {"cost": 4.0},
        {"cost": True},
        {"cost": "2"},
        {"salt": 5},
        {"salt": "AAAA"},
        {"salt": "?" * 24},
        {"entries": []},
        {"entries": {K: 5}},
        {"seal": None},
        {"proof": 1},
    ],
)
def test_nonsense_with_a_right_checksum_is_a_damaged_vault(change: dict[str, object]) -> None:
    path = _places().vault
    vault.create(path, WORDS)
    content = json.loads(path.read_text()) | change
    content["sha256"] = vault._checksum(content)
    path.write_text(json.dumps(content))
    with pytest.raises(vault.DamagedVault):
        vault.unlock(path, WORDS)


def test_a_damaged_vault_is_only_a_note_when_keys_are_elsewhere(
    keyring: FakeKeyring, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring.held[K] = "sk-in-the-keyring-0123"
    _places().vault.parent.mkdir(parents=True)
    _places().vault.write_text("{}")
    assert _found(K) == FoundSecret("sk-in-the-keyring-0123", "keyring")
    assert main(["keys", "status"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{K}: keyring, ends in '0123'\n"
    assert "vault.json is damaged" in said.err
    assert main(["keys", "list"]) == 0
    said = capsys.readouterr()
    assert "vault (can't be read" in said.out
    assert "vault.json is damaged" in said.err
    assert _places().keep(K, "another") == "keyring"
    keyring.held.clear()
    with pytest.raises(vault.DamagedVault):
        _found(K)
    keys = stage_keys.for_stage("collect", resolve({"TEACHER_PROVIDER": "openai"}))
    assert keys.warning.startswith(f"{K} was not found: ")
    assert "is damaged" in keys.warning


def test_what_is_wrong_with_the_vaults_path_or_passphrase_file_is_named(
    keyring: FakeKeyring, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (isolated / "passphrase").write_text("\n")
    with pytest.raises(BitnetError, match=r"\(BITNET_VAULT_PASSPHRASE_FILE\) is empty; write the passphrase"):
        _places().keep(K, "v", "vault")
    monkeypatch.setenv("BITNET_VAULT", str(isolated))
    with pytest.raises(BitnetError, match="is a folder; set BITNET_VAULT to the path of a file"):
        vault.names(_places().vault)
    monkeypatch.delenv("BITNET_VAULT_PASSPHRASE_FILE")
    with pytest.raises(BitnetError, match="is a folder; set BITNET_VAULT to the path of a file"):
        _places().keep(K, "v", "vault", lambda *_: pytest.fail("asked"))


def test_a_vault_that_was_replaced_by_another_is_opened_again(isolated: Path) -> None:
    places = _places()
    places.opened().set(K, "in the first vault")
    places.vault.unlink()
    (isolated / "passphrase").write_text("another horse")
    vault.create(places.vault, "another horse").set(K, "in the second vault")
    assert places.opened().read() == {K: "in the second vault"}


def test_a_write_makes_the_vault_private_and_keeps_a_link(
    keyring: FakeKeyring, isolated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = isolated / "elsewhere" / "v.json"
    vault.create(real, WORDS)
    real.chmod(0o644)
    link = isolated / "v.json"
    link.symlink_to(real)
    monkeypatch.setenv("BITNET_VAULT", str(link))
    assert main(["keys", "status"]) == 0
    assert f"{link} can be read by others" in capsys.readouterr().err
    _places().keep(K, "v", "vault")
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert vault.unlock(real, WORDS).read() == {K: "v"}
    main(["keys", "status"])
    assert "can be read by others" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["null", "fail"])
def test_a_keyring_that_keeps_nothing_is_refused(name: str) -> None:
    with pytest.raises(BitnetError, match="is not a keyring that keeps keys safe"):
        Keyring(f"keyring.backends.{name}.Keyring").set(K, "v")


_BACKEND = """
import os, time
from keyring.backend import KeyringBackend
class Keyring(KeyringBackend):
    priority = 9
    def get_password(self, service, name):
        if os.environ["FAKE_WAY"] == "hang": time.sleep(60)
    def set_password(self, service, name, value): self.get_password(service, name)
    def delete_password(self, service, name): self.get_password(service, name)
"""


@pytest.fixture
def calls(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A real process with a backend that keeps nothing, or hangs; it records what it was asked to do."""
    (isolated / "odd.py").write_text(_BACKEND)
    for name, value in {"PYTHONPATH": str(isolated), "BITNET_KEYRING": "odd.Keyring", "FAKE_WAY": "hang"}.items():
        monkeypatch.setenv(name, value)
    asked: list[str] = []
    plain = keyring_store._ask

    def noted(request: str) -> dict[str, object]:
        asked.append(json.loads(request)["action"])
        return plain(request)

    monkeypatch.setattr(keyring_store, "_ask", noted)
    monkeypatch.setattr(keyring_store, "SECONDS", 0.5)
    return asked


@pytest.mark.usefixtures("calls")
def test_a_keyring_that_forgets_at_once_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_WAY", "forget")
    monkeypatch.setattr(keyring_store, "SECONDS", 30.0)
    assert _places().keep(K, "v1") == "vault"
    with pytest.raises(KeyringUnusable, match="did not keep the value"):
        _places().keep(K, "v2", "keyring")
    assert _found(K) == FoundSecret("v1", "vault")


@pytest.mark.parametrize("arguments", [["move", "--all"], ["status"], ["list"]])
def test_a_command_waits_once_for_a_keyring_that_hangs(arguments: list[str], calls: list[str]) -> None:
    names = (K, "GROQ_API_KEY", "MISTRAL_API_KEY")
    Path(".env").write_text("".join(f"{name}=key-of-{name}\n" for name in names))
    assert main(["keys", *arguments]) == 0
    assert calls == ["read"]
    if arguments[0] == "move":
        assert _places().opened().read() == {name: f"key-of-{name}" for name in names}
        assert Path(".env").read_text() == "".join(f"{name}=\n" for name in names)


def test_a_move_reads_the_keyring_once_for_all_names(keyring: FakeKeyring) -> None:
    names = (K, "GROQ_API_KEY", "MISTRAL_API_KEY")
    Path(".env").write_text("".join(f"{name}=key-of-{name}\n" for name in names))
    assert main(["keys", "move", "--all"]) == 0
    assert keyring.asked == ["read"] + ["set", "read"] * 3  # one read before the first, and one after each write
