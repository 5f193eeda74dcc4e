"""A canary key that is really used leaks nowhere: not to files, argv, environments, screens or crash reports.

Every process of the machine is scanned while a stage uses the key, and every file below the test's HOME afterwards.
"""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from textual.widgets import Input, OptionList

from bitnet_core.collecting.answers import AnswerReader
from bitnet_core.collecting.journal import Journal
from bitnet_core.collecting.prompt_check import PromptCheck
from bitnet_core.collecting.requests import Collection
from bitnet_core.collecting.shards import ShardMaker
from bitnet_core.prompts.prompt import PACKAGED_PROMPTS, load_prompts
from bitnet_core.secrets import places as key_places
from bitnet_core.secrets import vault
from bitnet_core.settings import dotenv
from bitnet_core.settings.values import CollectOptions, TeacherOptions
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.probe import Verdict
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_tui.app import BitnetApp
from bitnet_tui.services import planning
from tests.builders import stage_context
from tests.teachers.fake_teacher import FakeTeacher
from tests.teachers.server import Asked, Canned, ChatServer
from tests.tui.plans import PLAN

CANARY = 'sk-canary/ü"7f3a91c2+nobody-else-has-this'
WIRE = "sk-canary-7f3a91c2+nobody/else=has\\this"
"""A key for HTTP, which allows ASCII only."""
KEY = "OPENAI_API_KEY"
FAKE_STAGES = Path(__file__).parents[1] / "runs" / "fake_stages"


def spellings(key: str) -> set[bytes]:
    texts = {
        key,
        key[:-1],
        key[1:],
        json.dumps(key)[1:-1],
        json.dumps(key, ensure_ascii=False)[1:-1],
        repr(key)[1:-1],
    }
    texts |= {quote(key), quote(key, safe=""), quote(key, safe="")[3:]}
    return {text.encode() for text in texts} | {base64.b64encode(key.encode()).rstrip(b"="), key.encode("utf-16-le")}


def assert_clean(data: bytes, key: str, where: object) -> None:
    found = [spelling for spelling in spellings(key) if spelling in data]
    assert not found, f"{found[0]!r} stands in {where}"


def assert_no_file_holds(folder: Path, key: str) -> int:
    """The bytes of every file, and what is compressed in it: Parquet columns and metadata, the journal's bodies."""
    seen = 0
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        seen += 1
        assert_clean(path.read_bytes(), key, path)
        assert_clean(str(path).encode(), key, path)
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            assert_clean(json.dumps(table.to_pylist(), default=str, ensure_ascii=False).encode(), key, path)
            assert_clean(str(pq.read_metadata(path).metadata).encode(), key, path)
        if path.suffix == ".sqlite":
            with Journal(path) as journal:
                for (one,) in journal._db.execute("select key from answers").fetchall():
                    entry = journal.get(one)
                    assert entry is not None
                    assert_clean(entry.body, key, path)
    return seen


class ProcessWatch:
    """Keeps reading argv and environment of every other process of this machine."""

    def __init__(self, key: str) -> None:
        self._spellings = spellings(key)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: dict[int, str] = {}
        self.found: dict[tuple[str, int], str] = {}
        """The command of each process that had the key, by what was read and the process."""

    def __enter__(self) -> "ProcessWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        data = (folder / name).read_bytes()
                    except OSError:
                        continue
                    pid = int(folder.name)
                    if name == "cmdline" and data:  # an ended process has none
                        self.seen[pid] = data.replace(b"\0", b" ").decode(errors="replace")
                    if any(spelling in data for spelling in self._spellings):
                        self.found[name, pid] = self.seen.get(pid, "")


