"""Settings that are pasted into the guide fill its fields, and their keys are shown nowhere."""

import json
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.storage.catalog import KINDS
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.view.guide import pasted
from bitnet_tui.view.guide.draft import BACKEND, HERE, TEACHER, Draft, settings
from tests.tui.guides import KEY, answered, app, at, field_of, press, taken
from tests.tui.pilots import said, shown, until, words

_OWN_SERVER = "# the lab\nexport CUSTOM_BASE_URL=http://lab:8000/v1\nCUSTOM_MODEL='llama'\nCUSTOM_API_KEY=k1\n"


def test_an_own_server_whose_names_are_ours_or_those_of_openai() -> None:
    draft, keys = taken(_OWN_SERVER)
    assert (draft.teacher.name, draft.address, draft.model) == ("custom", "http://lab:8000/v1", "llama")
    assert keys == {"CUSTOM_API_KEY": "k1"}
    assert taken(_OWN_SERVER.replace("CUSTOM", "OPENAI").replace("BASE_URL", "API_BASE")) == (draft, keys)
    draft, keys = taken("OPENAI_MODEL=gpt-4o-mini\nOPENAI_API_KEY=k1\nOPENAI_BASE_URL=https://api.openai.com/v1")
    assert (draft.teacher.name, draft.model, keys) == ("openai", "gpt-4o-mini", {"OPENAI_API_KEY": "k1"})


def test_what_is_said_of_any_teacher_is_that_of_the_chosen_one_or_of_an_own_server() -> None:
    of_any = _OWN_SERVER.replace("CUSTOM", "TEACHER")
    draft, keys = taken(of_any)
    assert (draft.teacher.name, draft.address, draft.model) == ("custom", "http://lab:8000/v1", "llama")
    assert keys == {"CUSTOM_API_KEY": "k1"}
    draft, keys = taken(f"{of_any}TEACHER_PROVIDER=vllm")
    assert (draft.teacher.name, draft.address, draft.model) == ("vllm", "http://lab:8000/v1", "llama")
    assert keys == {"VLLM_API_KEY": "k1"}


