"""An experiment that was opened from a storage target sends this machine's keys only where its user allows it."""

import json
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from tests.cli.stored import answer, complaint
from tests.cli.test_providers import HELLO, KEY
from tests.teachers.server import ChatServer


@pytest.fixture
def fetched(exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy whose settings lead to a stranger's host, on a machine with a key."""
    (exp / ".env").write_text("PROVIDER=openai\nOPENAI_MODEL=m\nOPENAI_BASE_URL=https://evil.example:8443/v1\n")
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "open", "local:exp", "new")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return Path("new").absolute()


@pytest.mark.parametrize("command", [("collect",), ("teacher",), ("pipeline",), ("chat", "hello")])
def test_no_command_sends_a_key_to_an_address_that_came_along(
    fetched: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    said = complaint(capsys, "--root", str(fetched), *command)
    assert "OPENAI_API_KEY would go to https://evil.example:8443 (OPENAI_BASE_URL, new/.env line" in said
    assert "an address that came with exp from" in said
    assert "allow it with `bitnet keys allow OPENAI_API_KEY https://evil.example:8443`, or change" in said
    assert KEY not in said
    assert not list(fetched.glob("logs/*/run.json"))


def test_a_probe_says_it_in_its_report(fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--root", str(fetched), "providers", "probe", "openai", code=1)
    assert "OPENAI_API_KEY would go to https://evil.example:8443" in found["problem"]


def test_renaming_or_copying_its_folder_or_its_settings_changes_nothing(
    fetched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = fetched.rename(fetched.with_name("moved"))
    assert "OPENAI_API_KEY would go to" in complaint(capsys, "--root", str(moved), "collect")
    Path("own").mkdir()
    Path("own/.env").write_text((moved / ".env").read_text())
    assert "OPENAI_API_KEY would go to" in complaint(capsys, "--root", "own", "collect")


def test_an_allowed_address_gets_the_key(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stranger's host is one more name of this machine, so that it is seen what it gets."""
    monkeypatch.setenv("no_proxy", (host := "0.0.0.0"))  # noqa: S104 - nothing listens there
    with ChatServer(lambda _number, _asked: HELLO) as server:
        address = server.base_url.replace("127.0.0.1", host)
        (exp / ".env").write_text(f"PROVIDER=openai\nOPENAI_MODEL=m\nOPENAI_BASE_URL={address}\n")
        answer(capsys, "--root", str(exp), "store", "push")
        answer(capsys, "open", "local:exp", "new")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert "would go to" in complaint(capsys, "--root", "new", "chat", "hello")
        assert server.asked == []
        allowed = answer(capsys, "keys", "allow", "openai_api_key", address)
        assert allowed == {"name": "OPENAI_API_KEY", "address": address.removesuffix("/v1")}
        assert main(["--root", "new", "chat", "hello"]) == 0
        assert [one.headers["Authorization"] for one in server.asked] == [f"Bearer {KEY}"]


def test_usual_and_local_addresses_are_never_asked_about(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], isolated: Path
) -> None:
    (exp / ".env").write_text("OPENAI_BASE_URL=https://api.openai.com/v1\nVLLM_BASE_URL=http://127.0.0.1:9/v1\n")
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "open", "local:exp", "new")
    assert not (isolated / ".local/state/bitnet-tui/addresses.json").exists()


@pytest.mark.parametrize("words", [["OPENAI_API_KEY"], [], ["OPENAI_API_KEY", "https://a", "https://b"]])
def test_allowing_needs_a_key_and_an_address(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    capsys.readouterr()
    assert main(["keys", "allow", *words]) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("value", ["sk-0123456789abcdef", "https://u:sk-0123456789abcdef@a", "https://a?k=sk-012345"])
def test_a_key_in_place_of_an_address_is_refused_and_not_repeated(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    said = complaint(capsys, "keys", "allow", "OPENAI_API_KEY", value, code=2)
    assert "A value was given on the command line" in said and "sk-0" not in said


def test_what_a_copy_can_bring_beside_an_address(fetched: Path) -> None:
    """The list of the user is outside every experiment, and holds only addresses."""
    state = json.loads((Path.home() / ".local/state/bitnet-tui/addresses.json").read_text())
    assert sorted(state["arrived"]) == ["https://api.openai.com", "https://evil.example:8443"]
    assert state["allowed"] == {"https://api.openai.com": ["OPENAI_API_KEY"]}
    assert state["teachers"] == {"openai": "https://api.openai.com"}


def test_the_teachers_own_key_does_not_follow_a_stored_provider(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (exp / ".env").write_text("TEACHER_PROVIDER=groq\nTEACHER_MODEL=m\n")
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "open", "local:exp", "new")
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    said = complaint(capsys, "--root", "new", "collect")
    assert "TEACHER_API_KEY would go to https://api.groq.com (TEACHER_PROVIDER, new/.env line" in said


def test_allowed_addresses_are_listed_and_taken_back(fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "https://evil.example:8443"
    answer(capsys, "keys", "allow", "OPENAI_API_KEY", evil)
    assert main(["keys", "addresses"]) == 0
    assert f"{evil}: OPENAI_API_KEY (it came with exp from" in capsys.readouterr().out
    taken = answer(capsys, "keys", "disallow", "openai_api_key", f"{evil}/v1")
    assert taken == {"name": "OPENAI_API_KEY", "address": evil}
    assert main(["keys", "addresses"]) == 0
    assert f"{evil}: no keys (it came with exp from" in capsys.readouterr().out
    assert "OPENAI_API_KEY would go to" in complaint(capsys, "--root", str(fetched), "collect")
    assert "was not allowed to go to" in complaint(capsys, "keys", "disallow", "OPENAI_API_KEY", evil, code=2)


def test_without_addresses_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "addresses"]) == 0
    assert capsys.readouterr().out == "no address came with an experiment, and no key was allowed to go to one\n"
