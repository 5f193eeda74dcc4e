"""Keys are never stored, under no name and behind no link; and nothing else is left out without a word."""

import os
import re
from pathlib import Path

import pytest

from bitnet_core.files.half_written import scratch_beside
from bitnet_core.secrets import known
from bitnet_core.storage import left_out
from bitnet_core.storage.left_out import is_left_out, may_hold_keys
from bitnet_core.storage.targets.local import FolderTarget
from tests.storage.experiments import machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, push, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")
KEY = b"sk-canary"


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SMALL)


@pytest.mark.parametrize(
    ("behind", "hard"), [(".env", False), (".env", True), (".ssh/id_rsa", False), ("id_ed25519", False)]
)
def test_a_setting_that_leads_to_keys_stores_none(
    tmp_path: Path, target: MemoryTarget, behind: str, hard: bool
) -> None:
    root = tmp_path / "one"
    one = machine(root, KD_PROMPTS_FILE=str(root / "prompts.txt"))
    secret = write(one, behind, KEY)
    (os.link if hard else os.symlink)(secret, root / "prompts.txt")
    left = push(one, target).left
    assert set(stored(target)) == {"settings.env"}
    assert any("prompts.txt is not stored" in sentence for sentence in left)


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize(
    "setting", ["RCLONE_CONFIG", "BITNET_VAULT_PASSPHRASE_FILE", "BITNET_VAULT", ".env", "a key"]
)
def test_a_file_that_a_setting_names_for_its_keys_is_not_stored(
    tmp_path: Path, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch, setting: str, link: bool
) -> None:
    root = tmp_path / "one"
    path = root / "data" / "mine.txt"
    one = machine(root, **({setting: str(path)} if setting.isupper() else {}))
    write(one, "data/mine.txt", KEY)
    write(one, "data/other.txt", b"work")
    if link:
        (root / "data" / "link.txt").symlink_to(path)
    if setting == ".env":
        (root / ".env").symlink_to(path)
    if setting == "a key":  # as FIREBASE_CREDENTIALS_JSON
        monkeypatch.setattr(known, "_values", {str(path)})
    left = push(one, target).left
    assert set(stored(target)) == {"settings.env", "data/other.txt"}
    assert len(left) == 1 + link and all("a setting says that it holds keys" in sentence for sentence in left)


@pytest.mark.parametrize(
    "name",
    [
        "id_rsa", "id_ed25519", ".netrc", ".aws/credentials", ".ssh/config", ".git-credentials", "a.pem", "tls.KEY",
        ".cache/huggingface/token", "rclone.conf", "my-service-account.json", "x-firebase-adminsdk-1.json", ".ENV/x",
        "vault.json", "application_default_credentials.json",
    ],
)  # fmt: skip
def test_well_known_names_of_key_files_are_not_stored_and_told(
    tmp_path: Path, target: MemoryTarget, name: str
) -> None:
    one = machine(tmp_path / "one")
    write(one, f"data/{name}", KEY)
    (one.data / "link.txt").symlink_to(one.data / name)
    left = push(one, target).left
    assert set(stored(target)) == {"settings.env"}
    assert len(left) == 2


@pytest.mark.parametrize(
    "name",
    [
        "reports/lab-journal", "reports/week1-journal/notes.md", "data/uv.lock", "data/shop.owner/prompts.txt",
        "data/_tokenizer/tokenizer.json", "reports/keys.md", "data/a.sqlite", "data/a-wal", "reports/tokens.json",
    ],
)  # fmt: skip
def test_names_that_only_look_like_ours_are_stored(tmp_path: Path, target: MemoryTarget, name: str) -> None:
    one = machine(tmp_path / "one")
    write(one, name, b"work")
    assert push(one, target).left == []
    assert set(stored(target)) == {"settings.env", name}
    assert not is_left_out(name) and not may_hold_keys(name)


@pytest.mark.parametrize(
    "name",
    [
        "logs/.train.lock", "logs/.train.lock.owner", "data.journal/.lock.owner", "data.journal/journal.sqlite-wal",
        "data/.kd.parquet.ab-1-cd.part", ".storage/x", "logs/r/.ballast", "logs/r/.copied",
        "checkpoints/.start-read.pt", "checkpoints/.start-fit.pt", "checkpoints/.made-start-0a1b.pt",
        "logs/eval-1/.exported-x1y2/student.gguf", "logs/eval-1/.packed-x1y2.part/student.pt",
    ],
)  # fmt: skip
def test_what_is_ours_is_left_out(name: str) -> None:
    assert is_left_out(name)


def test_no_temporary_export_of_an_evaluation_is_stored_and_an_older_one_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a folder as the target: live uploads of an older version brought the export of an evaluation there."""
    one, target = machine(tmp_path / "one"), FolderTarget("local", tmp_path / "copy")
    write(one, "reports/a.md", b"work")
    old, new = "logs/eval-1/.exported-x1y2/student-TQ2_0.gguf", "logs/eval-1/events.jsonl"
    write(one, old, b"g" * 1000)
    with monkeypatch.context() as older:
        older.setattr(left_out, "_OURS", re.compile("never"))
        push(one, target)
    assert old in {one.key for one in target.list("")}
    (one.root / old).unlink()
    for text in (b"1", b"2", b"3"):  # the one before the newest state can still be opened
        write(one, new, text)
        push(one, target)
    assert not [one.key for one in target.list("") if ".exported-" in one.key]
    with scratch_beside(one.logs / "eval-1" / "any") as folder:
        (folder / "student.gguf").write_bytes(b"g")
        write(one, new, b"4")
        push(one, target)
    assert not [one.key for one in target.list("") if "student.gguf" in one.key]
