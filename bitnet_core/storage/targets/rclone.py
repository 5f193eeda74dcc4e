"""A remote of the user's own rclone as a target: any of the services that rclone knows.

rclone has no put-if-absent: it is a look before and a comparison after, so of writers at the same time several may
believe that they won.
"""

import contextlib
import functools
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files import is_file
from bitnet_core.settings.storage import RcloneOptions
from bitnet_core.storage import names
from bitnet_core.storage.clients import rcd
from bitnet_core.storage.clients.http import Http, Response
from bitnet_core.storage.clients.rcd_calls import Calls, is_missing, object_of
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import (
    TEMPORARY,
    Account,
    AlreadyThere,
    Found,
    Limits,
    Nonsense,
    NoSuchObject,
    Refused,
    Unreachable,
)

_REMOTE = re.compile(r"([\w.+@][\w.+@ -]*:/?)(.*)")
_LOST = re.compile(r"object not found|corrupted on transfer")
"""What rclone says if what it has just stored is not there."""
_LOCKS = 64


@contextlib.contextmanager
def opened(options: RcloneOptions, keys: Keys) -> Iterator["RcloneTarget"]:  # noqa: ARG001
    """The target of these options; rclone has its own keys. Refused or Unreachable if the remote can't be opened."""
    found = _REMOTE.fullmatch(options.remote)
    path = found[2].rstrip("/") if found else ""
    if found is None or (path and names.fault(path)):
        raise UsageError("RCLONE_REMOTE is not a remote and a path; write name:path, as in `rclone lsf name:path`.")
    title = f"rclone's remote {options.remote}"  # rclone itself responds; what is slow is behind it
    with rcd.running(options.config) as socket, Http(title, socket=socket) as http:
        try:
            folder = f"{path}/" if path else ""
            target = RcloneTarget(http, found[1], folder, functools.partial(rcd.written_bytes, socket))
        except Refused:
            # Remotes may come from the environment alone, and then a missing file is none.
            if options.config and not is_file(options.config):
                raise UsageError(f"RCLONE_CONFIG names {options.config}, which is no file; correct it.") from None
            raise
        yield target


class RcloneTarget:
    """Objects are files below the remote's path, under their own names; rclone escapes what a service lacks."""

    name = "rclone"

    def __init__(
        self, http: Http, remote: str, folder: str, written: Callable[[], int | None] = lambda: None
    ) -> None:
        self.place = remote + folder
        # Of a remote with a path, rclone asks at once whether that is a file, and takes a dead S3 server for a yes.
        self._remote = remote
        self._folder = folder
        self._calls = Calls(http, self.place, written)
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        features = self._calls.result("operations/fsinfo", "", fs=remote).get("Features")
        self._has_folders = isinstance(features, dict) and bool(features.get("CanHaveEmptyDirectories"))
        has = features.get if isinstance(features, dict) else {}.get
        self.limits = Limits(case_sensitive=not has("CaseInsensitive"))
        # A bucket shows complete objects only; for file systems rclone itself writes beside the file and renames.
        self._moves = not (has("BucketBased") or has("PartialUploads")) and bool(has("Move") or has("Copy"))

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        if not only_if_absent:
            self._put(key, data)
            return
        with self._locks[hash(key) % _LOCKS]:  # so that one of this process's threads wins
            path = self._folder + key
            if self._is_there(path):
                self._require_sense()
                raise AlreadyThere(f"{self.place}{key} is already there.")
            self._put(key, data)
            if self.get(key) != data:
                raise AlreadyThere(f"{self.place}{key} was written by another at the same time.")

    def _put(self, key: str, data: bytes) -> None:
        try:
            self._put_once(key, data)
        except Unreachable as failure:
            self._require_room(len(data))
            if _LOST.search(str(failure)):
                self._require_sense()
            raise

    def _is_there(self, path: str) -> bool:
        return self._calls.result("operations/stat", path, fs=self._remote, remote=path).get("item") is not None

    def _require_sense(self) -> None:
        """Nonsense if an object is there that was never stored: rclone may take a web page for a folder or object."""
        path = f"{self._folder}{TEMPORARY}nothing-{secrets.token_hex(8)}"
        if self._is_there(path) or (self._has_folders and not is_missing(self._ask_list(path))):
            raise self._calls.nonsense()

    def _require_room(self, size: int) -> None:
        """Refused if the service has less free space: SFTP servers have no word for a full disk."""
        with contextlib.suppress(Nonsense, Unreachable):
            free = self._free_bytes()
            if free is not None and free < size:
                raise Refused(f"{self.place} has no space left; free space there.")

    def _put_once(self, key: str, data: bytes) -> None:
        if not self._moves:
            self._calls.upload(self._remote, self._folder + key, data)
            return
        temp = f"{TEMPORARY}{time.time():.0f}-{secrets.token_hex(6)}"
        source, path = self._folder + temp, self._folder + key
        try:
            self._calls.upload(self._remote, source, data)
            both = {"srcFs": self._remote, "dstFs": self._remote}
            self._calls.result("operations/movefile", path, **both, srcRemote=source, dstRemote=path)
        except BitnetError:
            with contextlib.suppress(BitnetError):
                self.delete(temp)
            raise

    def get(self, key: str) -> bytes:
        data = self._calls.download(self._remote, self._folder + key)
        if data is None:
            raise NoSuchObject(f"{self.place}{key} is not there.")
        if len(data) > self.limits.object_bytes:
            raise Refused(f"{self.place}{key} is larger than any object is; it was not written by bitnet.")
        return data

    def list(self, prefix: str) -> Iterator[Found]:
        below = self._folder + prefix
        for item in self._listed(below, recurse=True, filesOnly=True):
            path, size = item.get("Path"), item.get("Size")
            if isinstance(path, str) and path.startswith(below) and isinstance(size, int) and size >= 0:
                key = path.removeprefix(self._folder)
                if not names.fault(key):
                    yield Found(key, size, _seconds(item.get("ModTime")))

    def delete(self, key: str) -> None:
        path = self._folder + key
        response = self._calls.ask("operations/deletefile", fs=self._remote, remote=path)
        if not is_missing(response):
            self._calls.done(response, path)

    def check(self) -> Account:
        """The free bytes, where the service tells rclone. The path may be missing: the first object creates it."""
        for _ in self._listed(self._folder, dirsOnly=True):
            break
        return Account(self._free_bytes())

    def _free_bytes(self) -> int | None:
        response = self._calls.ask("operations/about", fs=self.place)
        free = object_of(response).get("free") if response.status == 200 else None
        return free if isinstance(free, int) and free >= 0 else None

    def _listed(self, folder: str, **options: bool) -> Iterator[dict[str, Any]]:
        path = folder.rstrip("/")
        response = self._ask_list(path, **options)
        if is_missing(response):
            return
        found = self._calls.done(response, path).get("list", 0)
        if not isinstance(found, list | None):
            raise response.nonsense("a listing")
        if not found:
            self._require_sense()
        yield from (item for item in found or () if isinstance(item, dict))

    def _ask_list(self, path: str, **options: bool) -> Response:
        options = {**options, "noMimeType": True}
        return self._calls.ask("operations/list", fs=self._remote, remote=path, opt=options)


def _seconds(text: object) -> float | None:
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    return None
