"""Where a draft is kept, what is copied of an experiment, and the commands that try and log in to a target."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Workspace
from bitnet_core.settings.resolve import resolve
from bitnet_tui.services import commands, drafts, planning
from bitnet_tui.services.storing import Check, Login
from tests.tui.pilots import files_text

KEY = "sk-canary-0123456789"


def kept(name: str, value: str) -> str:
    return f"{name} is kept in a test ({value})."


def test_a_draft_is_this_users_alone_and_each_workspace_has_its_own(home: Path):
    first, second = drafts.Kept(home), drafts.Kept(home, home / "first")
    first.write({"name": "a"}, 2)
    first.write({"name": "older"}, 1)
    assert (first.read(), second.read()) == ({"name": "a"}, None)
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert drafts.Kept(home.parent).path != first.path != second.path
    first.remove(3)
    first.remove(4)
    first.write({"name": "older"}, 2)
    assert first.read() is None


def test_a_draft_that_can_not_be_read_is_none(home: Path):
    draft = drafts.Kept(home)
    draft.path.mkdir(parents=True)
    assert draft.read() is None
    draft.remove(1)
    with pytest.raises(BitnetError, match="can't be written"):
        draft.write({}, 2)


def test_what_is_copied_of_an_experiment_means_the_same_elsewhere(home: Path):
    env = (
        "BASE=200\nTOTAL_STEPS=${BASE}\nKD_PROMPTS_FILE=own/p.txt\nEVAL_SCORES=/abs/s.json\nLOGS_DIR=/elsewhere\n"
        "GATE_ENFORCE=${ON:-yes}\nSTORAGE_NAME=x\nBITNET_VAULT=v.json\nNOT_ONE=1\nHF_TOKEN=${BASE}\nTEMPLATE='a\nb'\n"
    )
    root = Workspace(home).create("first", env)
    found = drafts.settings_of(home, root)
    assert found.values == {
        "TOTAL_STEPS": "200",
        "KD_PROMPTS_FILE": f"{root}/own/p.txt",
        "EVAL_SCORES": "/abs/s.json",
        "GATE_ENFORCE": "1",
        "TEMPLATE": "a\nb",
    }
    assert found.keys == ("HF_TOKEN",)


def test_this_machine_is_described_without_torch(home: Path):
    found = planning.machine(home / "not" / "there")
    assert found["cores"] >= 1
    assert 0 < found["free_memory"] <= found["memory"]
    assert found["free_disk"] > 0


def test_a_target_is_really_tried_and_nothing_is_left_there(home: Path, tmp_path: Path):
    """A `bitnet store check` of its own."""
    place = tmp_path / "copy"
    values = {"STORAGE_BACKEND": "local", "STORAGE_LOCAL_DIR": str(place)}
    found = Check(home, home / "new", "local", values, {}, kept).run()
    assert set(found["seconds"]) >= {"write", "read", "list", "delete"}
    assert not home.exists()
    assert not [path for path in place.rglob("*") if path.is_file()]
    (tmp_path / "file").write_text("")
    with pytest.raises(BitnetError, match=r"file.*\.$"):
        Check(home, home / "new", "local", values | {"STORAGE_LOCAL_DIR": str(tmp_path / "file")}, {}, kept).run()


def test_a_field_that_was_emptied_is_tested_as_empty(home: Path, monkeypatch: pytest.MonkeyPatch):
    """The command reads the experiment's `.env`, which has the old value, and what the form does not ask."""
    env = "STORAGE_BACKEND=s3\nS3_BUCKET=b\nAWS_DEFAULT_REGION=http://x:1\nS3_PREFIX=p\nSTORAGE_NAME=mine\n"
    root = Workspace(home).create("first", env)
    values = {"STORAGE_BACKEND": "s3", "S3_BUCKET": "b", "S3_ENDPOINT_URL": "http://x:1"}
    started = _instead(monkeypatch, "print('{}')")
    Check(home, root, "s3", values, {}, kept).run()
    given = dict(one.split("=", 1) for one in started[0] if "=" in one)
    found = resolve(given, root=root, environ={}).settings.values
    assert (found["S3_ENDPOINT_URL"], found["S3_PREFIX"], found["STORAGE_NAME"]) == (
        "http://x:1",
        "bitnet_poc/",
        "mine",
    )
    assert not found["AWS_DEFAULT_REGION"]


def _instead(monkeypatch: pytest.MonkeyPatch, code: str) -> list[list[str]]:
    """Run this instead of the command; it gets the same pipes."""
    started: list[list[str]] = []
    start = commands.start_with_secrets

    def replaced(command: list[str], *rest: Any) -> Any:
        started.append(command)
        return start([sys.executable, "-c", code, *command], *rest)

    monkeypatch.setattr(commands, "start_with_secrets", replaced)
    return started


def _login(home: Path, told: list[tuple[str, str]]) -> Login:
    values = {"STORAGE_BACKEND": "box", "BOX_CLIENT_ID": "id"}
    typed = {"BOX_CLIENT_SECRET": KEY}
    return Login(home, home / "new", "box", values, typed, kept, lambda url, code: told.append((url, code)))


def test_a_login_tells_its_page_and_its_token_goes_through_a_pipe(home: Path, monkeypatch: pytest.MonkeyPatch):
    code = (
        "import json, os, sys; from bitnet_core.secrets.handover import read_from_pipe\n"
        "assert read_from_pipe()['BOX_CLIENT_SECRET'] == 'sk-canary-0123456789'\n"
        "print('noise'); print(json.dumps({'url': 'https://x.org', 'code': 'AB-CD'}), flush=True)\n"
        "os.write(int(sys.argv[sys.argv.index('--hand-over') + 1]), b'token-1')\n"
    )
    started, told = _instead(monkeypatch, code), list[tuple[str, str]]()
    login = _login(home, told)
    assert login.run() == {"kept": "BOX_REFRESH_TOKEN is kept in a test (token-1)."}
    assert login.run() == {"kept": "BOX_REFRESH_TOKEN is kept in a test (token-1)."}  # after the vault was opened
    assert told == [("https://x.org", "AB-CD")]
    (command,) = started
    assert KEY not in " ".join(command)
    assert "token-1" not in files_text(home.parent)


def test_a_login_that_is_refused_is_told_in_the_commands_words(home: Path, monkeypatch: pytest.MonkeyPatch):
    _instead(monkeypatch, "import sys; sys.stderr.write('bitnet: warning: x\\nbitnet: Box said no.\\n'); sys.exit(1)")
    with pytest.raises(BitnetError, match=r"^Box said no\.$"):
        _login(home, []).run()


def test_a_command_that_was_cancelled_before_it_began_ends_at_once(home: Path, monkeypatch: pytest.MonkeyPatch):
    _instead(monkeypatch, "import time; time.sleep(60)")
    command = commands.Command(home, ["plan"], {}, 30, "It")
    command.cancel()
    with pytest.raises(BitnetError):
        command.run()


def test_warnings_of_a_command_come_with_its_answer(home: Path, monkeypatch: pytest.MonkeyPatch):
    _instead(monkeypatch, "import sys; sys.stderr.write('bitnet: warning: A.\\nother\\n'); print('{\"a\": 1}')")
    assert commands.Command(home, ["plan"], {}, 30, "It").run() == {"a": 1, "warnings": ["A."]}
    assert os.environ.get("BITNET_SECRETS_FD") is None
