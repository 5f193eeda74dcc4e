"""OneDrive by Microsoft Graph: a tree of items with names that are unique without regard to case.

As documented for driveItem: addressing by id and by path, PUT of content (250 MB), upload sessions, children in
pages, content by a redirect to an address that takes no authorization.
"""

import itertools
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from bitnet_core.storage.clients.quickxor import quick_xor_hash
from tests.storage.fakes import identity
from tests.storage.fakes.identity import Identity
from tests.storage.fakes.replies import json_reply, moment, ranged
from tests.storage.tls_proxy import Reply, Request

CONTENT_HOST = "public.dm.files.1drv.com"
HOSTS = ("graph.microsoft.com", CONTENT_HOST, *identity.HOSTS)
DRIVE_ID = "0123456789abcdef"
_MOST_AT_ONCE = 250 * 1000 * 1000
_FRAGMENT = 320 << 10
_FORBIDDEN = re.compile(r'["*:<>?/\\|\x00-\x1f\x7f]|^[ ~]|[ .]$|_vti_', re.IGNORECASE)
_OWN = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d|desktop\.ini|\.lock)", re.IGNORECASE)
_CONFLICT = "@microsoft.graph.conflictBehavior"


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


@dataclass
class Item:
    id: str
    name: str
    parent: "Item | None"
    data: bytes | None = None
    """None = a folder."""
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)
    given: dict[str, str] = field(default_factory=dict)
    """fileSystemInfo, which the client may set."""
    children: dict[str, "Item"] = field(default_factory=dict)


@dataclass
class Session:
    parent: Item
    name: str
    behavior: str
    given: dict[str, str]
    data: bytearray = field(default_factory=bytearray)


