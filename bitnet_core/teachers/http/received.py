"""The body of a response, in pieces or as a Reply: bounded in its bytes and values. Knows no requests or client."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.http.body import TooManyBytes, body_chunks
from bitnet_core.teachers.http.in_flight import Share
from bitnet_core.teachers.http.payload import (
    BYTES_A_VALUE,
    ERROR_BYTES,
    TOO_LARGE,
    counted,
    decode_error,
    decode_error_fields,
)
from bitnet_core.teachers.http.reply import Reply


class Response(Protocol):
    """What is read of a client's response. Its stream has the bytes as they were sent, so perhaps compressed."""

    @property
    def status_code(self) -> int: ...

    @property
    def is_success(self) -> bool: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def stream(self) -> Any: ...


async def chunks_of(response: Response, share: Share, most_bytes: int, most_values: int) -> AsyncIterator[bytes]:
    """The body's bytes. TooManyBytes if it has more bytes or values."""
    raw = aiter(response.stream)  # the client's own iterator would close the response at its end
    chunks = body_chunks(raw, response.headers.get("content-encoding", ""), most_bytes)
    async for chunk in counted(chunks, most_values):
        await share.take(len(chunk))
        yield chunk


async def reply_of(response: Response, share: Share, most_bytes: int, asked: Mapping[str, Any] | None) -> Reply:
    """Read a reply to what was `asked`. Of a good answer only the fields of an error are decoded."""
    good = response.is_success
    payload: Any = None
    try:
        body = await _body(response, share, most_bytes if good else min(most_bytes, ERROR_BYTES))
    except TooManyBytes:
        if good:
            raise
        body, payload = b"", {"message": TOO_LARGE}
    else:
        read = decode_error if not good else decode_error_fields if asked is not None else decode
        with contextlib.suppress(ValueError, RecursionError):
            # A long answer with its logprobs is a megabyte of JSON, so it is parsed off the event loop.
            payload = await asyncio.to_thread(read, body)
    headers = {name.lower(): value for name, value in response.headers.items()}
    # Some gateways answer 201 or 202 to every POST; only what is in the body tells an answer from an error.
    reply = Reply(200 if good else response.status_code, body, payload, headers, asked)
    if payload is None or reply.error is not None:  # it is kept while its request waits
        reply = replace(reply, body=body[:ERROR_BYTES])
    return reply


async def _body(response: Response, share: Share, most_bytes: int) -> bytes:
    body = io.BytesIO()  # not a list: the server decides how short the pieces are; its value is no copy
    try:
        async for chunk in chunks_of(response, share, most_bytes, most_bytes // BYTES_A_VALUE):
            body.write(chunk)
        return body.getvalue()
    finally:
        body.close()  # an exception would keep it in memory
