"""Bodies of replies of an AWS service: whether one is cut off or JSON, and how much of it is read. Knows no boto3."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from bitnet_core.storage.clients.http import MOST_BYTES
from bitnet_core.storage.target import Refused

_ROOT = re.compile(rb"<\?xml[^>]{0,200}>\s{0,9}(?:<!DOCTYPE[^>]{0,400}>\s{0,9})?<([\w:.-]{1,80})")
"""The beginning of an XML document."""


def is_cut(body: bytes) -> bool:
    """Whether it is an XML document, and no HTML page, that ends before its root element does."""
    root = _ROOT.match(body)
    return root is not None and root[1].lower() != b"html" and not body.rstrip().endswith(b"</" + root[1] + b">")


def is_object(response: Any) -> bool:
    """Whether it is a JSON object. No value is made of what is in it: botocore does that."""
    try:
        if "json" not in response.headers.get("Content-Type", ""):
            return False
        msgspec.json.decode(response.content, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def bounded(raw: Any, most_bytes: int) -> Iterator[bytes]:
    """The body in parts. Refused as soon as there is more of it."""
    size = 0
    while chunk := raw.read(1 << 16):
        size += len(chunk)
        if size > most_bytes:
            raise Refused("The server sent more than was asked for; check that its address is right.")
        yield chunk


def read(body: Any, size: int) -> bytes:
    """An object's body, which says that it has `size` bytes. Refused if that is more than we ever write."""
    if size > MOST_BYTES:
        raise Refused("The object is larger than any that bitnet writes; it was written by something else.")
    parts = []
    while part := body.read(1 << 20):
        parts.append(part)
    return b"".join(parts)