class FakeGraph:
    """A user's drive. `page` is the most that a listing gives at once, `total` the quota."""

    def __init__(self, total: int = 5 << 30, page: int = 100) -> None:
        self.identity = Identity()
        self.root = Item(f"{DRIVE_ID}!root", "root", None)
        self.items: dict[str, Item] = {self.root.id: self.root}
        self.sessions: dict[str, Session] = {}
        self.total = total
        self.page = page
        self.log: list[str] = []
        """What was asked for, oldest first."""
        self._numbers = itertools.count(100)
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        if (reply := self.identity.answer(request)) is not None:
            return reply
        with self._lock:
            self.log.append(f"{request.method} {request.path} {' '.join(request.query.values())}")
            try:
                return self._content_host(request) if request.host == CONTENT_HOST else self._graph(request)
            except Refusal as refusal:
                error = {"error": {"code": refusal.code, "message": refusal.message}}
                return json_reply(refusal.status, error)

    # -- the host of contents -----------------------------------------------------------------------------
    def _content_host(self, request: Request) -> Reply:
        if "authorization" in request.headers:
            raise Refusal(401, "unauthenticated", "This address takes no authorization")
        kind, _, name = request.path.strip("/").partition("/")
        if kind == "content" and request.method == "GET":
            item = self.items.get(name)
            if item is None or item.data is None:
                raise Refusal(404, "itemNotFound")
            return ranged(item.data, request.headers.get("range", ""))
        session = self.sessions.get(name)
        if kind != "session" or session is None:
            raise Refusal(404, "itemNotFound")
        if request.method == "DELETE":
            del self.sessions[name]
            return Reply(204)
        return self._fragment(name, session, request)

    def _fragment(self, name: str, session: Session, request: Request) -> Reply:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers.get("content-range", ""))
        if request.method != "PUT" or found is None:
            raise Refusal(400, "invalidRequest", "Content-Range")
        start, last, total = map(int, found.groups())
        size = last - start + 1
        if size != len(request.body) or last >= total or size > 60 << 20:
            raise Refusal(400, "invalidRequest", "The range is not the body's")
        if start != len(session.data):
            raise Refusal(416, "invalidRange")
        if last + 1 < total and size % _FRAGMENT:
            raise Refusal(400, "invalidRequest", "Not a multiple of 320 KiB")
        session.data += request.body
        if last + 1 < total:
            return json_reply(202, {"nextExpectedRanges": [f"{last + 1}-{total - 1}"]})
        del self.sessions[name]
        return self._store(session.parent, session.name, bytes(session.data), session.behavior, session.given)

    # -- Graph --------------------------------------------------------------------------------------------
    def _graph(self, request: Request) -> Reply:
        if not self.identity.accepts(request):
            raise Refusal(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
        found = re.fullmatch(rf"/v1\.0/(?:me/drive|drives/{DRIVE_ID})(.*)", request.raw_path)
        if found is None:
            raise Refusal(404, "ResourceNotFound")
        rest = found[1]
        if rest == "":
            return _selected({"id": DRIVE_ID, "driveType": "personal", "quota": self._quota()}, request)
        start = re.match(r"/root|/items/([^/:]+)", rest)
        if start is None:
            raise Refusal(400, "invalidRequest", rest)
        base = self.root if start[1] is None else self.items.get(unquote(start[1]))
        path, action = _split(rest[start.end() :])
        if base is None:
            raise Refusal(404, "itemNotFound")
        return self._on(request, base, path, action)

    def _on(self, request: Request, base: Item, path: list[str], action: str) -> Reply:
        match request.method, action:
            case "PUT", "content":
                return self._put(request, base, path)
            case "POST", "createUploadSession":
                return self._session(request, base, path)
        item = self._find(base, path)
        match request.method, action:
            case "GET", "":
                return _selected(self._described(item), request)
            case "GET", "children":
                return self._children(request, item)
            case "GET", "content":
                if item.data is None:
                    raise Refusal(400, "invalidRequest", "Only files have content")
                return Reply(302, headers={"Location": f"https://{CONTENT_HOST}/content/{item.id}"})
            case "POST", "children":
                return self._make_folder(request, item)
            case "PATCH", "":
                return self._patch(request, item)
            case "DELETE", "":
                self._remove(item)
                return Reply(204)
        raise Refusal(405, "methodNotAllowed", f"{request.method} {action}")

    def _find(self, base: Item, path: list[str]) -> Item:
        for name in path:
            _require_name(name)
            found = base.children.get(name.casefold())
            if found is None:
                raise Refusal(404, "itemNotFound", "Item does not exist")
            base = found
        return base

    def _parent(self, base: Item, path: list[str]) -> Item:
        """The folder of a new file; missing folders are made."""
        if len("/".join(path)) > 400:
            raise Refusal(400, "pathIsTooLong")
        for name in path[:-1]:
            _require_name(name)
            base = base.children.get(name.casefold()) or self._add(base, name, None)
            if base.data is not None:
                raise Refusal(409, "nameAlreadyExists", "A file is there")
        return base

    def _put(self, request: Request, base: Item, path: list[str]) -> Reply:
        if len(request.body) > _MOST_AT_ONCE:
            raise Refusal(413, "requestEntityTooLarge")
        if not path:
            if base.data is None or base.parent is None:
                raise Refusal(400, "invalidRequest")
            return self._store(base.parent, base.name, request.body, "replace", {})
        behavior = request.query.get(_CONFLICT, "replace")
        if behavior not in ("replace", "fail"):
            raise Refusal(400, "invalidRequest", _CONFLICT)
        return self._store(self._parent(base, path), path[-1], request.body, behavior, {})

    def _store(self, parent: Item, name: str, data: bytes, behavior: str, given: dict[str, str]) -> Reply:
        _require_name(name)
        there = parent.children.get(name.casefold())
        if there is not None and (there.data is None or behavior == "fail"):
            raise Refusal(409, "nameAlreadyExists", "The specified item name already exists")
        used = self._quota()["used"] - len((there.data if there else None) or b"")
        if used + len(data) > self.total:
            raise Refusal(507, "quotaLimitReached", "Insufficient Space Available")
        item = there or self._add(parent, name, b"")
        item.data, item.given, item.modified = data, given, time.time()
        return json_reply(200 if there else 201, self._described(item))

    def _session(self, request: Request, base: Item, path: list[str]) -> Reply:
        asked = json.loads(request.body or b"{}").get("item", {})
        parent = self._parent(base, path)
        _require_name(path[-1])
        name = secrets.token_hex(8)
        behavior = asked.get(_CONFLICT, "replace")
        self.sessions[name] = Session(parent, path[-1], behavior, asked.get("fileSystemInfo", {}))
        until = moment(time.time() + 86400)
        return json_reply(200, {"uploadUrl": f"https://{CONTENT_HOST}/session/{name}", "expirationDateTime": until})

    def _make_folder(self, request: Request, parent: Item) -> Reply:
        asked = json.loads(request.body)
        if not isinstance(asked.get("folder"), dict) or parent.data is not None:
            raise Refusal(400, "invalidRequest")
        _require_name(asked["name"])
        if asked["name"].casefold() in parent.children:
            raise Refusal(409, "nameAlreadyExists")
        return json_reply(201, self._described(self._add(parent, asked["name"], None)))

    def _patch(self, request: Request, item: Item) -> Reply:
        asked = json.loads(request.body)
        if not set(asked) <= {"fileSystemInfo"}:
            raise Refusal(400, "invalidRequest", "Only fileSystemInfo can be set here")
        item.given = asked["fileSystemInfo"]
        return json_reply(200, self._described(item))

    def _children(self, request: Request, folder: Item) -> Reply:
        if folder.data is not None:
            raise Refusal(400, "invalidRequest", "Not a folder")
        allowed = {"$top", "$select", "$skiptoken", "$expand", "$orderby"}
        if not set(request.query) <= allowed:
            raise Refusal(400, "invalidRequest", f"{set(request.query) - allowed}")
        children = [folder.children[name] for name in sorted(folder.children)]
        after = request.query.get("$skiptoken", "")
        rest = [one for one in children if one.name.casefold() > after] if after else children
        most = min(int(request.query.get("$top", "200")), self.page)
        select = request.query.get("$select", "")
        body: dict[str, Any] = {"value": [_select(self._described(one), select) for one in rest[:most]]}
        if len(rest) > most:
            kept = {**request.query, "$skiptoken": rest[most - 1].name.casefold()}
            query = "&".join(f"{name}={_quoted(value)}" for name, value in kept.items())
            body["@odata.nextLink"] = f"https://graph.microsoft.com{request.raw_path}?{query}"
        return json_reply(200, body)

    def _add(self, parent: Item, name: str, data: bytes | None) -> Item:
        item = Item(f"{DRIVE_ID}!{next(self._numbers)}", name, parent, data)
        self.items[item.id] = item
        parent.children[name.casefold()] = item
        return item

    def _remove(self, item: Item) -> None:
        for child in list(item.children.values()):
            self._remove(child)
        if item.parent is None:
            raise Refusal(403, "accessDenied")
        del item.parent.children[item.name.casefold()]
        del self.items[item.id]

    def _quota(self) -> dict[str, Any]:
        used = sum(len(item.data or b"") for item in self.items.values())
        state = "exceeded" if used >= self.total else "normal"
        return {"total": self.total, "used": used, "remaining": max(0, self.total - used), "state": state}

    def _described(self, item: Item) -> dict[str, Any]:
        created, modified = moment(item.created), moment(item.modified)
        described: dict[str, Any] = {
            "id": item.id,
            "name": item.name,
            "size": len(item.data or b""),
            "createdDateTime": created,
            "lastModifiedDateTime": modified,
            "fileSystemInfo": {"createdDateTime": created, "lastModifiedDateTime": modified, **item.given},
        }
        if item.parent is not None:
            described["parentReference"] = {"driveId": DRIVE_ID, "driveType": "personal", "id": item.parent.id}
        if item.data is None:
            return {**described, "folder": {"childCount": len(item.children)}}
        hashes = {"quickXorHash": quick_xor_hash(item.data)}
        return {**described, "file": {"mimeType": "application/octet-stream", "hashes": hashes}}


def _split(rest: str) -> tuple[list[str], str]:
    """The path and the action of `:/a/b:/content`, `/children` or nothing."""
    if not rest.startswith(":"):
        return [], rest.strip("/")
    path, _, action = rest[1:].partition(":")
    names = [unquote(name) for name in path.strip("/").split("/")]
    if "" in names or "?" in path:
        raise Refusal(400, "invalidRequest", path)
    return names, action.strip("/")


def _require_name(name: str) -> None:
    if _FORBIDDEN.search(name) or _OWN.fullmatch(name) or len(name) > 255:
        raise Refusal(400, "invalidRequest", "The provided name cannot contain or be what is reserved")


def _selected(body: dict[str, Any], request: Request) -> Reply:
    return json_reply(200, _select(body, request.query.get("$select", "")))


def _select(body: dict[str, Any], names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if not names or name in names.split(",")}


def _quoted(value: str) -> str:
    return "".join(_hexes(value))


def _hexes(value: str) -> Iterator[str]:
    for byte in value.encode():
        yield f"%{byte:02X}"
