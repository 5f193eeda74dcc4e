"""Requests to one WebDAV server: folders made when they are needed, listings read, and its ways to say no.

Paths are decoded and absolute; a folder's ends with `/`.
"""

import threading
import unicodedata
from collections.abc import Callable, Collection, Mapping
from urllib.parse import quote, unquote, urljoin, urlsplit

from bitnet_core.storage.clients import multistatus
from bitnet_core.storage.clients.http import MOST_BYTES, Http, Response
from bitnet_core.storage.clients.multistatus import Member
from bitnet_core.storage.target import MIB, Refused

GONE = {404, 410}
_NO_FOLDER = {403, 404, 409}
"""How servers answer a PUT or MOVE into a folder that is not there."""
_LISTING_BYTES = 16 * MIB
_FIXES = {
    401: "check {user} and {password}",
    403: "give the user permission to read and write there",
    413: "raise the server's limit on the size of a request to 33 MiB",
    414: "use shorter names",
    507: "free space there",
}

Members = list[tuple[str, Member]]
"""With the decoded path of each."""


class Dav:
    """The server that `name` stands for, webdav or nextcloud. Safe to use from threads."""

    def __init__(self, name: str, http: Http, url: str) -> None:
        parts = urlsplit(url)
        self._name = name
        self._http = http
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.base = unquote(parts.path).rstrip("/") + "/"
        self._made = {self.base}
        self._making = threading.Lock()

    def propfind(self, folder: str, depth: str) -> Members | None:
        """The members of a folder and itself, with their paths without a last `/`; None if it is not there."""
        url = self.url(folder)
        headers = {"Depth": depth, "Content-Type": "application/xml"}
        response = self.send("PROPFIND", folder, multistatus.ASK, headers, {409}, _LISTING_BYTES)
        if response.status in GONE or response.status in (400, 409):
            return None  # 400: Apache, for a file
        if response.status == 200:
            raise response.nonsense("a listing")
        if response.status != 207:
            raise self.refused(f"listing {url}", response)
        try:
            members = multistatus.members(response.body)
        except ValueError as error:
            raise Refused(f"{url} answers a listing with something else ({error}); check the address.") from None
        found = [(path, member) for member in members if (path := _path_of(url, member.href)) is not None]
        if not any(path == folder.rstrip("/") for path, _ in found):
            raise Refused(
                f"{url} lists another folder than itself; give {self.setting('URL')} as the server knows it."
            )
        return found

    def in_folder(self, path: str, send: Callable[[], Response]) -> Response:
        """Make the folder of `path`, then send; both once more if the folder was only remembered and is gone."""
        folder = path[: path.rindex("/") + 1]
        is_new = self._make_folders(folder)
        response = send()
        if response.status in _NO_FOLDER and not is_new:
            with self._making:
                self._made = {self.base}
            self._make_folders(folder)
            response = send()
        return response

    def _make_folders(self, folder: str) -> bool:
        with self._making:
            missing = []
            while folder not in self._made:
                missing.append(folder)
                folder = folder[: folder[:-1].rindex("/") + 1]
            for one in reversed(missing):
                response = self.send("MKCOL", one, expected={409})
                # 405: it is there.
                if response.status not in (200, 201, 204, 405) and not self.propfind(one, "0"):
                    raise self.refused(f"making the folder {self.url(one)}", response)
                self._made.add(one)
        return bool(missing)

    def send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        expected: Collection[int] = (),
        most_bytes: int = MOST_BYTES,
    ) -> Response:
        response = self._http.send(
            method, self.url(path), content=content, headers=headers, busy=False, most_bytes=most_bytes
        )
        if response.status not in expected:
            self._http.require_ready(response)
        if response.status == 401:
            raise self.refused("signing in", response)
        return response

    def refused(self, what: str, response: Response) -> Refused:
        fix = _FIXES.get(response.status, "check {url}, and the server's log")
        settings = {name.lower(): self.setting(name) for name in ("URL", "USER", "PASSWORD")}
        return self._http.refused(what, response, fix.format(**settings))

    def setting(self, what: str) -> str:
        if self._name == "nextcloud":
            return {"URL": "NC_WEBDAV_URL", "USER": "NC_USERNAME", "PASSWORD": "NC_APP_PASSWORD"}[what]
        return {"URL": "WEBDAV_URL", "USER": "WEBDAV_USERNAME", "PASSWORD": "WEBDAV_PASSWORD"}[what]

    def url(self, path: str) -> str:
        return self.origin + quote(path)


def _path_of(url: str, href: str) -> str | None:
    """The decoded path of a member, without a last `/`; None for other hosts and what can't be decoded.

    A server behind a proxy may write another scheme or port than it is reached by.
    """
    try:
        parts = urlsplit(urljoin(url, href))
        if parts.hostname != urlsplit(url).hostname:
            return None
        segments = [unquote(segment, errors="strict") for segment in parts.path.rstrip("/").split("/")]
    except ValueError:
        return None
    if any("/" in segment for segment in segments):
        return None
    return unicodedata.normalize("NFC", "/".join(segments))
