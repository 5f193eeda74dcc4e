"""`bitnet keys`: setting, listing, deleting and moving, with a keyring and with a vault instead of one."""

import io
import json
import sys
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.secrets import places as key_places
from bitnet_core.secrets.find import FoundSecret, find_secrets
from bitnet_core.secrets.keyring_store import Keyring
from bitnet_core.secrets.places import KeyPlaces
from bitnet_core.settings.resolve import resolve

K = "OPENAI_API_KEY"
CANARY = "sk-canary-0123456789-wxyz"


@pytest.fixture
def passphrase(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = isolated / "passphrase"
    path.write_text("correct horse\n")
    monkeypatch.setenv("BITNET_VAULT_PASSPHRASE_FILE", str(path))
    return path


def _pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def _places() -> KeyPlaces:
    return KeyPlaces.of(resolve().settings)


def _json(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_set_refuses_where_no_place_takes_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], isolated: Path
) -> None:
    _pipe(monkeypatch, CANARY)
    assert main(["keys", "set", K]) == 1
    said = capsys.readouterr()
    assert "could not be kept: the OS keyring is switched off" in said.err
    assert "BITNET_VAULT_PASSPHRASE_FILE" in said.err
    assert said.err.count("\n") == 1
    assert not [path for path in isolated.rglob("*") if path.is_file()]


def test_names_and_places_may_be_typed_in_lower_case(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, CANARY)
    assert main(["keys", "set", K.lower(), "--to", "Vault"]) == 0
    assert main(["keys", "status", K.capitalize()]) == 0
    assert f"{K}: vault, ends in 'wxyz'" in capsys.readouterr().out


def test_a_wrong_passphrase_file_is_named(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, CANARY)
    assert main(["keys", "set", K]) == 0
    passphrase.write_text("another horse\n")
    key_places._open_vaults.clear()
    capsys.readouterr()
    assert main(["keys", "status", K]) == 0
    said = capsys.readouterr()
    assert said.out == f"{K}: vault (locked)\n"
    fault = f"{passphrase} (BITNET_VAULT_PASSPHRASE_FILE) is not the passphrase of {_places().vault}; "
    assert fault in said.err
    assert main(["keys", "delete", K]) == 1
    assert fault in capsys.readouterr().err


@pytest.mark.parametrize("value", ["sk-plain-0123456789", "schlüssel 🔑", "k" * 4096, "two\nlines\n\n", " spaces "])
def test_a_piped_value_is_kept_without_its_last_line_end(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    _pipe(monkeypatch, value + "\n")
    assert main(["keys", "set", K]) == 0
    assert f"{K} is kept in the vault" in capsys.readouterr().out
    assert _places().opened().read() == {K: value}


def test_plain_text_needs_the_flag_and_is_readable_by_its_owner_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, CANARY)
    assert main(["keys", "set", K, "--plain-text"]) == 0
    assert "as plain text" in capsys.readouterr().out
    assert Path(".env").read_text() == f"{K}={CANARY}\n"
    assert Path(".env").stat().st_mode & 0o777 == 0o600


def test_status_shows_the_origin_and_at_most_the_end_of_a_value(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, CANARY)
    main(["keys", "set", K, "--to", "vault"])
    Path(".env").write_text("GROQ_API_KEY=gsk-short\n")
    monkeypatch.setenv("HF_TOKEN", "hf-token-0123456789-abcd")
    capsys.readouterr()
    assert main(["keys", "status", "--json"]) == 0
    rows = {str(row["name"]): row for row in _json(capsys.readouterr().out)}
    assert {name: (row["origin"], row["end"]) for name, row in rows.items()} == {
        K: ("vault", "wxyz"),
        "HF_TOKEN": ("environment", "abcd"),
        "GROQ_API_KEY": (".env line 1 (plain text; `bitnet keys move GROQ_API_KEY` fixes that)", None),
    }
    passphrase.unlink()
    monkeypatch.delenv("BITNET_VAULT_PASSPHRASE_FILE")
    key_places._open_vaults.clear()
    assert main(["keys", "status", K, "MISTRAL_API_KEY"]) == 0
    assert capsys.readouterr().out == f"{K}: vault (locked)\nMISTRAL_API_KEY: not set\n"


def test_list_shows_what_each_place_holds(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, CANARY)
    main(["keys", "set", K])
    Path(".env").write_text(f"GROQ_API_KEY={CANARY}\n")
    monkeypatch.setenv("HF_TOKEN", "hf-token")
    capsys.readouterr()
    assert main(["keys", "list", "--json"]) == 0
    out = capsys.readouterr().out
    held = {str(row["place"]): row["names"] for row in _json(out)}
    env_file = str(Path(".env").absolute())
    assert held == {"environment": ["HF_TOKEN"], "keyring": [], "vault": [K], env_file: ["GROQ_API_KEY"]}
    assert CANARY not in out


def test_delete_removes_the_key(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, CANARY)
    main(["keys", "set", K])
    assert main(["keys", "delete", K]) == 0
    assert main(["keys", "delete", K]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{K} is deleted",
        f"{K} is in no keyring and no vault",
    ]
    assert _places().opened().read() == {}


