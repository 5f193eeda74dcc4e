"""The keys of a target: only its own, from every place, and a replaced one is kept where it is found again."""

from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.secrets import places
from bitnet_core.secrets.known import redactor, resolve_and_remember
from bitnet_core.secrets.places import KeyPlaces
from bitnet_core.settings.resolve import from_values
from bitnet_core.storage import finding_keys

OLD, NEW = "old-token-0123456789", "new-token-9876543210"
NAME = "BOX_REFRESH_TOKEN"


@pytest.fixture
def vault(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vault that opens by itself."""
    (isolated / "passphrase").write_text("correct horse battery\n")
    monkeypatch.setenv("BITNET_VAULT_PASSPHRASE_FILE", str(isolated / "passphrase"))
    return isolated


def box() -> None:
    Path(".env").write_text(f"STORAGE_BACKEND=box\n{NAME}={OLD}\nOPENAI_API_KEY=sk-another-0123456789\n")


def test_only_the_targets_keys_are_found() -> None:
    box()
    keys = finding_keys.find_keys(resolve_and_remember())
    assert dict(keys.values) == {NAME: OLD}
    assert OLD not in repr(keys)


def test_a_replaced_key_is_kept_in_the_vault_and_found_there(vault: Path) -> None:
    box()
    said: list[str] = []
    finding_keys.find_keys(resolve_and_remember(), on_trouble=said.append).keep(NAME, NEW)
    assert finding_keys.find_keys(resolve_and_remember()).get(NAME) == NEW
    assert said == []
    assert NEW not in redactor()(f"it is {NEW}")


def test_without_keyring_and_vault_it_is_written_over_the_one_in_the_file() -> None:
    box()
    said: list[str] = []
    finding_keys.find_keys(resolve_and_remember(), on_trouble=said.append).keep(NAME, NEW)
    assert f"{NAME}={NEW}\n" in Path(".env").read_text()
    assert OLD not in Path(".env").read_text()
    assert Path(".env").stat().st_mode & 0o777 == 0o600
    assert finding_keys.find_keys(resolve_and_remember()).get(NAME) == NEW
    assert said == []


def test_a_key_that_is_kept_nowhere_is_said_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_BACKEND", "box")
    monkeypatch.setenv(NAME, OLD)
    said: list[str] = []
    finding_keys.find_keys(resolve_and_remember(), on_trouble=said.append).keep(NAME, NEW)
    assert "take it out of the environment" in said[0]
    assert "could not be kept" in said[1]
    assert not any(NEW in one or OLD in one for one in said)


def test_a_stage_keeps_what_was_piped_in(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_values({"STORAGE_BACKEND": "box", "BITNET_KEYRING": "none",
                            "BITNET_VAULT_PASSPHRASE_FILE": str(vault / "passphrase")})  # fmt: skip
    keys = finding_keys.keys_of_stage(settings, {NAME: OLD, "OPENAI_API_KEY": "sk-another-0123456789"})
    assert dict(keys.values) == {NAME: OLD}
    keys.keep(NAME, NEW)
    assert KeyPlaces.of(settings).read_back(NAME, "vault") == NEW
    monkeypatch.setattr(places, "_open_vaults", {})
    said: list[str] = []
    locked = from_values({"STORAGE_BACKEND": "box", "BITNET_KEYRING": "none"})
    finding_keys.keys_of_stage(locked, {NAME: OLD}, said.append).keep(NAME, NEW)
    assert len(said) == 1
    assert "could not be kept" in said[0]
    assert NEW not in said[0]


def test_keys_that_stayed_in_a_locked_vault_are_not_said_to_be_missing(isolated: Path) -> None:
    settings = from_values({"STORAGE_BACKEND": "s3", "DRIVE_ROOT": str(isolated)})
    assert dict(finding_keys.keys_of_stage(settings, {}).values) == {}  # those of the machine, if it has any
    where = KeyPlaces.of(settings)
    places.unlock_vault(where.vault, "correct horse battery").set("AWS_SECRET_ACCESS_KEY", OLD)
    with pytest.raises(
        BitnetError, match=r"AWS_SECRET_ACCESS_KEY is in .*, which was locked .*; `bitnet store push`"
    ):
        finding_keys.keys_of_stage(settings, {})
    assert dict(finding_keys.keys_of_stage(settings, {"AWS_SECRET_ACCESS_KEY": NEW}).values)
