"""OneDrive as a target, by Microsoft Graph: objects are files below a folder, and one PUT makes one."""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeGuard
from urllib.parse import quote, urlsplit

from bitnet_core.settings.storage import OneDriveOptions
from bitnet_core.storage import names
from bitnet_core.storage.catalog import KINDS
from bitnet_core.storage.clients.http import Http, Response
from bitnet_core.storage.clients.quickxor import quick_xor_hash
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.names import FIRST, LAST, Escaping
from bitnet_core.storage.oauth import AccessToken
from bitnet_core.storage.target import Account, AlreadyThere, Found, Limits, NoSuchObject, Refused, Unreachable
from bitnet_core.storage.untrusted import body_of, count_of, object_of, objects_of, text_of, unix_seconds_of
from bitnet_core.storage.walk import Inside, Walk
from bitnet_core.text import flat, printable

_TITLE = "OneDrive"
_GRAPH = "https://graph.microsoft.com"
_DRIVE = f"{_GRAPH}/v1.0/me/drive"
_LONGEST_PATH = 400
_MOST_PAGES = 100_000
_LOGIN = "run `bitnet store login`"
_FIXES = {
    401: _LOGIN,
    403: f"allow the app Files.ReadWrite, and {_LOGIN}",
    507: "free space in OneDrive, and empty its recycle bin",
}
_OWN_NAMES = r"con|prn|aux|nul|com\d|lpt\d|desktop|forms|\.lock"
"""Names of Windows' devices and of SharePoint's own files, without what follows a dot."""
_NAMES = Escaping(
    r"\x20\x21\x23-\x29\x2b-\x2e\x30-\x39\x3b\x40-\x5b\x5d-\x7b\x7d\x7e\x80-\U0010ffff",
    rf"{FIRST}[ ~]|[ .]{LAST}|(?i:_(?=vti_))|(?i:{FIRST}(?=(?:{_OWN_NAMES})(?:\.[^/]*)?{LAST})[^/])",
)


@contextlib.contextmanager
def opened(options: OneDriveOptions, keys: Keys) -> Iterator["OneDriveTarget"]:
    """The target of these options. UsageError without the app's id or a refresh token."""
    token = AccessToken(KINDS["onedrive"], options, keys)
    with Http(_TITLE, token.headers) as http:
        yield OneDriveTarget(http, options.root)


