"""No key goes to an address that came with an experiment from a storage target until the user allows it."""

from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.secrets.addresses import (
    Address,
    NotAllowed,
    addresses,
    allow,
    disallow,
    note_arrived,
    origin_of,
    require_allowed,
)
from bitnet_core.secrets.find import find_secrets
from bitnet_core.settings.resolve import from_values, resolve

EVIL = "https://evil.example/v1"
USUAL = {
    "openai": "https://api.openai.com/v1",
    "groq": "https://api.groq.com/openai/v1",
    "vllm": "http://127.0.0.1:8000",
}


def arrive(source: str = "exp", **values: str) -> None:
    note_arrived(values or {"OPENAI_BASE_URL": EVIL}, source, USUAL)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://Evil.example/v1", "https://evil.example:443"),
        ("http://evil.example:80/a/b?c", "http://evil.example/"),
        ("http://[FE80::1]:8000/v1", "http://[fe80::1]:8000"),
        (" https://evil.example/v1 ", "https://evil.example"),
    ],
)
def test_one_server_is_one_origin(one: str, other: str) -> None:
    assert origin_of(one) == origin_of(other)


@pytest.mark.parametrize(
    "address",
    [
        "http://evil.example",
        "http://evil.example:8000/v1",
        "https://api.openai.com@evil.example/v1",
        "https://evil.example\\@api.openai.com/v1",
        "https://api.openai.com\\.evil.example/v1",
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://api.openai.com.evil.example/v1",
        "http://127.0.0.1.evil.example/v1",
        "http://localhost@evil.example/v1",
        "http://0.0.0.0:8000/v1",
        "https://[::1].evil.example/v1",
        "https://evil.example:99999/v1",
        "evil.example",
        "//evil.example/v1",
    ],
)
def test_an_address_on_another_machine_is_foreign(address: str) -> None:
    arrive(OPENAI_BASE_URL=address)
    assert [one.allowed for one in addresses()] == [()]


@pytest.mark.parametrize(
    "address",
    ["https://api.openai.com/v1", "https://API.openai.com:443/v2", "http://127.0.0.1:8000/v1", "http://localhost:1",
     "http://127.9.9.9/v1", "http://[::1]:8080/v1"],
)  # fmt: skip
def test_this_machine_and_the_usual_addresses_are_not(address: str) -> None:
    arrive(OPENAI_BASE_URL=address, KD_PROMPTS_FILE=EVIL, PROVIDER="vllm")
    assert addresses() == ()


@pytest.mark.parametrize(
    ("values", "names", "refused"),
    [
        ({"OPENAI_BASE_URL": EVIL}, ["OPENAI_API_KEY"], "OPENAI_API_KEY"),
        ({"OPENAI_BASE_URL": EVIL}, ["GROQ_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"], ""),
        ({"TEACHER_PROVIDER": "openai", "OPENAI_BASE_URL": EVIL}, ["TEACHER_API_KEY"], "TEACHER_API_KEY"),
        ({"TEACHER_PROVIDER": "openai", "TEACHER_BASE_URL": EVIL}, ["OPENAI_API_KEY"], "OPENAI_API_KEY"),
        ({"TEACHER_PROVIDER": "groq", "TEACHER_BASE_URL": EVIL}, ["OPENAI_API_KEY"], ""),
        ({"PROVIDER": "groq", "TEACHER_BASE_URL": EVIL}, ["GROQ_API_KEY"], "GROQ_API_KEY"),
        ({"TEACHER_PROVIDER": "openai", "TEACHER_BASE_URL": "http://10.0.0.1/v1", "OPENAI_BASE_URL": EVIL},
         ["OPENAI_API_KEY", "TEACHER_API_KEY"], ""),
        ({}, ["OPENAI_API_KEY", "TEACHER_API_KEY", "NOTIFY_WEBHOOK"], ""),
    ],
)  # fmt: skip
def test_the_address_that_a_key_would_go_to_counts(values: dict[str, str], names: list[str], refused: str) -> None:
    settings = from_values(values)
    require_allowed(names, settings)
    arrive("exp from a folder")
    if not refused:
        require_allowed(names, settings)
        return
    with pytest.raises(NotAllowed, match=f"^{refused} would go to https://evil.example ") as caught:
        require_allowed(names, settings)
    assert f"`bitnet keys allow {refused} https://evil.example`" in str(caught.value)
    assert allow(refused, "https://evil.example:443/other") == "https://evil.example"
    require_allowed([refused], settings)


def test_one_key_is_allowed_and_no_other() -> None:
    arrive()
    allow("GROQ_API_KEY", EVIL)
    with pytest.raises(NotAllowed):
        require_allowed(["OPENAI_API_KEY"], from_values({"OPENAI_BASE_URL": EVIL}))
    arrive("another one")
    require_allowed(["GROQ_API_KEY"], from_values({"GROQ_BASE_URL": EVIL}))


