"""Moving keys out of `.env` files that refer to each other: the same values stay in use and no reference dangles."""

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.secrets.find import find_secrets
from bitnet_core.secrets.inventory import Inventory
from bitnet_core.secrets.places import KeyPlaces
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings import dotenv
from bitnet_core.settings.resolve import resolve

K, GROQ, CUSTOM = "OPENAI_API_KEY", "GROQ_API_KEY", "CUSTOM_API_KEY"


@pytest.fixture(autouse=True)
def passphrase_file(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (isolated / "passphrase").write_text("correct horse")
    monkeypatch.setenv("BITNET_VAULT_PASSPHRASE_FILE", str(isolated / "passphrase"))
    (isolated / "exp").mkdir()


def _kept() -> Mapping[str, str]:
    return KeyPlaces.of(resolve().settings).opened().read()


def _in_use() -> dict[str, str]:
    names = (K, GROQ, CUSTOM)
    return {name: found.value for name, found in find_secrets(names, resolve(root=Path("exp"))).items()}


@pytest.mark.parametrize(
    ("experiment", "folder", "kept", "experiment_after", "folder_after"),
    [
        # A reference in the stronger file: the value it stands for is in use.
        (f"{K}=${{{GROQ}}}\n", f"{GROQ}=gsk-0123\n", {K: "gsk-0123", GROQ: "gsk-0123"}, f"{K}=\n", f"{GROQ}=\n"),
        # The other key of the same name is not in the way and stays.
        (
            f"{K}=${{{GROQ}}}\n",
            f"{GROQ}=gsk-0123\n{K}=sk-weaker\n",
            {K: "gsk-0123", GROQ: "gsk-0123"},
            f"{K}=\n",
            f"{GROQ}=\n{K}=sk-weaker\n",
        ),
        # Through a name of the user's own.
        (
            f"{CUSTOM}=${{MINE}}\nMINE=${{{K}}}\n",
            f"{K}=sk-0123\n",
            {CUSTOM: "sk-0123", K: "sk-0123"},
            f"{CUSTOM}=\nMINE=${{{K}}}\n",
            f"{K}=\n",
        ),
        # The fallback of a reference is a value in the file.
        (f"{K}=${{NOPE:-sk-default}}\n", "", {K: "sk-default"}, f"{K}=\n", ""),
        # Under a name of the user's own: our keys are moved, the rest is reported.
        (f"MINE=sk-0123\n{K}=${{MINE}}\n", "", {K: "sk-0123"}, f"MINE=sk-0123\n{K}=\n", ""),
    ],
)
def test_all_keys_are_moved_and_the_same_values_stay_in_use(
    experiment: str,
    folder: str,
    kept: dict[str, str],
    experiment_after: str,
    folder_after: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("exp/.env").write_text(experiment)
    Path(".env").write_text(folder)
    before = _in_use()
    offered = {
        one.name for one in Inventory.of(resolve(root=Path("exp"))).status((K, GROQ, CUSTOM))[1] if one.movable
    }
    assert main(["--root", "exp", "keys", "move", "--all"]) == 0
    assert _kept() == kept
    assert offered == set(kept)
    assert _in_use() == before
    assert (Path("exp/.env").read_text(), Path(".env").read_text()) == (experiment_after, folder_after)
    left = any(value in experiment_after + folder_after for value in (*kept.values(), "sk-weaker"))
    assert ("still holds its value or another" in capsys.readouterr().err) == left


def test_keys_that_refer_to_a_key_are_moved_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("exp/.env").write_text(f"{K}=sk-0123\n{CUSTOM}=${{{K}}}\n{GROQ}=gsk-other\n")
    assert main(["--root", "exp", "keys", "move", K]) == 0
    assert _kept() == {K: "sk-0123", CUSTOM: "sk-0123"}
    assert Path("exp/.env").read_text() == f"{K}=\n{CUSTOM}=\n{GROQ}=gsk-other\n"
    said = capsys.readouterr().out
    assert f"{K} is kept in the vault" in said
    assert f"{CUSTOM} is kept in the vault" in said


def test_a_key_that_refers_to_it_but_comes_from_elsewhere_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    KeyPlaces.of(resolve().settings).keep(CUSTOM, "its-own-key", "vault")
    Path("exp/.env").write_text(f"{K}=sk-0123\n{CUSTOM}=${{{K}}}\n")
    assert main(["--root", "exp", "keys", "move", K]) == 0
    assert _kept() == {K: "sk-0123", CUSTOM: "its-own-key"}


def test_a_reference_to_a_variable_of_the_environment_can_not_be_moved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_COMPANY_KEY", "sk-from-the-company")
    Path("exp/.env").write_text(f"{K}=${{MY_COMPANY_KEY}}\n")
    assert main(["--root", "exp", "keys", "status"]) == 0
    said = capsys.readouterr().out
    assert "(plain text)" in said
    assert "keys move" not in said
    assert main(["--root", "exp", "keys", "move", "--all"]) == 0
    assert "no .env file holds a key" in capsys.readouterr().out
    assert main(["--root", "exp", "keys", "move", K]) == 2
    assert Path("exp/.env").read_text() == f"{K}=${{MY_COMPANY_KEY}}\n"


def test_a_value_overridden_by_the_environment_is_moved_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(K, "sk-environment")
    Path("exp/.env").write_text(f"{K}=sk-file\n")
    assert main(["--root", "exp", "keys", "move", "--all"]) == 0
    assert _kept() == {K: "sk-file"}
    assert _in_use() == {K: "sk-environment"}


def test_the_next_write_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    """A hidden copy of the whole file, with its keys."""
    path = tmp_path / ".env"
    pid = os.fork()
    if pid == 0:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        dotenv.write(path, "OPENAI_API_KEY=sk-left-behind\n")
    os.waitpid(pid, 0)
    (left,) = tmp_path.iterdir()
    assert "sk-left-behind" in left.read_text()
    dotenv.write(path, "A=1\n")
    assert [one.name for one in tmp_path.iterdir()] == [".env"]


def test_a_comment_with_the_key_in_another_encoding_is_masked() -> None:
    text = f'# was: curl -H "key: sk%2F0123" and "sk\\/0123"\n{K}=sk/0123\n'
    assert (
        dotenv.without_values(text, [K], Redactor(["sk/0123"]).mask_known)
        == f'# was: curl -H "key: •••" and "•••"\n{K}=\n'
    )


def test_concurrent_writers_of_a_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            for turn in range(10):
                dotenv.change(path, partial(dotenv.with_value, name=f"NAME_{number}_{turn}", value="1"))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert len(path.read_text().splitlines()) == 40
