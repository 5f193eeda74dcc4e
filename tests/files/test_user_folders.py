"""A user without a home folder: light commands work, and what needs a place names the variables that give it."""

import pwd
import sys
from io import StringIO
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.files import user_folders
from bitnet_core.files.user_folders import NoHome, cache_folder, config_folder, expanded, state_folder
from bitnet_core.secrets.places import KeyPlaces
from bitnet_core.settings.resolve import resolve
from bitnet_core.teachers import stage_keys
from bitnet_core.teachers.hf.files import locate
from bitnet_core.tokenizer.hub import download
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_tui import crash
from bitnet_tui.view import key_rows
from bitnet_tui.view.spans import short

K = "OPENAI_API_KEY"
PLACE = {
    "config": "BITNET_VAULT, XDG_CONFIG_HOME or HOME",
    "state": "XDG_STATE_HOME or HOME",
    "cache": "BITNET_CACHE, XDG_CACHE_HOME or HOME",
}


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither HOME nor an entry in the system's list of users, as in a container started with a foreign uid."""

    def nobody(*_: object) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "BITNET_CACHE", *(f"XDG_{kind.upper()}_HOME" for kind in PLACE)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(pwd, "getpwnam", nobody)


@pytest.mark.parametrize(
    "command",
    [["config"], ["config", "--check"], ["keys"], ["keys", "addresses"], ["bench", "list"],
     ["keys", "status", K], ["keys", "list"], ["keys", "delete", K],
     ["init"], ["runs"], ["providers"], ["--version"]],
)  # fmt: skip
def test_light_commands_work(homeless: None, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("exp/logs").mkdir(parents=True)
    try:
        assert main(["--root", "exp", *command]) == 0
    except SystemExit as ended:
        assert ended.code == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_server_that_needs_no_key_gets_none(homeless: None) -> None:
    found = resolve({"TEACHER_PROVIDER": "vllm", "TEACHER_BASE_URL": "http://box/v1"})
    assert stage_keys.for_stage("collect", found) == stage_keys.StageKeys({})


@pytest.mark.parametrize("to", [[], ["--to", "vault"]])
def test_a_key_is_kept_only_where_a_variable_gives_a_place(
    homeless: None, to: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words").write_text("correct horse")
    monkeypatch.setenv("BITNET_VAULT_PASSPHRASE_FILE", str(tmp_path / "words"))

    def keep() -> int:
        monkeypatch.setattr(sys, "stdin", StringIO("sk-canary-0123456789"))
        return main(["keys", "set", K, *to])

    assert keep() == 1
    assert capsys.readouterr().err == (
        "bitnet: This user has no home folder, so there is no place for the vault; "
        "set BITNET_VAULT, XDG_CONFIG_HOME or HOME.\n"
    )
    for name, value in (("BITNET_VAULT", "v.json"), ("XDG_CONFIG_HOME", "config"), ("HOME", "home")):
        with monkeypatch.context() as patched:
            patched.setenv(name, str(tmp_path / value))
            assert keep() == 0
            assert KeyPlaces.of(resolve().settings).has_vault()


@pytest.mark.parametrize("kind", PLACE)
def test_each_folder_is_given_by_the_variables_that_its_error_names(
    homeless: None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"config": config_folder, "state": state_folder, "cache": cache_folder}[kind]
    with pytest.raises(NoHome, match=f"set {PLACE[kind]}"):
        folder()
    for name in (f"XDG_{kind.upper()}_HOME", "HOME"):
        with monkeypatch.context() as patched:
            patched.setenv(name, str(tmp_path))
            assert folder().is_relative_to(tmp_path)
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c"


@pytest.mark.parametrize("value", ["rel", "./rel", "../up", "a/b c", ".", "~/x", "$HOME/x", "file:/x"])
@pytest.mark.parametrize("kind", PLACE)
@pytest.mark.parametrize("of_kind", [True, False])
def test_a_relative_folder_is_named(
    homeless: None, kind: str, value: str, of_kind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"config": config_folder, "state": state_folder, "cache": cache_folder}[kind]
    name = f"XDG_{kind.upper()}_HOME" if of_kind else "HOME"
    monkeypatch.setenv(name, value)
    with pytest.raises(NoHome) as caught:
        folder()
    said = str(caught.value)
    assert said.startswith(f"{name}={value} gives no place for ")
    assert said.endswith("; it must be an absolute path.")


def test_versions_of_platformdirs_that_leave_the_tilde_are_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/bitnet-tui"))
    with pytest.raises(NoHome):
        user_folders.cache_folder()


@pytest.mark.parametrize("text", ["~", "~/x", "~nobody-here/x"])
def test_a_tilde_without_a_home_folder_is_called_that(homeless: None, text: str) -> None:
    (problem,) = resolve({"KD_PROMPTS_FILE": text}).problems
    assert problem.message == (
        f"KD_PROMPTS_FILE={text} (command line) is not allowed: its home folder is unknown here; "
        "set HOME or write the path out."
    )
    for use in (expanded, load_tokenizer, locate):
        with pytest.raises(BitnetError, match="set HOME or write the path out"):
            use(text)


def test_the_hub_has_no_cache_without_a_home_folder(homeless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # The hub's library works it out once, when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "~/.cache/huggingface/hub")
    with pytest.raises(BitnetError, match="no place for the hub's cache; set HF_HOME or HOME"):
        download("gpt2", ["config.json"], kind="model", fix="correct it")
    assert not Path("~").exists()


def test_the_app_shows_paths_and_reports_a_crash(homeless: None) -> None:
    assert short(Path("/x/y")) == "/x/y"
    assert "No report could be written" in crash.report(ValueError("x"))
    assert "encrypted vault" in key_rows.summary("there is no OS keyring here", None)[0].text


def test_a_home_that_may_not_be_looked_into_is_no_vault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sudo -u nobody` keeps root's HOME."""
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> object:
        if path.name == "vault.json":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    found = resolve({"TEACHER_PROVIDER": "vllm", "TEACHER_BASE_URL": "http://box/v1"})
    assert stage_keys.for_stage("collect", found) == stage_keys.StageKeys({})
    for command in (["keys"], ["keys", "list"]):
        assert main(command) == 0
        said = capsys.readouterr().err
        assert "vault.json can't be read (Permission denied); check its permissions." in said
        assert "Traceback" not in said
