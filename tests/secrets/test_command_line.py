"""A key on the command line is refused and repeated nowhere; everything the command prints masks known keys."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import UsageError
from bitnet_core.runs.launch import launch
from bitnet_core.secrets import command_line, handover, known
from bitnet_core.secrets.known import resolve_and_remember

VALUE = "sk-argv-7f3a91"
K = "OPENAI_API_KEY"


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "set", K, VALUE],
        ["keys", "set", f"{K}={VALUE}"],
        ["keys", "set", K, "--value", VALUE],
        ["keys", "set", K, f"--value={VALUE}"],
        ["keys", "set", K, "--to", VALUE],
        ["keys", "set", K, "--", VALUE],
        ["keys", "set", K, f"-{VALUE}"],
        ["keys", "set", VALUE],
        ["keys", "set", K, "UPPERCASEKEY42"],
        ["keys", VALUE],
        ["keys", "delete", K, VALUE],
        ["keys", "status", VALUE, K],
        ["--set", K, VALUE],
        ["--set", K, VALUE, "train"],
        ["--set", f"{K}:{VALUE}", "train"],
        ["train", "--set", f"{K}={VALUE}"],
        ["config", "--set", f"{K}="],
        ["train", K, VALUE],
        ["train", "--api-key", VALUE],
        ["providers", "probe", "openai", f"--key={VALUE}"],
        ["chat", "--openai_api_key", VALUE, "hello"],
        ["train", f"--{K}={VALUE}"],
        ["train", f"{K.lower()}={VALUE}"],
    ],
)
def test_a_key_on_the_command_line_is_refused_without_repeating_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("bitnet: A value was given on the command line, where others can read it")
    assert "pipe the new one into `bitnet keys set" in said.err
    assert said.err.count("\n") == 1
    for part in (VALUE, VALUE[3:], "UPPERCASE"):
        assert part not in said.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["keys", "set", "PATH"], "PATH is not the name of a key"),
        (["keys", "sett", K], "invalid choice: 'sett'"),
        (["keys", "set", K, "--to", "valut"], "invalid choice: 'valut'"),
        (["trian"], "invalid choice: 'trian'"),
        (["keys", "set", K, "--plaintext"], "unrecognized arguments: --plaintext"),
        (["train", "--bogus"], "unrecognized arguments: --bogus"),
        (["keys", "set", K, "GROQ_API_KEY"], "bitnet keys set needs one name"),
    ],
)
def test_another_mistake_is_named(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    try:
        code = main(arguments)
    except SystemExit as left:
        code = int(str(left.code))
    assert code != 0
    assert sentence in capsys.readouterr().err


def test_a_question_that_begins_with_a_keys_name_is_a_question() -> None:
    command_line.refuse_values([], ["chat", f"{K}: what is it for?"])


def test_nothing_resolves_settings_without_remembering_their_secrets() -> None:
    root = Path(__file__).parents[2]
    plain = re.compile(r"settings\.resolve import .*\bresolve\b|settings import resolve\b")
    for path in (path for package in ("bitnet_core", "bitnet_tui") for path in (root / package).rglob("*.py")):
        assert path.name == "known.py" or not plain.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("arguments", [["--env", f"/nowhere/{VALUE}.env", "train"], [f"{VALUE}-action"]])
def test_errors_mask_known_keys(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(K, VALUE)
    with pytest.raises(SystemExit) if len(arguments) == 1 else pytest.MonkeyPatch.context():
        main(arguments)
    said = capsys.readouterr().err
    assert "•••" in said
    assert VALUE not in said


def test_warnings_and_checks_mask_known_keys(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text(f"{K}={VALUE}\nMODEL_{VALUE.replace('-', '_')}=1\nSEED={VALUE}\n")
    assert main(["config", "--check", "--json"]) == 2
    said = capsys.readouterr()
    assert "SEED=•••" in said.err
    assert "SEED=•••" in json.loads(said.out)["problems"][1]["message"]
    assert VALUE not in said.err + said.out


def test_a_bug_shows_no_key_that_was_resolved_typed_or_piped_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of the keys is in the environment, and none was read from a place that keeps keys."""
    Path("exp").mkdir()
    Path("exp/.env").write_text(f"{K}=in the file of the experiment\nMY_OWN=behind a reference\n")
    Path(".env").write_text(f"{K}=in the weaker file\nGROQ_API_KEY=${{MY_OWN}}\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed or piped\n"))

    def broken(*_: object) -> None:
        raise ZeroDivisionError(
            "in the file of the experiment, behind a reference, in the weaker file, typed or piped"
        )

    monkeypatch.setattr("bitnet_core.secrets.places.KeyPlaces.keep", broken)
    assert main(["--root", "exp", "keys", "set", "MISTRAL_API_KEY"]) == 1
    assert "ZeroDivisionError: •••, •••, •••, •••" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("mongodb+srv://me:Passw0rd-1@cluster0.x.net/?w=majority", "auth failed for Passw0rd-1"),
        ("mongodb://me:p%40ss%2Fword9@host", "auth failed for p@ss/word9"),
        ("mongodb://me:p%40ss%2Fword9@host", "auth failed for p%40ss%2Fword9"),
        ("mongodb://me:a@b/c-word@host:27017/db", "wrong: a@b/c-word"),
        ("https://me:secret-12345@dav.example.org", "secret-12345"),
    ],
)
def test_the_password_of_a_known_address_is_masked_alone(address: str, shown: str) -> None:
    known.remember([address])
    masked = known.redactor()(shown)
    assert "•••" in masked and not any(word in masked for word in ("Passw0rd", "word9", "c-word", "12345"))


