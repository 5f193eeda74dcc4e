"""The screen of API keys: where each comes from; moving, setting and deleting them; no value is shown."""

import re
import threading
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from bitnet_core.secrets import known, vault
from bitnet_core.secrets import places as key_places
from bitnet_core.secrets.addresses import addresses, allow, note_arrived
from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable
from bitnet_core.secrets.places import KeyPlaces
from bitnet_core.settings.resolve import resolve
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens import keyed
from bitnet_tui.screens import vault as vault_screen
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.key_entry import KeyEntryScreen
from bitnet_tui.screens.keys import KeysScreen
from bitnet_tui.screens.vault import VaultScreen
from bitnet_tui.widgets.words import Words
from tests.secrets.fake_keyring import FakeKeyring
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_at, click_on, files_text, settled, shown, until, words
from tests.tui.simulated import experiment

CANARY = "sk-canary-0123456789-wxyz"
NAME, LABEL = "OPENAI_API_KEY", "OpenAI key"


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> FakeKeyring:
    return FakeKeyring(monkeypatch)


class EnvFile:
    """The `.env` of an experiment, with a key in it."""

    def __init__(self, home: Path) -> None:
        self._path = experiment(home, "hosted").root / ".env"
        self._path.write_text(f"# mine\nTEACHER_PROVIDER=openai\n{NAME}={CANARY} # work\n")

    def text(self) -> str:
        return self._path.read_text()


@pytest.fixture
def env_file(home: Path) -> EnvFile:
    return EnvFile(home)


async def _opened(pilot: Pilot[None]) -> None:
    """Open the keys over the only experiment."""
    await settled(pilot)
    await pilot.press("enter")
    await settled(pilot)
    await pilot.press("a")
    await until(pilot, lambda: isinstance(pilot.app.screen, KeysScreen))
    await settled(pilot)


def _highlight(pilot: Pilot[None], name: str) -> None:
    """Move the highlight to this key."""
    entries = pilot.app.screen.query_one(OptionList)
    entries.highlighted = entries.get_option_index(name)


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_it_shows_where_each_key_comes_from_but_no_value(
    home: Path, env_file: EnvFile, keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
):
    monkeypatch.setenv("GROQ_API_KEY", "gsk-canary-0123456789-abcd")
    keyring.held["HF_TOKEN"] = "hf-canary-0123456789-efgh"
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await _opened(pilot)
        for columns in (size[0], 200 - size[0], size[0]):
            await pilot.resize_terminal(columns, size[1])
            await settled(pilot)
            lines = [" ".join(one.split("│")[1].split()) for one in shown(pilot).splitlines() if "│" in one]
            whose = [one for one in lines if one.startswith("Other server's key not set")]
            assert whose == ["Other server's key not set" + (" CUSTOM_API_KEY" if columns > 80 else "")]
        assert any(one.startswith(f"{LABEL} plain text, ") and "…wxyz" in one for one in lines)
        assert any(one.startswith("Groq key environment …abcd") for one in lines)
        assert any(one.startswith("Hugging Face token keyring …efgh") for one in lines)
        assert "Anthropic key not set" in words(pilot)
        assert "canary" not in shown(pilot)
        assert "esc closes" in words(pilot)


async def test_m_moves_a_key_out_of_its_file(home: Path, env_file: EnvFile, keyring: FakeKeyring):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await _opened(pilot)
        _highlight(pilot, NAME)
        await pilot.press("m")
        await settled(pilot)
        await settled(pilot)
        assert f"“{LABEL}” moved out of" in words(pilot)
        assert f"{LABEL} keyring …wxyz" in words(pilot)
        await pilot.press("m")
        await settled(pilot)
        assert f"“{LABEL}” does not come from a .env." in words(pilot)
    assert keyring.held == {NAME: CANARY}
    assert env_file.text() == f"# mine\nTEACHER_PROVIDER=openai\n{NAME}= # work\n"


async def test_d_takes_back_what_was_allowed(home: Path, keyring: FakeKeyring):
    experiment(home, "hosted")
    note_arrived({"OPENAI_BASE_URL": "https://evil.example"}, "exp", {})
    allow(NAME, "https://evil.example")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await _opened(pilot)
        _highlight(pilot, NAME)
        await settled(pilot)
        assert "It was allowed to go to https://evil.example." in words(pilot)
        await click_on(pilot, "d take back")
        await settled(pilot)
        await settled(pilot)
        assert f"“{LABEL}” is no longer allowed to go to https://evil.example." in words(pilot)
        assert "d take back" not in words(pilot)
        await pilot.press("d")
        await settled(pilot)
        assert f"“{LABEL}” was not allowed to go to any address" in words(pilot)
    assert [one.allowed for one in addresses()] == [()]


