"""Whether a server that answers nothing where it was asked does so below /v1, which addresses often lack."""

import contextlib
from dataclasses import replace
from urllib.parse import urlsplit

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.json_body import as_list, as_object
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.http.body import TooManyBytes
from bitnet_core.teachers.http.client import JsonClient
from bitnet_core.teachers.refusals import KeyRefused, NotThere, OtherAddress, SentRequest

_REFUSES = (401, 403)


async def other_address(
    http: JsonClient, base_url: str, models_path: str, sent: SentRequest, error: NotThere | KeyRefused
) -> OtherAddress | None:
    """The address with /v1, where the one that gave this error has no path and the server lists its models there.

    A server that has nothing at the one and refuses the key at the other is told with both.
    """
    if urlsplit(base_url).path.strip("/"):
        return None
    there = base_url.rstrip("/") + "/v1"
    with contextlib.suppress(BitnetError, BadReply, TooManyBytes):
        listed = await http.get(f"/v1{models_path}")
        if listed.status == 200 and as_list(as_object(listed.payload).get("data")):
            return sent.other_address(there)
        refused = replace(sent, address=there).refusal(listed) if listed.status in _REFUSES else None
        if isinstance(refused, KeyRefused) and isinstance(error, NotThere):
            return sent.other_address(there, refused)
    return None