def bitnet(*arguments: str, keys: Mapping[str, str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command with keys piped in."""
    read_end, write_end = os.pipe()
    os.write(write_end, json.dumps(dict(keys)).encode())
    os.close(write_end)
    piped = {"BITNET_SECRETS_FD": str(read_end)} if keys else {}
    try:
        return subprocess.run(
            [sys.executable, "-m", "bitnet_core", *arguments],
            capture_output=True,
            check=False,
            pass_fds=(read_end,),
            env=os.environ | piped | environment,
        )
    finally:
        os.close(read_end)


@pytest.fixture
def settings(isolated: Path) -> Iterator[list[str]]:
    (isolated / "exp").mkdir()
    (isolated / "exp" / ".env").write_text("TEACHER_PROVIDER=openai\nOPENAI_MODEL=m\nKD_TEACHER_TEMPERATURE=0.8\n")
    yield ["--root", str(isolated / "exp")]


@pytest.mark.teacher
@pytest.mark.usefixtures("teacher_cache")
def test_a_real_collection_leaks_no_key(
    isolated: Path, settings: list[str], teacher_tokenizer: StudentTokenizer
) -> None:
    def rude(number: int, asked: Asked, body: dict[str, Any]) -> Canned | None:
        """A server that quotes the key in its errors and in extra fields of its answers."""
        if number in (0, 6):
            return Canned({"error": {"message": f"no luck with {asked.headers['Authorization']}"}}, 500)
        body["debug"] = {"headers": dict(asked.headers), "url": f"/v1?key={quote(WIRE)}"}
        body["model"] = f"m for {WIRE}"
        return None

    wanted = {"KD_NUM_PROMPTS": "6", "KD_MAX_TOKENS_PER_PROMPT": "16", "TEACHER_TOP_LOGPROBS": "5"}
    with ChatServer(FakeTeacher(teacher_tokenizer, rude, seconds=0.1)) as server, ProcessWatch(WIRE) as watch:
        done = bitnet("collect", *settings, keys={KEY: WIRE}, OPENAI_BASE_URL=server.base_url, **wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {asked.headers["Authorization"] for asked in server.asked} == {f"Bearer {WIRE}"}
    assert any("bitnet_core.stages" in command for command in watch.seen.values())
    assert watch.found == {}
    assert_clean(done.stdout + done.stderr, WIRE, "the command's output")
    assert b"sent a key back in 6 of its answers" in done.stdout + done.stderr
    assert list((isolated / "exp" / "data").glob("*.parquet"))
    assert assert_no_file_holds(isolated, WIRE) > 10


@pytest.mark.teacher
def test_the_metadata_of_traces_is_masked(tmp_path: Path, teacher_tokenizer: StudentTokenizer) -> None:
    """The key was pasted as the model's name, and the collection does not know it."""
    values = {"TEACHER_PROVIDER": "openai", "OPENAI_MODEL": f"gpt {WIRE}", "KD_NUM_PROMPTS": "1"}
    ctx = stage_context(tmp_path, "collect", values, {KEY: WIRE})
    prompts = load_prompts(None, PACKAGED_PROMPTS)
    options = CollectOptions.of(ctx.settings)
    collection = Collection(
        options, identify(TeacherOptions.of(ctx.settings)), teacher_tokenizer, lambda: iter(prompts)
    )
    with Journal(tmp_path / "journal.sqlite") as journal:
        shards = ShardMaker(
            collection, AnswerReader(collection), journal, PromptCheck(collection), tmp_path, redact=ctx.redact
        )
        metadata = shards._metadata(Verdict("raw", 5, served_model=f"gpt {WIRE}"), [])
    assert metadata.teacher == "gpt •••"
    assert_clean(str(metadata.as_key_values()).encode(), WIRE, "the metadata")


@pytest.mark.parametrize("end", ["leak", "abort"])
def test_a_stage_that_leaks_its_key_in_every_way_is_masked(end: str, isolated: Path, settings: list[str]) -> None:
    """By print, C writes, logging, events, reports, tracebacks of a thread and of its own, and an abort."""
    path = f"{FAKE_STAGES}:{os.environ.get('PYTHONPATH', '')}"
    with ProcessWatch(CANARY) as watch:
        done = bitnet("teacher", *settings, keys={KEY: CANARY}, PYTHONPATH=path, FAKE_STAGES="1", FAKE_TEACHER=end)
    assert done.returncode == 1
    assert watch.found == {}
    assert_clean(done.stdout + done.stderr, CANARY, "the command's output")
    (log,) = (isolated / "exp" / "logs").glob("*/output.log")
    text = log.read_text()
    assert text.count("•••") >= 4
    assert ("ValueError: unexpected reply for •••" in text) == (end == "leak")
    assert ("Fatal Python error: Aborted" in text) == (end == "abort")
    assert (isolated / "exp" / "reports" / "leak.json").read_text().count("•••") == 3
    assert assert_no_file_holds(isolated, CANARY) > 5


def test_unknown_keys_are_masked_in_the_log_by_their_shape(isolated: Path, settings: list[str]) -> None:
    path = f"{FAKE_STAGES}:{os.environ.get('PYTHONPATH', '')}"
    bitnet("teacher", *settings, keys={}, PYTHONPATH=path, FAKE_STAGES="1", FAKE_TEACHER="leak")
    (log,) = (isolated / "exp" / "logs").glob("*/output.log")
    assert "an unknown token: •••\n" in log.read_text()


_PLACES = ("environment", "alias", ".env", "vault", "pipe")


def _put(place: str, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Keep the canary in one of the places; return what the command's environment needs for it."""
    env_file = isolated / "exp" / ".env"
    if place == "environment":
        return {KEY: CANARY}
    if place == "alias":
        env_file.write_text(env_file.read_text() + f"{KEY}=${{MY_COMPANY_KEY}}\n")
        return {"MY_COMPANY_KEY": CANARY, "HUGGING_FACE_HUB_TOKEN": CANARY, "SETTINGS_AS_JSON": json.dumps([CANARY])}
    if place == ".env":
        env_file.write_text(dotenv.with_value(env_file.read_text(), KEY, CANARY))
    if place == "vault":
        (isolated / "passphrase").write_text("correct horse")
        vault.create(isolated / "vault.json", "correct horse").set(KEY, CANARY)
        return {
            "BITNET_VAULT": str(isolated / "vault.json"),
            "BITNET_VAULT_PASSPHRASE_FILE": str(isolated / "passphrase"),
        }
    return {}


@pytest.mark.parametrize("place", _PLACES)
def test_a_key_from_any_place_reaches_the_stage_only_through_the_pipe(
    place: str, isolated: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control is an exported key in the command's own environment, which the scan must find."""
    path = f"{FAKE_STAGES}:{os.environ.get('PYTHONPATH', '')}"
    given = _put(place, isolated, monkeypatch) | {"PYTHONPATH": path, "FAKE_STAGES": "1", "FAKE_TEACHER": "leak"}
    keys = {KEY: CANARY} if place == "pipe" else {}
    with ProcessWatch(CANARY) as watch:
        done = bitnet("teacher", *settings, keys=keys, BITNET_KEYRING="secretservice", **given)
    assert done.returncode == 1
    for name in ("bitnet_core.stages", "keyring_child.py"):
        assert any(name in one for one in watch.seen.values()), name
    exported = place in ("environment", "alias")
    assert set(watch.found.values()) == ({" ".join((*done.args, ""))} if exported else set())
    assert (isolated / "exp" / "reports" / "leak.json").read_text().count("•••") == 3, "the stage had the key"
    assert_clean(done.stdout + done.stderr, CANARY, "the command's output")
    (isolated / "exp" / ".env").unlink()
    assert assert_no_file_holds(isolated, CANARY) > 5


async def test_typed_into_the_app_it_is_in_the_vault_and_nowhere_else(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All screens, all files, and the crash report of an app that fails while it has the key."""
    screens: list[str] = []
    app = BitnetApp(isolated / "experiments")
    monkeypatch.setattr(planning.Plan, "run", lambda _: PLAN)  # its process would only import torch

    def broken(key: str) -> None:
        raise ZeroDivisionError(f"{key} / 0, {key!r}")

    with pytest.raises(ZeroDivisionError):
        async with app.run_test(size=(80, 24), notifications=True) as pilot:

            async def look() -> None:
                for _ in range(3):
                    await pilot.pause()
                    await app.workers.wait_for_complete()
                await pilot.pause()
                screens.append(app.export_screenshot())
                screens.append("\n".join(strip.text for strip in app.screen._compositor.render_strips()))

            await look()
            await pilot.press("n")
            await look()
            await pilot.press("ctrl+n")
            await look()
            guide = app.screen
            cards = guide.query_one("#cards", OptionList)
            cards.highlighted = cards.get_option_index("openai")
            await look()
            guide.query_one("#model", Input).value = "m"
            await look()
            field = guide.query_one("#key", Input)
            field.focus()
            for letter in CANARY:
                field.insert_text_at_cursor(letter)
                await pilot.pause()
            await look()
            await pilot.press("ctrl+s")
            await look()
            for name in ("passphrase", "again"):
                app.screen.query_one(f"#{name}", Input).value = f"{CANARY} as a passphrase"
            await look()
            app.screen.query_one("#again", Input).focus()
            await pilot.press("enter")
            await look()
            app.call_later(broken, CANARY)
            await pilot.pause()
    (opened,) = key_places._open_vaults.values()
    assert opened.read() == {KEY: CANARY}
    assert len(screens) >= 12
    for screen in screens:
        assert_clean(screen.encode(), CANARY, "a screen")
    said = capsys.readouterr()
    assert "bitnet-tui has a bug" in said.out + said.err
    assert_clean((said.out + said.err).encode(), CANARY, "the crash's output")
    assert list((isolated / ".local" / "state" / "bitnet-tui").glob("crash-*.log"))
    assert assert_no_file_holds(isolated, CANARY) >= 3