@pytest.mark.parametrize("called", ["S3_ENDPOINT", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL", "MINIO_ENDPOINT"])
def test_an_endpoint_by_any_programs_name_and_without_a_scheme_is_taken(called: str) -> None:
    draft, _ = taken(f"model: m\naddress: lab\n{called}=127.0.0.1:9000\nS3_BUCKET=b\nAWS_ACCESS_KEY_ID=A")
    assert (draft.backend, draft.get("S3_ENDPOINT_URL")) == ("s3", "http://127.0.0.1:9000")


@pytest.mark.parametrize(
    ("text", "step", "backend", "values"),
    [
        ("S3_BUCKET=b\nAWS_ENDPOINT_URL=http://m:9000", "machine", "s3", {"S3_ENDPOINT_URL": "http://m:9000"}),
        ("[lab]\naws_access_key_id = A\nregion = eu-1", "storage", "s3", {"AWS_DEFAULT_REGION": "eu-1"}),
        ("[lab]\raws_access_key_id = A\r\nregion = eu-1", "storage", "s3", {"AWS_DEFAULT_REGION": "eu-1"}),
        ("aws_access_key_id = A\nregion = eu-1", "teacher", HERE, {}),
        ("STORAGE_BACKEND=dynamodb\nAWS_ACCESS_KEY_ID=A", "machine", "dynamodb", {}),
        ("STORAGE_LOCAL_DIR=/mnt/x", "machine", "local", {"STORAGE_LOCAL_DIR": "/mnt/x"}),
        ("WEBDAV_URL=https://x.example/dav\nWEBDAV_PASSWORD=p", "machine", "webdav", {}),
    ],
)
def test_the_target_is_the_one_that_the_settings_are_of(
    text: str, step: str, backend: str, values: dict[str, str]
) -> None:
    draft, keys = taken(text, Draft(step=step))
    assert draft.get(BACKEND) == backend
    assert {name: draft.get(name) for name in values} == values
    assert set(keys) <= SECRET_NAMES


def test_what_is_chosen_stays_and_what_is_no_setting_is_named() -> None:
    chosen = Draft().having(BACKEND, "dynamodb").having(TEACHER, "vllm").having("LR", "1e-3")
    draft, _ = taken("AWS_ACCESS_KEY_ID=A\nS3_BUCKET=b\nVLLM_MODEL=m", chosen)
    assert (draft.get(BACKEND), draft.get(TEACHER), draft.get("LR"), draft.model) == ("dynamodb", "vllm", "1e-3", "m")
    found = pasted.read("LR=fast\nSTORAGE_BACKEND=nowhere\nMY_OWN=1\nMAX_SEQ_LEN=1k")
    assert found is not None
    assert found.words(48) == "Taken: Sequence length. Not taken: LR, STORAGE_BACKEND and MY_OWN."
    many = pasted.Pasted(dict.fromkeys(["S3_BUCKET", *REGISTRY], "x"), {}, ("A_LONG_NAME_OF_ANOTHER", "B", "C"), 12)
    rest = " Not taken: A_LONG_NAME_OF_AN…, B, C and 12 other lines."
    first = re.fullmatch(rf"Taken: Bucket and (\d+) more\.{rest}", many.words(48))
    assert first is not None
    every = int(first[1]) + 1
    assert every > 150
    assert many.words(40) == f"Taken: {every} settings. Not taken: 3 names and 12 other lines."
    assert pasted.read("S3_BUCKET=b\nLR=1e-3", "Storage") == pasted.Pasted({"S3_BUCKET": "b"}, {}, ("LR",))


def test_the_file_of_a_service_account_is_one_key() -> None:
    account = {"type": "service_account", "private_key": "-----BEGIN\nx\n", "client_email": "a@b.example"}
    draft, keys = taken(json.dumps(account, indent=2), Draft(step="storage"))
    assert json.loads(keys.pop("FIREBASE_CREDENTIALS_JSON")) == account
    assert (draft.backend, keys) == ("firebase", {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-abc",
        "dGhpcyBpcyBhIGtleQ==",
        "a=b",
        "http://x/?OPENAI_MODEL=1",
        "LR\n",
        "localhost:8000",
        "server:8000/v1",
        "llama3:8b",
        "model:7b",
        "folder:latest",
        "secret sauce",
        "the token that expired",
    ],
)
def test_other_texts_are_left_to_the_field(text: str) -> None:
    assert pasted.read(text) is None


@pytest.mark.parametrize(
    "written",
    [
        "OPENAI_API_KEY=${MINE}",
        "OPENAI_API_KEY=$MINE",
        f"OPENAI_API_KEY={KEY}; export LR=1",
        f"OPENAI_API_KEY='{KEY}",
        f"OPENAI_API_KEY={KEY}{' ' * 2000}x",
        f"OPENAI_API_KEY={KEY}\x1b[31m",
    ],
)
def test_a_key_that_can_not_be_read_is_refused_and_not_left_to_a_field(written: str) -> None:
    assert pasted.read(written) == pasted.Pasted({}, {}, ("OPENAI_API_KEY",))


def test_a_key_is_taken_from_between_other_lines() -> None:
    found = pasted.read(f"To begin:\nexport OPENAI_API_KEY={KEY}\nand then run it.")
    assert found == pasted.Pasted({}, {"OPENAI_API_KEY": KEY}, left=2)
    assert found.words(48) == "Taken: Key. Not taken: 2 other lines."


def test_a_text_brings_neither_places_nor_programs_that_run_at_the_end() -> None:
    others = ("DRIVE_ROOT", "BITNET_VAULT", "NOTIFY_COMMAND")
    found = pasted.read("".join(f"{name}=/x\n" for name in others) + "LR=1e-3\n")
    assert found == pasted.Pasted({"LR": "1e-3"}, {}, others)


def test_a_long_text_takes_no_time_that_grows_with_its_square() -> None:
    blank = "\n \r" * 200_000
    assert pasted.read(blank) is None
    found = pasted.read(f"{blank}LR=1e-3\n{'x' * 20_000}=1")
    assert found is not None
    assert found.values == {"LR": "1e-3"}
    assert len(found.words(48)) < 100


@given(
    st.dictionaries(st.sampled_from(sorted(REGISTRY)), st.text(max_size=12), max_size=6),
    st.sampled_from(sorted(KINDS)),
)
def test_any_settings_make_a_draft_that_can_be_shown(values: dict[str, str], backend: str) -> None:
    text = "\n".join(f"{name}={dotenv.quoted(value)}" for name, value in values.items())
    found = pasted.read(text)
    if found is None:
        return
    draft, keys = pasted.with_pasted(Draft().having(BACKEND, backend), {}, found)
    assert draft.teacher.name in PROVIDERS
    assert draft.get(BACKEND) in {HERE, *KINDS}
    assert not SECRET_NAMES & set(settings(draft))
    assert keys.keys() <= SECRET_NAMES


async def _paste(pilot: Pilot[None], text: str) -> None:
    pilot.app.post_message(events.Paste(text))
    await answered(pilot)


async def test_pasted_settings_fill_the_steps_and_other_text_goes_into_the_field(home: Path) -> None:
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await _paste(pilot, _OWN_SERVER.replace("k1", KEY) + f"S3_BUCKET=runs\nAWS_SECRET_ACCESS_KEY={KEY}2\n")
        assert [field_of(guide, name).value for name in ("ADDRESS", "MODEL", "KEY")] == [
            "http://lab:8000/v1", "llama", KEY
        ]  # fmt: skip
        assert said(pilot, "#problem") == ("Taken from what was pasted: Address, Model, Bucket, Key and Secret key.")
        assert KEY not in shown(pilot)
        await _paste(pilot, f"address: http://note:8000/v1\rmodel: small\rkey: {KEY}3")
        assert [field_of(guide, name).value for name in ("ADDRESS", "MODEL", "KEY")] == [
            "http://note:8000/v1", "small", f"{KEY}3"
        ]  # fmt: skip
        guide.query_one("#cards").focus()
        await _paste(pilot, f"http://bare:8000/v1\rqwen\r{KEY}7\r")
        assert [field_of(guide, name).value for name in ("ADDRESS", "MODEL", "KEY")] == [
            "http://bare:8000/v1", "qwen", f"{KEY}7"
        ]  # fmt: skip
        await _paste(pilot, "three\rlines\rof nothing")
        assert said(pilot, "#problem").startswith("Nothing taken: write each line as “label: value”")
        assert KEY not in shown(pilot)
        field_of(guide, "ADDRESS").focus()
        await _paste(pilot, f"{KEY}4")
        assert KEY not in shown(pilot)
        (told,) = [one.message for one in pilot.app._notifications]
        assert "looks like a key, and this field would show it" in told
        pilot.app.clear_notifications()
        field_of(guide, "KEY").focus()
        for written, key in (
            (f"{KEY}5", f"{KEY}5"),
            ("user-key:xyz", "user-key:xyz"),
            (f"App secret: {KEY}6", f"{KEY}6"),
        ):
            field_of(guide, "KEY").value = ""
            await _paste(pilot, written)
            assert field_of(guide, "KEY").value == guide.keys["CUSTOM_API_KEY"] == key
        field_of(guide, "ADDRESS").focus()
        await _paste(pilot, "http://hall:9000/v1")
        await pilot.press("tab")
        await _paste(pilot, "\nqwen\n\nand more")
        assert (guide.draft.address, guide.draft.model) == ("http://hall:9000/v1", "qwen")
        assert [one.message for one in pilot.app._notifications] == [
            "! Only the first of 2 pasted lines fits into this field."
        ]
        await guide._come_to("storage")
        await answered(pilot)
        await _paste(pilot, "S3_BUCKET=runs\nMY_LONG_SETTING_NAME=1\nMY_OTHER_LONG_NAME=2\nTHIRD=3\nsee there")
        assert "THIRD and 1 other line. ‹ Back" in words(pilot), "whole, and not cleared by its fields"
        filled = {(one.id or "").removeprefix("field-"): one.value for one in guide.query(Input)}
        assert (filled["S3_BUCKET"], filled["AWS_SECRET_ACCESS_KEY"]) == ("runs", f"{KEY}2")
        assert KEY not in str(guide.draft)


async def test_no_paste_is_lost_without_a_word(home: Path) -> None:
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        guide._ready = False  # as while a step is being shown
        await _paste(pilot, "S3_BUCKET=early\n")
        assert guide.draft.get("S3_BUCKET") == ""
        guide._ready = True
        await until(pilot, lambda: guide.draft.get("S3_BUCKET") == "early")
        made = threading.Event()
        guide.attempt(lambda: made.wait(60), lambda _: None)
        pilot.app.post_message(events.Paste("S3_BUCKET=late\n"))
        await until(pilot, lambda: bool(pilot.app._notifications))
        (told,) = [one.message for one in pilot.app._notifications]
        assert "Not taken: Something else was running when this was pasted" in told
        made.set()
        await answered(pilot)
        assert guide.draft.get("S3_BUCKET") == "early"
        await press(pilot, "escape")
        pilot.app.clear_notifications()
        await _paste(pilot, "S3_BUCKET=here\n")
        (told,) = [one.message for one in pilot.app._notifications]
        assert told.endswith("Nothing was pasted: no field has the focus.")