def test_move_takes_the_value_out_and_keeps_the_comments(
    passphrase: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"# my keys\nexport {K}='{CANARY}' # work account\nSEED=7 # lucky\n# {K}={CANARY}\n"
    Path(".env").write_text(text)
    Path(".env").chmod(0o600)
    assert main(["keys", "move", K]) == 0
    assert "gone from" in capsys.readouterr().out
    assert Path(".env").read_text() == f"# my keys\nexport {K}= # work account\nSEED=7 # lucky\n# {K}=•••\n"
    assert Path(".env").stat().st_mode & 0o777 == 0o600
    assert _places().opened().read() == {K: CANARY}
    assert find_secrets([K], resolve())[K] == FoundSecret(CANARY, "vault")


def test_move_all_also_moves_keys_that_refer_to_another(passphrase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("exp").mkdir()
    Path(".env").write_text(f"{K}=key-number-one\nTEACHER_API_KEY=${{{K}}}\nSEED=1\n")
    Path("exp/.env").write_text(f"GROQ_API_KEY=key-number-two\n{K}=key-number-one\n")
    assert main(["--root", "exp", "keys", "move", "--all"]) == 0
    assert Path(".env").read_text() == f"{K}=\nTEACHER_API_KEY=\nSEED=1\n"
    assert Path("exp/.env").read_text() == f"GROQ_API_KEY=\n{K}=\n"
    assert _places().opened().read() == {
        K: "key-number-one",
        "TEACHER_API_KEY": "key-number-one",
        "GROQ_API_KEY": "key-number-two",
    }
    said = capsys.readouterr()
    assert said.out.count("TEACHER_API_KEY is kept in") == 1
    assert said.err == ""


def test_move_does_not_replace_the_key_in_use(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, "the-one-in-use")
    main(["keys", "set", K])
    Path(".env").write_text(f"{K}=an-older-one\n")
    assert main(["keys", "move", K]) == 1
    assert f"holds another {K}, which is the one in use" in capsys.readouterr().err
    assert Path(".env").read_text() == f"{K}=an-older-one\n"


def test_if_a_place_does_not_return_the_key_the_file_is_left_alone(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_text(f"{K}={CANARY}\n")
    monkeypatch.setattr(Keyring, "set", lambda *_: None)
    monkeypatch.setattr(Keyring, "read", lambda *_: {})
    assert main(["keys", "move", K]) == 1
    assert "did not return OPENAI_API_KEY as it was kept" in capsys.readouterr().err
    assert Path(".env").read_text() == f"{K}={CANARY}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["set"], "bitnet keys set needs one name"),
        (["set", "PATH"], "PATH is not the name of a key"),
        (["move"], "bitnet keys move needs names"),
        (["move", K], "No .env holds a value of OPENAI_API_KEY"),
        (["set", K], "No value for OPENAI_API_KEY came in"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, "")
    assert main(["keys", *arguments]) != 0
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def _prompts(monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> None:
    """A terminal at which these answers are typed, and then Ctrl-D."""

    def typed(_: str = "") -> str:
        if not answers:
            raise EOFError
        return answers.pop(0)

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("bitnet_core.cli.command.has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", typed)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([], "No value for OPENAI_API_KEY came in"),
        ([CANARY], "could not be kept"),
        ([CANARY, "correct horse"], "The two passphrases differ"),
    ],
)
def test_ctrl_d_at_a_prompt_is_a_one_line_error(
    answers: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _prompts(monkeypatch, answers)
    assert main(["keys", "set", K]) != 0
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize("arguments", [[], ["--plain-text"]])
@pytest.mark.parametrize("data", [None, b"sk-\xff-0123456789"])
def test_without_stdin_or_text_the_error_is_one_line(
    arguments: list[str],
    data: bytes | None,
    passphrase: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for errors in ("strict", "surrogateescape"):  # as Python reads stdin in a UTF-8 locale, and in C's
        stdin = None if data is None else io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors=errors)
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["keys", "set", K, *arguments]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert ("No value for" if data is None else "is not UTF-8 text") in said.err
        assert "0123456789" not in said.err
    assert not Path(".env").exists()


def test_plain_text_restricts_an_existing_file_to_its_owner_and_creates_a_new_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_text("SEED=1\n")
    Path(".env").chmod(0o644)
    _pipe(monkeypatch, CANARY)
    assert main(["keys", "set", K, "--plain-text"]) == 0
    assert Path(".env").read_text() == f"SEED=1\n{K}={CANARY}\n"
    assert Path(".env").stat().st_mode & 0o777 == 0o600
    _pipe(monkeypatch, CANARY)
    assert main(["keys", "set", K, "--plain-text", "--env", "new.env"]) == 0
    assert Path("new.env").read_text() == f"{K}={CANARY}\n"
    _pipe(monkeypatch, CANARY)
    assert main(["keys", "set", K, "--plain-text", "--to", "vault"]) == 2
    assert "give only one of them" in capsys.readouterr().err


def test_a_key_that_is_overridden_or_too_short_is_warned_about(
    passphrase: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _pipe(monkeypatch, CANARY)
    main(["keys", "set", K])
    assert capsys.readouterr().err == ""
    _pipe(monkeypatch, "12345")
    assert main(["keys", "set", K, "--plain-text"]) == 0
    said = capsys.readouterr().err
    assert f"{K} is shorter than 6 characters" in said
    assert f"{K} is also in the vault, and that one is used" in said
    monkeypatch.setenv(K, "sk-environment")
    _pipe(monkeypatch, CANARY)
    assert main(["keys", "set", K]) == 0
    assert f"{K} is also in the environment, and that one is used" in capsys.readouterr().err


def test_keys_without_an_action_shows_the_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf-token-0123456789-abcd")
    assert main(["keys"]) == 0
    assert capsys.readouterr().out == "HF_TOKEN: environment, ends in 'abcd'\n"


def test_the_traceback_of_a_bug_does_not_show_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(stage: str, resolution: object, ask: object) -> object:
        found = find_secrets([K], resolve())
        raise ZeroDivisionError(f"with {found[K].value!r} and {found}")

    monkeypatch.setenv(K, CANARY.replace("sk-", "unlike a key, "))
    monkeypatch.setattr("bitnet_core.teachers.stage_keys.for_stage", broken)
    assert main(["teacher", "--root", "exp"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: with '•••' and" in said
    assert "canary" not in said
