"""What the Hugging Face hub answers, or a mirror in its place (HF_ENDPOINT): bounded, in time, and safe as names.

The hub's library makes names of files of what a server says. It stops `..` in a file's name, but not in the hashes:
a mirror could write anywhere with those. It writes what it is sent, of any size, and waits as long as it is told.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.network.trickle import bound_trickle
from bitnet_core.text import crop, duration, flat, size

_HASH = re.compile(r'(?:W/)?"?[\w=+-][\w.=+-]{0,254}"?', re.ASCII)
_HASH_HEADERS = ("etag", "x-linked-etag", "x-repo-commit")
_RESET = re.compile(r"\bt=(\d+)")
"""In a header `RateLimit`: the seconds until requests are taken again."""
_SHOWN = 60
_API = "/api/"
_MOST_API_BYTES = 1 << 26
"""Of all lists of a download. The largest repositories have lists of a few million bytes."""
_MOST_API_ANSWERS = 1000
_MOST_OTHER_BYTES = 1 << 20
"""Of an error or a redirect."""
_LONGEST_WAIT_SECONDS = 600
_SILENCE_SECONDS = 60.0
_ANOTHER = "use another HF_ENDPOINT"


class Answers:
    """The answers to one download into `cache`."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._told = 0
        """Bytes of the files that are asked for, as the server has told them."""
        self._continued = 0
        self._api_bytes = self._api_answers = 0

    def client(self) -> Any:
        """The library's own HTTP client, with which it gets nothing unchecked."""
        from huggingface_hub.utils._http import default_client_factory

        client = default_client_factory()
        bound_trickle(client)
        client.event_hooks["request"].append(_end_silence)
        client.event_hooks["response"].append(self._check)
        return client

    def _check(self, response: Any) -> None:
        _refuse_long_wait(response)
        status, asks_for_hash = response.status_code, response.request.method == "HEAD"
        if asks_for_hash:  # what a file's own server adds to its content is not used
            _require_hashes(response, [response.headers.get(name) for name in _HASH_HEADERS])
            self._told += _number(response.headers.get("x-linked-size") or response.headers.get("content-length"))
        elif response.url.path.startswith(_API) and status < 300:
            self._api_answers += 1
            if self._api_answers > _MOST_API_ANSWERS:
                raise _too_much(response)
            _bound(response, self._take_list)
            with suppress(ValueError, RecursionError):
                answer = json.loads(response.read())
                _require_hashes(response, [answer.get("sha") if isinstance(answer, dict) else None])
        elif status in (200, 206):
            self._require_room(response)
            _bound(response, self._continue if status == 206 else _at_most(self._told))
        else:
            _bound(response, _at_most(_MOST_OTHER_BYTES))

    def _take_list(self, count: int) -> bool:
        self._api_bytes += count
        return self._api_bytes <= _MOST_API_BYTES

    def _continue(self, count: int) -> bool:
        """Of a file whose beginning is there already: what is sent in many such answers counts together."""
        self._continued += count
        return self._continued <= self._told

    def _require_room(self, response: Any) -> None:
        wanted, free = _number(response.headers.get("content-length")), _free_bytes(self._cache)
        if wanted > free:
            raise BitnetError(
                f"{self._cache} has {size(free)} free, and the hub sends {size(wanted)}; free space "
                "there, or set HF_HOME to a folder with more."
            )


def _free_bytes(folder: Path) -> int:
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(there).free


def _end_silence(request: Any) -> None:
    """The library waits for ever for a list."""
    times = request.extensions.get("timeout") or {}
    known = {name: times.get(name) or _SILENCE_SECONDS for name in ("connect", "read", "write", "pool")}
    request.extensions["timeout"] = known


def _refuse_long_wait(response: Any) -> None:
    """BitnetError if the server asks to wait for hours: the library would, without a word."""
    if response.status_code < 400:
        return
    reset = _RESET.search(response.headers.get("ratelimit", ""))
    wait = max(_number(response.headers.get("retry-after")), int(reset[1][:9]) if reset else 0)
    if wait > _LONGEST_WAIT_SECONDS:
        raise BitnetError(
            f"{response.url.host} takes no requests for {duration(wait)}; try again then, or set HF_TOKEN "
            "(`bitnet keys set HF_TOKEN`) if it counts those without one."
        )


def _require_hashes(response: Any, said: list[object]) -> None:
    """BitnetError if a hash in a response, which becomes the name of a file, could lead elsewhere."""
    for one in said:
        if one is not None and not (isinstance(one, str) and _HASH.fullmatch(one)):
            shown = crop(flat(str(one)), _SHOWN)
            raise BitnetError(f"{response.url.host} gives {shown} as the hash of a file, and it is none; {_ANOTHER}.")


def _bound(response: Any, take: Callable[[int], bool]) -> None:
    """Let a read of the response raise BitnetError as soon as `take` refuses more bytes."""
    given = response.iter_bytes

    def bounded(chunk_size: int | None = None) -> Iterator[bytes]:
        for chunk in given(chunk_size):
            if not take(len(chunk)):
                raise _too_much(response)
            yield chunk

    response.iter_bytes = bounded


def _at_most(most: int) -> Callable[[int], bool]:
    taken = 0

    def take(count: int) -> bool:
        nonlocal taken
        taken += count
        return taken <= most

    return take


def _too_much(response: Any) -> BitnetError:
    return BitnetError(f"{response.url.host} sends more than it announced, or than anybody needs; {_ANOTHER}.")


def _number(told: str | None) -> int:
    """The number in a header, at most 2^50; 0 if there is none."""
    text = (told or "").strip()
    return min(int(text), 1 << 50) if text.isascii() and text.isdigit() and len(text) < 40 else 0
