"""A folder on a WebDAV server as a target, Nextcloud's among them.

Many servers show a PUT while it is still coming in, and keep what a broken one left. So an object is put under a
temporary name and then moved to its own.
"""

import base64
import contextlib
import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.network.proxy import LOOPBACK
from bitnet_core.settings.storage import DavPlace, NextcloudOptions
from bitnet_core.storage import names
from bitnet_core.storage.clients.dav import GONE, Dav
from bitnet_core.storage.clients.http import Http, Response, require_address
from bitnet_core.storage.clients.multistatus import Member
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import (
    TEMPORARY,
    Account,
    AlreadyThere,
    Found,
    Limits,
    NoSuchObject,
    Refused,
    Unreachable,
)
from bitnet_core.storage.walk import Inside, Walk, bounded

_NAMES = names.Escaping(r" !$&-)+-.0-9@-{}~-\U0010ffff", rf"[. ]{names.LAST}")
"""All but `" # % * : ; < > ? | =` and a last dot or blank: file systems of some servers refuse or drop them, and some
servers decode them twice."""
_TAKEN = {409, 423, 500}
"""How some servers answer two who make a folder at once, instead of 405."""
_CLAIM_TRIES, _CLAIM_PAUSE = 50, 0.1
"""How often to ask for a claim, and the seconds between."""


@contextlib.contextmanager
def opened(options: DavPlace | NextcloudOptions, keys: Keys) -> Iterator["DavTarget"]:
    """The target of these options. UsageError for a wrong address or a missing key."""
    name, prefix, setting, key = "webdav", "WEBDAV", "WEBDAV_URL", "WEBDAV_PASSWORD"
    if isinstance(options, NextcloudOptions):
        name, prefix, setting, key = "nextcloud", "NC", "NC_WEBDAV_URL", "NC_APP_PASSWORD"
        options = options.place
    if "@" in options.url.split("?")[0].partition("://")[2].split("/")[0]:
        raise UsageError(f"The address of {prefix} has a user in it; give user and password in their own settings.")
    require_address(setting, options.url)
    password = keys.need(key) if options.user else keys.get(key)
    url = options.url
    if name == "nextcloud" and ".php" not in url:
        url = f"{url.rstrip('/')}/remote.php/dav/files/{quote(options.user, safe='')}"
    given = base64.b64encode(f"{options.user}:{password}".encode()).decode()
    authorization = {"Authorization": f"Basic {given}"} if options.user or password else {}

    def authorize(renew: bool) -> Mapping[str, str]:
        return {} if renew else authorization

    with Http("Nextcloud" if name == "nextcloud" else "WebDAV", authorize, setting=setting) as http:
        yield DavTarget(name, http, url, options.root)