async def test_without_a_keyring_the_key_goes_to_the_vault_or_stays_in_the_file(
    home: Path, env_file: EnvFile, monkeypatch: pytest.MonkeyPatch
):
    before, slow = env_file.text(), threading.Event()

    def unlocks(path: Path, passphrase: str) -> object:
        slow.wait(60)
        return key_places.unlock_vault(path, passphrase)

    monkeypatch.setattr(vault_screen, "unlock_vault", unlocks)
    monkeypatch.setattr(keyed, "_LONG_SECONDS", 1)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await _opened(pilot)
        _highlight(pilot, NAME)
        await pilot.press("m")
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        told = [str(one.content) for one in pilot.app.screen.query(Words)]  # beside it is what is below the dialog
        assert any("Keys can be kept in an encrypted file instead." in one for one in told)
        assert "passphrase, at least 8 characters" in words(pilot)
        await pilot.resize_terminal(60, 15)
        await settled(pilot)
        assert "Create a vault for keys" in words(pilot) and "Cancel Create" in words(pilot)
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert "No key was kept: the OS keyring is switched off" in words(pilot)
        assert "BITNET_VAULT" not in words(pilot)
        assert env_file.text() == before
        await click_on(pilot, "m move")
        await pilot.press("tab", "enter")
        assert "The passphrase is empty: type it." in words(pilot)
        for field in ("passphrase, at least", "repeat the passphrase"):
            await click_on(pilot, field)
            await pilot.press(*"correct horse")
        place = pilot.app.screen.query_one(".card").region
        await click_at(pilot, "Create", last=True)
        await until(pilot, lambda: bool(re.search(r"Opening… \d s", words(pilot))))
        assert pilot.app.screen.query_one(".card").region == place
        slow.set()
        await until(pilot, lambda: f"{LABEL} vault …wxyz" in words(pilot))
    (made,) = key_places._open_vaults.values()
    assert made.read() == {NAME: CANARY}
    assert CANARY not in files_text(home)


async def test_a_key_is_typed_unseen_kept_and_deleted_after_a_question(home: Path, keyring: FakeKeyring):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("a")
        await settled(pilot)
        _highlight(pilot, "MISTRAL_API_KEY")
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, KeyEntryScreen)
        assert "It will be kept in the OS keyring." in words(pilot)
        await pilot.press("enter")
        assert [one.message for one in pilot.app._notifications] == ["! The key is empty: type or paste it."]
        await pilot.press(*"typed-canary")
        field = pilot.app.screen.query_one("#value", Input)
        for written, key in (
            ("user-key:xyz", "user-key:xyz"),
            ('{"base_url": "https://x.example", "api_key": "k2"}', "k2"),
            ("API key: typed-canary-0123\n", "typed-canary-0123"),
        ):
            field.value = ""
            pilot.app.post_message(events.Paste(written))
            await settled(pilot)
            assert field.value == key
        assert "canary" not in shown(pilot)
        await pilot.press("enter")
        await settled(pilot)
        await settled(pilot)
        assert "“Mistral key” is kept in the OS keyring." in words(pilot)
        assert keyring.held == {"MISTRAL_API_KEY": "typed-canary-0123"}
        assert "typed-canary-0123" in known.values()
        await pilot.press("x")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press("n")
        await settled(pilot)
        assert keyring.held
        await pilot.press("x", "y")
        await settled(pilot)
        assert keyring.held
        await pilot.press("enter")
        await settled(pilot)
        await settled(pilot)
        assert "“Mistral key” is deleted." in words(pilot)
        assert keyring.held == {}