def test_known_are_remembered_values_and_variables_named_like_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known.remember(["a remembered value", ""])
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "another program's")
    monkeypatch.setenv("USE_TOKEN", "always")
    assert {"a remembered value", "another program's"} <= known.values()
    assert "always" not in known.values()
    assert known.redactor()("a remembered value") == "•••"


@pytest.mark.parametrize("place", ["environment", ".env", "pipe"])
@pytest.mark.parametrize("name", ["OPENAI_MODEL", "DRIVE_ROOT"])
def test_a_stage_is_not_started_with_a_key_in_a_setting_or_an_argument(
    place: str, name: str, isolated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would be written to run.json unmasked."""
    keys: dict[str, str] = {}
    if place == "environment":
        monkeypatch.setenv(K, VALUE)
    elif place == ".env":
        Path(".env").write_text(f"{K}={VALUE}\n")
    else:
        keys = {K: VALUE}
    settings = resolve_and_remember({name: f"exp {VALUE}"}).settings
    with pytest.raises(UsageError, match=f"^{name} holds a key, and settings are written into run records"):
        launch(settings, "train", keys, argv=["bitnet"])
    with pytest.raises(UsageError, match="An argument of this command holds a key"):
        launch(
            resolve_and_remember({"DRIVE_ROOT": "exp"}).settings, "train", keys, argv=["bitnet", f"--bogus={VALUE}"]
        )
    assert not Path("exp").exists()


@pytest.mark.parametrize("name", ["KD_PROMPTS_FILE", "DRIVE_ROOT"])
def test_text_that_is_not_utf8_is_refused_before_it_is_recorded(name: str) -> None:
    settings = resolve_and_remember({"DRIVE_ROOT": "exp", name: "a\udcffb"}).settings
    with pytest.raises(UsageError, match=rf"^{name}=\S.*a\\udcffb is not UTF-8, .* rename"):
        launch(settings, "train", {}, argv=["bitnet"])
    with pytest.raises(UsageError, match="An argument of this command is not UTF-8"):
        launch(resolve_and_remember({"DRIVE_ROOT": "exp"}).settings, "train", {}, argv=["bitnet", "a\udcffb"])
    assert not list(Path().iterdir())


def test_a_placeholder_for_a_key_is_allowed_in_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMACPP_API_KEY", "llamacpp")
    handover.refuse_unrecordable({"TEACHER_PROVIDER": "llamacpp"}, ["bitnet", "llamacpp"], ["llamacpp"])
