"""`bitnet store login` keeps the token where keys are kept."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.secrets.known import resolve_and_remember
from bitnet_core.settings.storage import BoxOptions
from bitnet_core.storage import oauth
from bitnet_core.storage.catalog import Kind
from bitnet_core.storage.finding_keys import find_keys
from bitnet_core.storage.keys import Keys
from tests.cli.stored import CANARY, answer, complaint


@pytest.mark.parametrize("display", ["", ":0"])
def test_login_shows_what_to_open_and_keeps_the_token_unseen(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], display: str
) -> None:
    asked: list[tuple[str, str]] = []
    opened: list[str] = []

    def login(kind: Kind, options: BoxOptions, keys: Keys, show: Callable[[oauth.Prompt], object]) -> str:
        asked.append((options.client_id, keys.get("BOX_CLIENT_SECRET")))
        show(oauth.Prompt("https://login.example/\x1b[2J", "ABCD-1234"))
        return CANARY

    def open_page(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(oauth, "login", login)
    monkeypatch.setattr("webbrowser.open", open_page)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("BOX_CLIENT_SECRET", "secret-of-the-app")
    (isolated / "passphrase").write_text("correct horse battery\n")
    monkeypatch.setenv("BITNET_VAULT_PASSPHRASE_FILE", str(isolated / "passphrase"))
    box = ["--set", "STORAGE_BACKEND=box", "--set", "BOX_CLIENT_ID=app"]
    assert main(["store", "login", *box]) == 0
    captured = capsys.readouterr()
    assert "type the code ABCD-1234" in captured.out
    assert "BOX_REFRESH_TOKEN is kept in the vault" in captured.out
    assert "\x1b" not in captured.out
    assert CANARY not in captured.out + captured.err
    assert asked == [("app", "secret-of-the-app")]
    assert bool(opened) == bool(display)
    resolved = resolve_and_remember({"STORAGE_BACKEND": "box"})
    assert find_keys(resolved).get("BOX_REFRESH_TOKEN") == CANARY
    assert answer(capsys, "store", "login", *box)["kept"] == "vault"


def test_a_program_may_keep_the_token_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(oauth, "login", lambda *_: CANARY)
    box = ["--set", "STORAGE_BACKEND=box", "--set", "BOX_CLIENT_ID=app"]
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as given:
        assert answer(capsys, "store", "login", "--hand-over", str(write_end), *box)["kept"] is None
        assert given.read() == CANARY
    assert find_keys(resolve_and_remember({"STORAGE_BACKEND": "box"})).get("BOX_REFRESH_TOKEN") == ""
    assert "is not open for writing" in complaint(capsys, "store", "login", "--hand-over", "999999", *box, code=2)


def test_a_target_without_a_login_says_what_it_needs(
    target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "A folder has no login" in complaint(capsys, "store", "login", code=2)
    monkeypatch.delenv("STORAGE_LOCAL_DIR")
    nextcloud = ["--set", "STORAGE_BACKEND=nextcloud"]
    assert "`bitnet keys set NC_APP_PASSWORD`" in complaint(capsys, "store", "login", *nextcloud, code=2)
    assert "BOX_CLIENT_ID is not set" in complaint(capsys, "store", "login", "--set", "STORAGE_BACKEND=box", code=2)
