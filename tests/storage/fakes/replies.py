"""What several fakes of services answer alike."""

import json
import re
from datetime import UTC, datetime

from tests.storage.tls_proxy import Reply


def json_reply(status: int, value: object) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def ranged(data: bytes, asked: str) -> Reply:
    """The bytes that a Range header asks for; all of them if it asks for none."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if found is None:
        return Reply(200, data)
    start, end = int(found[1]), int(found[2] or len(data) - 1)
    return Reply(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}"})


def moment(seconds: float) -> str:
    """Unix seconds as Google and Microsoft write them: `2026-11-29T11:30:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