class OneDriveTarget:
    """A PUT is atomic, for Graph takes up to 250 MB in one. What is deleted goes to OneDrive's recycle bin."""

    name = "onedrive"

    def __init__(self, http: Http, root: str) -> None:
        self._http = http
        self._root = root.strip("/")
        if self._root and (why := names.fault(self._root)):
            raise Refused(f"ONEDRIVE_ROOT={flat(root)} can't be a folder: {why}; set another one.")
        self.place = f"OneDrive:/{printable(self._root)}"
        self.limits = Limits(
            segment_bytes=250,
            key_bytes=_LONGEST_PATH - len(self._root) - 1,
            case_sensitive=False,
            spelled=_NAMES.escape,
        )

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        behavior = "fail" if only_if_absent else "replace"
        url = f"{self._address(key, 'content')}?@microsoft.graph.conflictBehavior={behavior}"
        headers = {"Content-Type": "application/octet-stream"}
        response = self._http.send("PUT", url, content=data, headers=headers, busy=False)
        if response.status == 409:
            raise self._conflict(key, only_if_absent, response)
        self._http.require_ready(response)
        if response.status not in (200, 201):
            raise self._refused(f"storing {printable(key)}", response)
        self._verify(key, data, response)

    def _conflict(self, key: str, only_if_absent: bool, response: Response) -> Exception:
        """The error of a 409: the object, a folder of its name, or a folder that another call makes just now."""
        there = self._item(key)
        if there is None or ("file" in there and not only_if_absent):
            return Unreachable(f"{_TITLE} is busy ({response.words}).")
        if "file" in there:
            return AlreadyThere(f"{printable(key)} is already in {_TITLE}.")
        return self._http.refused(f"storing {printable(key)}", response, "a folder has this name; remove it")

    def _verify(self, key: str, data: bytes, response: Response) -> None:
        stored = _item_in(response)
        file = object_of(stored.get("file"))
        given = object_of(file.get("hashes")).get("quickXorHash")
        if stored.get("size") == len(data) and given in (None, quick_xor_hash(data)):
            return
        if response.status == 201 and (id_ := text_of(stored.get("id"))):
            self._http.send("DELETE", f"{_DRIVE}/items/{quote(id_, safe='!')}")
        raise Unreachable(f"{_TITLE} stored {printable(key)} with other bytes than it was sent.")

    def get(self, key: str) -> bytes:
        response = self._http.send("GET", self._address(key, "content"))
        if response.status == 404:
            raise NoSuchObject(f"{printable(key)} is not in {_TITLE}.")
        if response.status not in (200, 204):
            raise self._refused(f"reading {printable(key)}", response)
        return response.body

    def list(self, prefix: str) -> Iterator[Found]:
        asked: set[str] = set()
        return Walk(prefix, lambda folder: self._look(folder, asked))

    def _look(self, prefix: str, asked: set[str]) -> Inside:
        found, folders = [], []
        for item in self._children(prefix, asked):
            key, size = _NAMES.unescape(text_of(item.get("name"))), count_of(item.get("size"))
            if key is None or names.fault(key) or "/" in key:
                continue
            if "folder" in item:
                if len(prefix) + len(key) < _LONGEST_PATH:
                    folders.append(f"{prefix}{key}/")
            elif "file" in item and size is not None:
                found.append(Found(f"{prefix}{key}", size, unix_seconds_of(item.get("lastModifiedDateTime"))))
        return found, folders

    def _children(self, prefix: str, asked: set[str]) -> Iterator[dict[str, Any]]:
        """The items of a folder; `asked` are the addresses of this listing so far."""
        select = "name,size,file,folder,lastModifiedDateTime"
        link: object = f"{self._address(prefix.rstrip('/'), 'children')}?$select={select}&$top=1000"
        pages: set[str] = set()
        while link is not None:
            if not _is_graph(link) or link in pages or len(asked) + len(pages) >= _MOST_PAGES:
                raise Refused(f"{_TITLE} sent a listing without an end or of another server; try another network.")
            pages.add(link)
            response = self._http.send("GET", link)
            if response.status == 404 or (response.status == 400 and self._is_file(prefix.rstrip("/"))):
                return
            if response.status != 200:
                raise self._refused("listing", response)
            page = response.object("a listing")
            items = objects_of(page.get("value"))
            if items != page.get("value") or not all(isinstance(item.get("name"), str) for item in items):
                raise response.nonsense("a listing")
            yield from items
            link = page.get("@odata.nextLink")
        asked |= pages  # not those of a folder that is to be listed again

    def delete(self, key: str) -> None:
        item = self._item(key)
        id_ = text_of((item or {}).get("id"))
        if item is None or "file" not in item or not id_:
            return  # by its path, a folder would go with all that is in it
        response = self._http.send("DELETE", f"{_DRIVE}/items/{quote(id_, safe='!')}")
        if response.status not in (200, 204, 404):
            raise self._refused(f"deleting {printable(key)}", response)
        if response.status == 200 and response.body.strip():
            raise response.nonsense("a confirmation of the deletion")

    def check(self) -> Account:
        response = self._http.send("GET", f"{_DRIVE}?$select=quota")
        if response.status == 404:
            raise self._http.refused("opening it", response, "open OneDrive once in a browser, so that it is made")
        if response.status != 200:
            raise self._refused("opening it", response)
        if self._root and self._is_file(""):
            raise Refused(f"{self.place} is a file; set ONEDRIVE_ROOT to another folder.")
        drive = response.object("a drive")
        quota = object_of(drive.get("quota"))
        if not quota and "@odata.context" not in drive:
            raise response.nonsense("a drive")
        if quota.get("state") == "exceeded":
            raise Refused(f"{_TITLE} is full; {_FIXES[507]}.")
        return Account(count_of(quota.get("remaining")))

    def _item(self, key: str) -> dict[str, Any] | None:
        response = self._http.send("GET", f"{self._address(key)}?$select=id,size,file,folder")
        if response.status == 404:
            return None
        if response.status != 200:
            raise self._refused(f"looking for {printable(key)}", response)
        return _item_in(response)

    def _is_file(self, key: str) -> bool:
        return "file" in (self._item(key) or {})

    def _address(self, key: str, what: str = "") -> str:
        path = "/".join(part for part in (self._root, _NAMES.escape(key)) if part)
        if len(path) > _LONGEST_PATH:
            raise Refused(f"{printable(key)} is too long for {_TITLE}; use a shorter name or ONEDRIVE_ROOT.")
        if not path:
            return f"{_DRIVE}/root/{what}".rstrip("/")
        return f"{_DRIVE}/root:/{quote(path)}" + (f":/{what}" if what else ":")

    def _refused(self, what: str, response: Response) -> Refused:
        code = object_of(body_of(response).get("error")).get("code")
        status = 507 if code == "quotaLimitReached" else response.status
        return self._http.refused(what, response, _FIXES.get(status, "see what its message names"))


def _item_in(response: Response) -> dict[str, Any]:
    item = response.object("a file")
    if not text_of(item.get("id")):
        raise response.nonsense("a file")
    return item


def _is_graph(link: object) -> TypeGuard[str]:
    with contextlib.suppress(ValueError):
        return isinstance(link, str) and urlsplit(link)[:2] == urlsplit(_GRAPH)[:2]
    return False
