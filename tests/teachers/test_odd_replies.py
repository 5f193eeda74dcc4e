"""Good answers in odd envelopes, and bad ones whose cause can be told: statuses, media types, packings."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.chat import CallOptions
from bitnet_core.teachers.http import client
from bitnet_core.teachers.http.retries import Unreachable
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import RefusesAll
from bitnet_core.text import flat
from tests.teachers.odd import GOOD, REQUEST, events, piece, streamed, text_of
from tests.teachers.server import Canned

# -- answers that were paid for ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 226, 299])
async def test_an_answer_counts_whatever_the_status_of_success(status: int) -> None:
    assert await text_of(Canned(GOOD, status)) == "Hello"
    assert await streamed(events(piece("Hel"), piece("lo", "stop")), status=status) == "Hello"


@pytest.mark.parametrize("status", [201, 202, 299])
async def test_an_error_counts_as_one_whatever_the_status_of_success(status: int) -> None:
    with pytest.raises(BitnetError, match="out of order"):
        await text_of(Canned({"error": {"message": "the model is out of order"}}, status))


@pytest.mark.parametrize("kind", ["Text/Event-Stream", "TEXT/EVENT-STREAM; charset=UTF-8", "text/event-stream"])
async def test_a_media_type_is_read_in_any_case(kind: str) -> None:
    assert await streamed(events(piece("Hello", "stop")), kind=kind) == "Hello"


@pytest.mark.parametrize("encoding", ["identity, gzip", "GZIP", "x-gzip", "gzip,", " identity ,gzip"])
async def test_packed_once_is_packed_once(encoding: str) -> None:
    packed = gzip.compress(json.dumps(GOOD).encode())
    assert await text_of(Canned(packed, headers={"Content-Encoding": encoding})) == "Hello"


# -- what can't be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (events(piece("Hello", "stop")), "a stream of events"),
        (b"event: x\n" + events(piece("Hello", "stop")), "a stream of events"),
        (b'{"response": "a"}\n{"response": "b", "done": true}\n', "several JSON values"),
        ((json.dumps(GOOD) + "\n").encode() * 2, "several JSON values"),
        (json.dumps(GOOD).encode()[:-9], "a broken JSON text"),
        ('{"choices": "caf\xe9"}'.encode("latin-1"), "text that is not UTF-8"),
        (json.dumps(GOOD).encode("utf-16"), "text that is not UTF-8"),
    ],
)
async def test_another_form_of_answer_is_named(body: bytes, kind: str) -> None:
    with pytest.raises(BitnetError, match=f"answers with {kind} instead of JSON; let the server"):
        await text_of(Canned(body))


@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": "no such model", "code": 404},
        {"success": False, "msg": "no such model"},
        {"base_resp": {"status_code": 1, "status_msg": "no such model"}},
        {"fault": {"faultstring": "no such model"}},
    ],
)
async def test_what_a_reply_without_an_answer_says_is_told(body: dict[str, Any]) -> None:
    with pytest.raises(BadReply, match="no such model"):
        await text_of(Canned(body))


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "utf-8", "x" * 9000, "br\x01"])
async def test_an_unknown_packing_is_named(encoding: str) -> None:
    with pytest.raises(Unreachable, match=f"packed as {flat(encoding)[:40]}, which") as caught:
        await text_of(Canned(b"x", headers={"Content-Encoding": encoding}))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


async def test_the_address_of_a_redirect_is_told_in_short() -> None:
    with pytest.raises(RefusesAll, match="redirects to http://x/aaa") as caught:
        await text_of(Canned(b"", 301, {"Location": "http://x/" + "a" * 50_000}))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("status", [300, 302, 304])
async def test_what_leads_nowhere_is_no_redirect(status: int) -> None:
    with pytest.raises(RefusesAll, match=rf"gives no answer \(HTTP {status}\); set CUSTOM_BASE_URL"):
        await text_of(Canned(b"", status))


# -- interim replies without end -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def interim(lines: bytes, pause: float) -> AsyncIterator[str]:
    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            while True:
                writer.write(lines)
                await writer.drain()
                await asyncio.sleep(pause)

    server = await asyncio.start_server(give, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
)
@pytest.mark.parametrize("times", [1, 500])
@pytest.mark.parametrize("options", [{}, {"on_text": lambda _: None}])
async def test_interim_replies_are_silence(
    line: bytes, times: int, options: CallOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_SECONDS", 1.0)
    async with (
        interim(line * times, 0.01) as address,
        asyncio.timeout(30),
        WIRES["openai"](PROVIDERS["vllm"], address, "m", None, first_wait=0.01) as chat,
    ):
        chat._http._read_seconds = 0.1  # of a server on this machine it is an hour
        with pytest.raises(Unreachable, match="no answer within 0 s"):
            await chat.chat(REQUEST, **{**options, "attempts": 1})
