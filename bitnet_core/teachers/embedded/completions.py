"""Ask a llama.cpp server to continue token ids, as many at once as it has slots. Knows no text.

Greedy: the likeliest token each time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.http.client import JsonClient
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.reply import Reply

ATTEMPTS = 3
_ALL_BYTES = 1 << 27
"""A reply with the candidates of a whole vocabulary, about 100 bytes each."""
_Job = TypeVar("_Job")
_Answer = TypeVar("_Answer")


class _Written(msgspec.Struct):
    tokens: list[int]


class LlamaCppWriter:
    """Continues prompts with a running server, at `address` without "/v1", whose `slots` work at once."""

    def __init__(self, address: str, api_key: str, *, slots: int) -> None:
        self._address, self._api_key, self._slots = address, api_key, slots

    def write(
        self, prompts: Sequence[Sequence[int]], most_tokens: Sequence[int], on_done: Callable[[int, list[int]], None]
    ) -> None:
        """Call `on_done` with the number of each prompt and its new ids, as they come; it may raise to stop.

        Each gets at most its own number of tokens, and ends with an end token, if it comes. BitnetError if
        the server ends, refuses a prompt, or is another program.
        """

        async def work(client: JsonClient, slot: int, place: int) -> None:
            asked = {"n_predict": most_tokens[place], "return_tokens": True}
            reply = await complete(client, slot, list(map(int, prompts[place])), asked, attempts=ATTEMPTS)
            if reply.status != 200:
                raise BitnetError(f"llama.cpp refuses prompt {place} with status {reply.status}; shorten it.")
            on_done(place, decoded(client, reply, _Written).tokens)

        asyncio.run(in_slots(self._address, self._api_key, self._slots, range(len(prompts)), work))


async def in_slots(
    address: str,
    api_key: str,
    slots: int,
    jobs: Iterable[_Job],
    work: Callable[[JsonClient, int, _Job], Awaitable[None]],
) -> None:
    """Give each slot one job after another. The first error ends all and is raised."""
    waiting = iter(jobs)
    headers = {"Authorization": f"Bearer {api_key}"}
    async with JsonClient(address, headers, pace=Pace(slots)) as client:

        async def serve(slot: int) -> None:
            for job in waiting:
                await work(client, slot, job)

        try:
            async with asyncio.TaskGroup() as tasks:
                for slot in range(slots):
                    tasks.create_task(serve(slot))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


async def complete(client: JsonClient, slot: int, prompt: list[int], more: dict[str, Any], *, attempts: int) -> Reply:
    """The server's reply to one request; what a slot has read before is not read again."""
    payload = {"prompt": prompt, "temperature": 0.0, "cache_prompt": True, "id_slot": slot, **more}
    return await client.post("/completion", payload, attempts=attempts, most_bytes=_ALL_BYTES)


def decoded(client: JsonClient, reply: Reply, kind: type[_Answer]) -> _Answer:
    """The body of a reply. BitnetError if another program sent it."""
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BitnetError(f"{client.base_url} does not answer as llama.cpp does; give a llama.cpp server.") from error