async def test_a_key_that_is_in_the_vault_already_stays_there(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
):
    vault.create(path := isolated / "vault.json", "correct horse").set("MISTRAL_API_KEY", "before")
    monkeypatch.setenv("BITNET_VAULT", str(path))
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("a")
        await settled(pilot)
        _highlight(pilot, "MISTRAL_API_KEY")
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press(*"after", "enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        assert f"“Mistral key” is in {path}, which is locked." in words(pilot)
        assert sum(path.name in str(one.content) for one in pilot.app.screen.query(Words)) == 1
        assert "instead" not in words(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert f"No key was kept: “Mistral key” is in {path}, which is locked." in words(pilot)


@pytest.mark.parametrize("where", ["key", "new passphrase", "new experiment"])
async def test_a_hidden_field_is_never_copied(
    home: Path, keyring: FakeKeyring, where: str, monkeypatch: pytest.MonkeyPatch
):
    """Textual sends what is copied to the terminal, which may be on another machine."""
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        if where == "new experiment":
            await pilot.press("n")
            await settled(pilot)
            await pilot.press("ctrl+n")
            await settled(pilot)
            cards = pilot.app.screen.query_one("#cards", OptionList)
            cards.highlighted = cards.get_option_index("openai")
        else:
            pilot.app.push_screen(
                KeyEntryScreen(NAME, "the OS keyring")
                if where == "key"
                else VaultScreen(home / "v.json", "Why.", new=True)
            )
        await settled(pilot)
        fields = [field for field in pilot.app.screen.query(Input) if field.password]
        assert len(fields) == (2 if where == "new passphrase" else 1)
        written: list[str] = []
        driver = pilot.app._driver
        assert driver is not None
        monkeypatch.setattr(driver, "write", written.append)
        for field in fields:
            field.display = True
            for above in field.ancestors_with_self:
                above.display = True
            field.value = CANARY
            field.focus()
            await pilot.press("ctrl+a", "ctrl+c", "ctrl+x")
            field.select_all()
            await pilot.press("ctrl+c", "super+c", "ctrl+x")
            assert field.value == CANARY
        assert pilot.app.clipboard == ""
        assert not [text for text in written if "]52;" in text]


async def test_a_key_behind_a_variable_is_not_offered_to_be_moved(
    home: Path, keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_COMPANY_KEY", CANARY)
    (experiment(home, "hosted").root / ".env").write_text(f"TEACHER_PROVIDER=openai\n{NAME}=${{MY_COMPANY_KEY}}\n")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await _opened(pilot)
        _highlight(pilot, NAME)
        await settled(pilot)
        assert "m move" not in words(pilot)
        await pilot.press("m")
        await settled(pilot)
        assert f"“{LABEL}” refers to an environment variable." in words(pilot)


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_a_problem_with_the_vault_hides_nothing(
    home: Path,
    env_file: EnvFile,
    keyring: FakeKeyring,
    isolated: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
):
    """Neither the last action nor the keys."""
    vault.create(KeyPlaces.of(resolve().settings).vault, "right horse").set("GROQ_API_KEY", CANARY)
    key_places._open_vaults.clear()
    (isolated / "words").write_text("wrong horse")
    monkeypatch.setenv("BITNET_VAULT_PASSPHRASE_FILE", str(isolated / "words"))
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await _opened(pilot)
        note = f"{isolated / 'words'} (BITNET_VAULT_PASSPHRASE_FILE) is not the passphrase of"
        card = "".join(one.split("│")[1] for one in shown(pilot).splitlines() if "│" in one)
        assert "".join(note.split()) in "".join(card.split())
        _highlight(pilot, NAME)
        await pilot.press("m")
        await settled(pilot)
        await settled(pilot)
        said = words(pilot)
        assert f"“{LABEL}” moved out of" in said
        assert "(BITNET_VAULT_PASSPHRASE_FILE) is" in said
        assert "Groq key vault (locked)" in said
        assert "esc closes" in said


async def test_a_damaged_vault_is_reported_beside_the_keys(home: Path, env_file: EnvFile, keyring: FakeKeyring):
    path = KeyPlaces.of(resolve().settings).vault
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await _opened(pilot)
        assert "is damaged; restore a copy" in words(pilot)
        assert f"{LABEL} plain text" in words(pilot)


async def test_a_keyring_that_does_not_answer_is_reported_and_hides_nothing(
    home: Path, env_file: EnvFile, monkeypatch: pytest.MonkeyPatch
):
    def silent(*_: object) -> dict[str, str]:
        raise KeyringUnusable("silent")

    monkeypatch.setattr(Keyring, "read", silent)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await _opened(pilot)
        assert "The OS keyring gave no answer in 5 s; the first key goes into" in words(pilot)
        assert f"{LABEL} plain text" in words(pilot)