@pytest.mark.parametrize(
    ("arrived", "values", "refused"),
    [
        ({"TEACHER_PROVIDER": "groq"}, {"TEACHER_PROVIDER": "groq"}, "TEACHER_PROVIDER"),
        ({"PROVIDER": "groq"}, {"PROVIDER": "groq"}, "PROVIDER"),
        ({"PROVIDER": "groq"}, {"TEACHER_PROVIDER": "openai", "OPENAI_BASE_URL": USUAL["groq"]}, "OPENAI_BASE_URL"),
        ({"PROVIDER": "groq", "GROQ_BASE_URL": USUAL["groq"]}, {"PROVIDER": "groq"}, "PROVIDER"),
        ({"PROVIDER": "openai", "TEACHER_PROVIDER": "groq"}, {"PROVIDER": "groq"}, "PROVIDER"),
        ({"TEACHER_BASE_URL": USUAL["groq"]}, {"PROVIDER": "groq", "GROQ_BASE_URL": USUAL["groq"]}, "GROQ_BASE_URL"),
        ({"PROVIDER": "groq"}, {"PROVIDER": "openai"}, ""),
        ({"PROVIDER": "vllm"}, {"PROVIDER": "vllm"}, ""),
        ({"GROQ_BASE_URL": USUAL["groq"]}, {"PROVIDER": "groq"}, ""),
    ],
)
def test_the_teachers_own_key_does_not_follow_to_another_provider(
    arrived: dict[str, str], values: dict[str, str], refused: str
) -> None:
    """TEACHER_API_KEY is no provider's: settings that came along must not choose who gets it."""
    settings = from_values(values)
    arrive(**arrived)
    require_allowed(["GROQ_API_KEY", "VLLM_API_KEY"], settings)
    if not refused:
        require_allowed(["TEACHER_API_KEY"], settings)
        return
    with pytest.raises(NotAllowed, match=rf"^TEACHER_API_KEY would go to https://api\.groq\.com \({refused}, "):
        require_allowed(["TEACHER_API_KEY"], settings)
    allow("TEACHER_API_KEY", USUAL["groq"])
    require_allowed(["TEACHER_API_KEY"], settings)


def test_a_providers_key_does_not_go_to_another_provider() -> None:
    arrive(OPENAI_BASE_URL=USUAL["groq"])
    require_allowed(["GROQ_API_KEY"], from_values({"GROQ_BASE_URL": USUAL["groq"]}))
    with pytest.raises(NotAllowed, match=r"^OPENAI_API_KEY would go to https://api\.groq\.com "):
        require_allowed(["OPENAI_API_KEY"], from_values({"OPENAI_BASE_URL": USUAL["groq"]}))


def test_what_was_allowed_is_listed_and_can_be_taken_back() -> None:
    arrive("exp")
    allow("OPENAI_API_KEY", EVIL)
    allow("HF_TOKEN", "https://other.example")
    evil, other = "https://evil.example", "https://other.example"
    assert addresses() == (Address(evil, "exp", ("OPENAI_API_KEY",)), Address(other, "", ("HF_TOKEN",)))
    assert disallow("OPENAI_API_KEY", EVIL) == evil
    assert disallow("HF_TOKEN", other) == other
    assert addresses() == (Address(evil, "exp", ()),)
    with pytest.raises(NotAllowed):
        require_allowed(["OPENAI_API_KEY"], from_values({"OPENAI_BASE_URL": EVIL}))
    with pytest.raises(UsageError, match=r"was not allowed to go to https://evil\.example"):
        disallow("OPENAI_API_KEY", EVIL)


def test_only_a_key_that_is_found_is_refused(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive()
    values = {"OPENAI_BASE_URL": EVIL}
    assert find_secrets(["OPENAI_API_KEY"], resolve(values)) == {}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    with pytest.raises(NotAllowed):
        find_secrets(["OPENAI_API_KEY"], resolve(values))
    assert find_secrets(["OPENAI_API_KEY"], resolve(values), sent=False)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"arrived": [], "allowed": {}}', '{"arrived": {"a": 1}, "allowed": {}}']
)
def test_a_damaged_list_sends_nothing(isolated: Path, text: str) -> None:
    arrive()
    path = isolated / ".local/state/bitnet-tui/addresses.json"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(text)
    with pytest.raises(BitnetError, match=r"addresses\.json, which says where keys may not go, is damaged"):
        require_allowed(["OPENAI_API_KEY"], from_values({"OPENAI_BASE_URL": "http://10.0.0.1/v1"}))


def test_the_command_that_allows_a_very_long_address_has_all_of_it() -> None:
    origin = f"https://{'a' * 249}.com:65535"
    note_arrived({"OPENAI_BASE_URL": f"{origin}/v1"}, "s3:kd", {})
    with pytest.raises(BitnetError, match=f"allow it with `bitnet keys allow OPENAI_API_KEY {origin}`"):
        require_allowed(["OPENAI_API_KEY"], from_values({"OPENAI_BASE_URL": f"{origin}/v1"}))
    allow("OPENAI_API_KEY", origin)
    require_allowed(["OPENAI_API_KEY"], from_values({"OPENAI_BASE_URL": f"{origin}/v1"}))


@pytest.mark.parametrize(
    "address",
    ["", "evil.example", "ftp://evil.example", "https://", "file:///etc/passwd", f"https://{'a' * 254}:8000"],
)
def test_what_is_no_server_is_not_allowed(address: str) -> None:
    with pytest.raises(UsageError, match="is not a server's address"):
        allow("OPENAI_API_KEY", address)
