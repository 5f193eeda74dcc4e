"""The vault: encryption, telling a wrong passphrase from a damaged file, and kill -9 at every point of a write."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.secrets import places as key_places
from bitnet_core.secrets import vault
from bitnet_core.secrets.places import KeyPlaces, VaultLocked, unlock_vault
from bitnet_core.settings.resolve import resolve
from bitnet_core.teachers import stage_keys

CANARY = "sk-canary-0123456789"
WORDS = "correct horse"
NAME = "ONEDRIVE_REFRESH_TOKEN"


@pytest.mark.parametrize("value", ["sk-1", "schlüssel 🔑", "k" * 4096, "two\nlines\n", "\ud800 odd"])
def test_any_value_comes_back(tmp_path: Path, value: str) -> None:
    opened = vault.create(tmp_path / "v.json", WORDS)
    opened.set(NAME, value)
    assert vault.unlock(tmp_path / "v.json", WORDS).read() == {NAME: value}
    assert vault.names(tmp_path / "v.json") == (NAME,)
    assert value not in repr(opened)
    assert opened.delete(NAME)
    assert not opened.delete(NAME)
    assert opened.read() == {}


def test_the_file_is_private_and_contains_no_value(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "v.json"
    old = os.umask(0)
    try:
        opened = vault.create(path, WORDS)
        opened.set(NAME, CANARY)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    everything = b"".join(found.read_bytes() for found in path.parent.iterdir())
    assert CANARY.encode() not in everything
    assert WORDS.encode() not in everything


def test_a_wrong_passphrase_is_not_reported_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    vault.create(path, WORDS).set(NAME, CANARY)
    with pytest.raises(vault.WrongPassphrase, match="is not the passphrase of"):
        vault.unlock(path, "incorrect horse")
    with pytest.raises(BitnetError, match="at least 8 characters"):
        vault.create(tmp_path / "other.json", "short")
    with pytest.raises(BitnetError, match="exists already"):
        vault.create(path, WORDS)
    assert vault.unlock(path, WORDS).read() == {NAME: CANARY}


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_flipped_byte_is_found(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int) -> None:
    path = tmp_path_factory.mktemp("vault") / "v.json"
    opened = vault.create(path, WORDS)
    opened.set(NAME, CANARY)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= flip
    path.write_bytes(data)
    try:
        assert vault.unlock(path, WORDS).read() == {NAME: CANARY}  # the flipped byte was white space
    except vault.DamagedVault as error:
        assert "is damaged; restore a copy" in str(error)


@pytest.mark.parametrize("change", ["swap", "drop", "cost"])
def test_a_change_with_a_right_checksum_is_found_by_the_seals(tmp_path: Path, change: str) -> None:
    path = tmp_path / "v.json"
    opened = vault.create(path, WORDS)
    opened.set(NAME, "one")
    opened.set("OPENAI_API_KEY", "two")
    content = json.loads(path.read_text())
    entries = content["entries"]
    if change == "swap":
        entries[NAME], entries["OPENAI_API_KEY"] = entries["OPENAI_API_KEY"], entries[NAME]
    elif change == "drop":
        del entries[NAME]
    else:
        content["cost"] = 4
    content["sha256"] = vault._checksum(content)
    path.write_text(json.dumps(content))
    with pytest.raises(vault.WrongPassphrase if change == "cost" else vault.DamagedVault):
        vault.unlock(path, WORDS)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "bitnet-tui vault 1"}', "\x00"])
def test_a_file_that_is_not_a_vault_is_reported_as_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(vault.DamagedVault):
        vault.unlock(tmp_path / "v.json", WORDS)
    with pytest.raises(vault.DamagedVault):
        vault.names(tmp_path / "v.json")


@pytest.mark.parametrize("form", ["bitnet-tui vault 2", "bitnet-tui vault 10"])
def test_a_vault_of_a_newer_version_is_not_called_damaged(tmp_path: Path, form: str) -> None:
    path = tmp_path / "v.json"
    text = json.dumps({"format": form, "kdf": {"name": "argon2id"}})
    path.write_text(text)
    for attempt in (
        lambda: vault.names(path),
        lambda: vault.unlock(path, WORDS),
        lambda: vault.names_over_keyring(path),
    ):
        with pytest.raises(BitnetError, match="was written by a newer version of bitnet-tui; install that"):
            attempt()
    assert path.read_text() == text


def test_a_vault_that_another_program_takes_away_or_exchanges_is_not_called_unreadable_or_mistyped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "vault"
    opened = vault.create(path, "correct horse")
    opened.set("KEY", "value")
    path.rename(tmp_path / "old")
    for act in (opened.read, lambda: opened.set("KEY", "other"), lambda: opened.delete("KEY")):
        with pytest.raises(BitnetError, match=r"vault was removed; restore a copy of it, or set the keys again\.$"):
            act()
    vault.create(path, "correct horse")
    for act in (opened.read, lambda: opened.set("KEY", "other"), lambda: opened.delete("KEY")):
        with pytest.raises(BitnetError, match=r"vault was replaced by another vault after it was opened; open that"):
            act()
    assert vault.unlock(path, "correct horse").read() == {}
    assert vault.unlock(tmp_path / "old", "correct horse").read() == {"KEY": "value"}


@pytest.mark.parametrize(
    "form", ["bitnet-tui vault 0", "bitnet-tui vault -2", "bitnet-tui vault ²", "bitnet-tui vault ", "x 2", 2, None]
)
def test_a_format_that_no_version_has_is_damage(tmp_path: Path, form: object) -> None:
    (tmp_path / "v.json").write_text(json.dumps({"format": form}))
    with pytest.raises(vault.DamagedVault):
        vault.names(tmp_path / "v.json")


@pytest.mark.parametrize("broken", ["file", "folder"])
def test_a_link_to_nothing_is_not_an_absent_vault(tmp_path: Path, broken: str) -> None:
    """The keys may be on a disk that is not mounted. A new vault there would hide them."""
    away = tmp_path / "disk" / "away"
    path = tmp_path / "config" / "v.json"
    link = path if broken == "file" else path.parent
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(away)
    for attempt in (
        lambda: vault.exists(path),
        lambda: vault.names(path),
        lambda: vault.readable_by_others(path),
        lambda: vault.create(path, WORDS),
    ):
        with pytest.raises(BitnetError, match=re.escape(f"{link} is a link to {away}, which is not there; mount")):
            attempt()
    assert not away.parent.exists()


_KILLED = """
import os, signal, sys
from pathlib import Path
from bitnet_core.secrets import vault
vault.COST = 2
path, at = Path(sys.argv[1]), int(sys.argv[2])
opened = vault.unlock(path, "correct horse")
seen = 0
# Every system call is a point to be killed at: opening, writing, syncing, renaming.
def hook(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.remove", "os.listdir", "os.scandir", "fcntl.flock", "os.chmod"):
        seen += 1
        if seen == at: os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
plain = {name: getattr(os, name) for name in ("fsync", "close")}
def dying(name):
    def call(fd):
        global seen
        seen += 1
        if seen == at: os.kill(os.getpid(), signal.SIGKILL)
        return plain[name](fd)
    return call
os.fsync, os.close = dying("fsync"), dying("close")
opened.set("ONEDRIVE_REFRESH_TOKEN", "new")
print(seen)
"""


def test_kill_9_at_every_point_of_a_write_keeps_the_old_token_or_the_new_one(tmp_path: Path) -> None:
    """The next write removes what a killed one left."""
    path = tmp_path / "v.json"
    opened = vault.create(path, WORDS)
    outcomes: list[str] = []
    at, whole = 0, False
    while not whole:
        at += 1
        opened.set(NAME, "old")
        done = subprocess.run([sys.executable, "-c", _KILLED, str(path), str(at)], capture_output=True, check=False)
        whole = done.returncode == 0
        assert whole or done.returncode == -signal.SIGKILL, done.stderr
        outcomes.append(opened.read()[NAME])
    assert set(outcomes) == {"old", "new"}
    assert outcomes == sorted(outcomes, reverse=True), "once it is new it stays new"
    assert at > 6
    opened.set(NAME, "last")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".v.json.lock", "v.json"]


def test_only_a_stage_that_needs_the_vault_asks_for_its_passphrase(
    isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolution = resolve({"TEACHER_PROVIDER": "openai"})
    places = KeyPlaces.of(resolution.settings)
    unlock_vault(places.vault, WORDS).set("OPENAI_API_KEY", CANARY)
    key_places._open_vaults.clear()
    asked: list[tuple[Path, bool]] = []

    def ask(path: Path, new: bool) -> str | None:
        asked.append((path, new))
        return WORDS

    assert stage_keys.for_stage("train", resolution).values == {}
    with pytest.raises(VaultLocked, match=r"OPENAI_API_KEY is in .*, which is locked; give its passphrase"):
        stage_keys.for_stage("collect", resolution)
    assert asked == []
    assert stage_keys.for_stage("collect", resolution, ask).values == {"OPENAI_API_KEY": CANARY}
    assert stage_keys.for_stage("collect", resolution).values == {"OPENAI_API_KEY": CANARY}
    assert asked == [(places.vault, False)]
    key_places._open_vaults.clear()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    again = stage_keys.for_stage("collect", resolve({"TEACHER_PROVIDER": "openai"}), ask)
    assert again.values == {"OPENAI_API_KEY": "sk-environment"}
    assert len(asked) == 1


def test_the_webhooks_address_is_looked_for_where_the_settings_speak_of_one(isolated: Path) -> None:
    settings = {"NOTIFY_WEBHOOK_FORM": "auto"}
    unlock_vault(KeyPlaces.of(resolve({}).settings).vault, WORDS).set("NOTIFY_WEBHOOK", CANARY)
    key_places._open_vaults.clear()
    assert stage_keys.for_stage("train", resolve({})) == stage_keys.StageKeys({})
    locked = stage_keys.for_stage("train", resolve(settings))
    assert (locked.values, "The webhook can't be notified: " in locked.warning) == ({}, True)
    assert stage_keys.for_stage("train", resolve(settings), lambda *_: WORDS).values == {"NOTIFY_WEBHOOK": CANARY}
    key_places._open_vaults.clear()
    (isolated / ".env").write_text("NOTIFY_WEBHOOK=https://ntfy.sh/mine\n")
    assert stage_keys.for_stage("train", resolve({})).values == {"NOTIFY_WEBHOOK": "https://ntfy.sh/mine"}


def test_writing_ends_where_another_process_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.json"
    opened = vault.create(path, WORDS)
    hold = f"import fcntl, time; f = open({str(tmp_path / '.v.json.lock')!r}); fcntl.flock(f, fcntl.LOCK_EX); "
    command = [sys.executable, "-c", f"{hold}print('held', flush=True); time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
        for write in (lambda: opened.set(NAME, CANARY), lambda: opened.delete(NAME)):
            with pytest.raises(
                BitnetError, match=r"\.v\.json\.lock is held by .*process.* does not let go of it; end"
            ):
                write()
        assert opened.read() == {}
        holder.kill()
    opened.set(NAME, CANARY)


def test_the_process_that_holds_a_lock_is_named_as_the_system_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "lock").open("w") as file:
        found = os.fstat(file.fileno())
        dev = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
        lines = f"1: POSIX  ADVISORY  WRITE 12 {dev}:{found.st_ino} 0 EOF\n"
        lines += f"2: FLOCK  ADVISORY  WRITE 4711 {dev}:{found.st_ino} 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 9 x\n"
        monkeypatch.setattr(Path, "read_text", lambda _path: lines)
        assert files._holder(file.fileno()) == 4711
        monkeypatch.setattr(Path, "read_text", lambda _path: "garbage\n\n")
        assert files._holder(file.fileno()) is None


def test_a_locked_vault_that_only_the_copy_needs_holds_no_stage_up(isolated: Path) -> None:
    target = {"STORAGE_BACKEND": "s3", "STORAGE_SYNC": "live"}
    resolution = resolve({"TEACHER_PROVIDER": "openai"} | target)
    vault = unlock_vault(KeyPlaces.of(resolution.settings).vault, WORDS)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        vault.set(name, CANARY)
    key_places._open_vaults.clear()
    for ask in (None, lambda *_: "another passphrase", lambda *_: None):
        keys = stage_keys.for_stage("train", resolution, ask)
        assert keys.values == {}
        assert "The copy can't be brought up to date: " in keys.warning and "STORAGE_SYNC=off" in keys.warning
    locked = stage_keys.for_stage("train", resolution).warning
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are in " in locked
    assert stage_keys.for_stage("train", resolution, lambda *_: WORDS).values.keys() == {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    }  # fmt: skip
    key_places._open_vaults.clear()
    vault.set("OPENAI_API_KEY", CANARY)
    with pytest.raises(VaultLocked, match="OPENAI_API_KEY is in"):
        stage_keys.for_stage("collect", resolution)


def test_the_passphrase_comes_from_a_file_or_a_descriptor(isolated: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"correct horse\n")
    os.close(write_end)
    try:
        settings = resolve({"BITNET_VAULT_PASSPHRASE_FILE": f"/dev/fd/{read_end}"}).settings
        KeyPlaces.of(settings).opened().set("OPENAI_API_KEY", CANARY)
    finally:
        os.close(read_end)
    path = KeyPlaces.of(settings).vault
    assert vault.unlock(path, WORDS).read() == {"OPENAI_API_KEY": CANARY}
    missing = resolve({"BITNET_VAULT_PASSPHRASE_FILE": "nowhere"}).settings
    key_places._open_vaults.clear()
    with pytest.raises(BitnetError, match="can't be read: No such file"):
        KeyPlaces.of(missing).opened()