class DavTarget:
    """Objects are files below a folder of the server."""

    limits = Limits(spelled=_NAMES.escape)

    def __init__(self, name: str, http: Http, url: str, root: str) -> None:
        self.name = name
        self._dav = Dav(name, http, url)
        self._root = f"{self._dav.base}{root.strip('/')}/" if root.strip("/") else self._dav.base
        self.place = self._dav.url(self._root)

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        path = self._path(key)
        temp = self._path(f"{TEMPORARY}{time.time():.0f}-{secrets.token_hex(6)}")
        try:
            put = self._dav.in_folder(temp, lambda: self._dav.send("PUT", temp, data, expected={409}))
            if put.status not in (200, 201, 204):
                raise self._dav.refused(f"storing {key}", put)
            with self._claimed(path) if only_if_absent else contextlib.nullcontext():
                moved = self._dav.in_folder(path, lambda: self._move(temp, path, only_if_absent))
            if moved.status == 412:
                raise AlreadyThere(f"{key} is already at {self.place}.")
            if moved.status in GONE:
                raise Unreachable(f"{self._dav.url(temp)} is gone before it was moved.")
            if moved.status == 200:
                raise moved.nonsense("a confirmation of the upload")
            if moved.status not in (201, 204):
                raise self._dav.refused(f"giving {key} its name", moved)
        except BaseException:
            with contextlib.suppress(BitnetError):
                self._dav.send("DELETE", temp)
            raise

    @contextlib.contextmanager
    def _claimed(self, path: str) -> Iterator[None]:
        """Be the one writer of an object: a server looks whether a name is free and renames later.

        The claim is a folder, because of all that WebDAV can make only a folder has one maker. After a few seconds
        it is taken for one that a writer left who is gone.
        """
        claim = self._path(f"{TEMPORARY}claim-{hashlib.sha256(path.encode()).hexdigest()[:32]}") + "/"
        for _ in range(_CLAIM_TRIES):
            if self._dav.send("MKCOL", claim, expected=_TAKEN).status in (200, 201):
                break
            if self._is_there(path):
                raise AlreadyThere(f"{self._dav.url(path)} is already there.")
            time.sleep(_CLAIM_PAUSE)
        try:
            yield
        finally:
            with contextlib.suppress(BitnetError):
                self._dav.send("DELETE", claim)

    def _move(self, source: str, path: str, only_if_absent: bool) -> Response:
        headers = {"Destination": self._dav.url(path), "Overwrite": "F" if only_if_absent else "T"}
        try:
            moved = self._dav.send("MOVE", source, headers=headers, expected={409, 502})
        except Unreachable as failure:
            # Some servers are locked or stumble when another one was faster.
            try:
                if only_if_absent and self._is_there(source) and self._is_there(path):
                    raise AlreadyThere(f"{self._dav.url(path)} is already there.") from None
            except Unreachable as later:
                raise Unreachable(str(failure), max(failure.after or 0.0, later.after or 0.0)) from None
            raise
        if moved.status == 502:
            # Behind a proxy that ends TLS, a server may take its own address for another server's.
            headers["Destination"] = quote(path)
            moved = self._dav.send("MOVE", source, headers=headers, expected={409})
        return moved

    def _is_there(self, path: str) -> bool:
        return self._dav.send("HEAD", path).status == 200

    def get(self, key: str) -> bytes:
        response = self._dav.send("GET", self._path(key))
        if response.status in GONE or response.url.endswith("/"):
            raise NoSuchObject(f"{key} is not at {self.place}.")
        if response.status != 200:
            raise self._dav.refused(f"reading {key}", response)
        return response.body

    def list(self, prefix: str) -> Iterator[Found]:
        passed = bounded(self.place)

        def look(folder: str) -> Inside:
            found, folders = [], []
            for path, member in passed(self._members(folder)):
                if member.is_folder:
                    folders.append(f"{path}/")
                elif key := self._key(path):
                    found.append(Found(key, member.size or 0, member.modified))
            return found, folders

        # Depth 1 for each folder: many servers refuse to list a whole tree.
        return Walk(self._path(prefix), look)

    def _members(self, folder: str) -> Iterator[tuple[str, Member]]:
        found = self._dav.propfind(folder, "1")
        if found is None:
            return
        for path, member in found:
            name = path.removeprefix(folder)
            if not path.startswith(folder) or "/" in name or name in ("", ".", ".."):
                continue
            # Escaped, a key has up to three times its bytes.
            may_hold_keys = len(path) < len(self._root) + 3 * self.limits.key_bytes
            if (member.is_folder and may_hold_keys) or member.size is not None:
                yield path, member

    def delete(self, key: str) -> None:
        response = self._dav.send("DELETE", self._path(key))
        if response.status not in (200, 202, 204) and response.status not in GONE:
            raise self._dav.refused(f"deleting {key}", response)
        if response.status == 200 and self._is_there(self._path(key)):
            raise response.nonsense("a confirmation of the deletion")

    def check(self) -> Account:
        found = self._dav.propfind(self._root, "0") or self._dav.propfind(self._dav.base, "0")
        if not found:
            raise Refused(
                f"There is no folder at {self._dav.url(self._dav.base)}; correct {self._dav.setting('URL')}."
            )
        free = found[0][1].free_bytes
        if free == 0:
            raise Refused(f"{self.place} has no space left; free space there.")
        plain = self._dav.origin.startswith("http:") and urlsplit(self._dav.origin).hostname not in LOOPBACK
        return Account(free, "The password travels over http, where others can read it; use https." if plain else "")

    def _path(self, key: str) -> str:
        return self._root + _NAMES.escape(key)

    def _key(self, path: str) -> str:
        """The key of an object; empty for a file of another program."""
        key = _NAMES.unescape(path.removeprefix(self._root)) or ""
        return "" if names.fault(key) else key
