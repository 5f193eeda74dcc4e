"""A fake of Box's API 2.0: folders, files, upload sessions, rotating tokens. What Box would refuse is refused."""

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from tests.storage.fakes.replies import json_reply
from tests.storage.tls_proxy import Reply, Request

HOSTS = ("api.box.com", "upload.box.com", "account.box.com", "dl.boxcloud.com")
PERMISSIONS = (
    *("can_delete", "can_download", "can_invite_collaborator", "can_rename"),
    *("can_set_share_access", "can_share", "can_upload"),
)
_PART = 8 << 20
_DIRECT = 52_428_800


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def fault_of(name: str) -> str:
    """Why Box takes no item of this name, as its code; empty if it does."""
    if len(name) > 255:
        return "item_name_too_long"
    if not name or name in (".", "..") or name != name.strip(" ") or re.search(r"[\x00-\x1f\x7f/\\]", name):
        return "item_name_invalid"
    return ""


@dataclass
class _Item:
    id: str
    name: str
    parent: str
    data: bytes | None = None
    modified: str = ""
    content_modified: str = ""
    etag: int = 0

    def mini(self) -> dict[str, Any]:
        common = {"id": self.id, "sequence_id": str(self.etag), "etag": str(self.etag), "name": self.name}
        if self.data is None:
            return {"type": "folder", **common}
        return {"type": "file", **common, "sha1": _sha1(self.data)}

    def full(self) -> dict[str, Any]:
        return {
            **self.mini(),
            "size": len(self.data or b""),
            "created_at": self.modified,
            "modified_at": self.modified,
            "content_created_at": self.content_modified,
            "content_modified_at": self.content_modified,
            "item_status": "active",
            "parent": {"type": "folder", "id": self.parent},
            "permissions": dict.fromkeys(PERMISSIONS, True),
        }


@dataclass
class _Session:
    given: dict[str, Any]
    file: str
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class _No(Exception):
    def __init__(self, status: int, code: str, context: dict[str, Any] | None = None) -> None:
        super().__init__(code)
        self.reply = json_reply(
            status,
            {
                "type": "error",
                "status": status,
                "code": code,
                "context_info": context or {},
                "help_url": "http://developers.box.com/docs/#errors",
                "message": code.replace("_", " "),
                "request_id": "1n9vlgga1q1z5ps",
            },
        )


class FakeBox:
    """One account. `page` bounds a listing's pages. Each refresh token works once."""

    def __init__(self, page: int = 100, space: int = 10 << 30) -> None:
        self.page = page
        self.space = space
        self.access: set[str] = set()
        self.refresh_tokens: set[str] = set()
        self.app = ("the-client-id", "the-client-secret")
        self.items = {"0": _Item("0", "All Files", "")}
        self.sessions: dict[str, _Session] = {}
        self.links: dict[str, str] = {}
        self.log: list[str] = []
        self._ids = count(1001)
        self._lock = threading.RLock()

    def answer(self, request: Request) -> Reply:
        self.log.append(f"{request.method} {request.path}")
        if request.path == "/oauth2/token" and request.method == "POST":
            return self._token(request)
        if request.host == "dl.boxcloud.com":
            link = self.links.get(request.path)
            return Reply(404) if link is None else _download(self.items[link].data or b"", request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.access:
            said = 'Bearer realm="Service", error="invalid_token", error_description="The access token is invalid."'
            return Reply(401, headers={"WWW-Authenticate": said})
        path = request.path.removeprefix("/api" if request.host == "upload.box.com" else "")
        for method, pattern, handler in _ROUTES:
            found = re.fullmatch(f"/2.0/{pattern}", path)
            uploads = handler in _UPLOADS
            if found and method == request.method and uploads == (request.host == "upload.box.com"):
                try:
                    with self._lock:
                        return handler(self, request, *found.groups())
                except _No as no:
                    return no.reply
        return _No(404, "not_found").reply

    def _token(self, request: Request) -> Reply:
        form = request.form()
        if (form.get("client_id"), form.get("client_secret")) != self.app:
            return json_reply(
                400, {"error": "invalid_client", "error_description": "The client credentials are invalid"}
            )
        with self._lock:
            if form.get("grant_type") != "refresh_token" or form.get("refresh_token") not in self.refresh_tokens:
                return json_reply(400, {"error": "invalid_grant", "error_description": "Invalid refresh token"})
            self.refresh_tokens.remove(form["refresh_token"])
            access, refresh = (f"{kind}-{secrets.token_urlsafe(12)}" for kind in ("access", "refresh"))
            self.access.add(access)
            self.refresh_tokens.add(refresh)
        return json_reply(
            200,
            {
                "access_token": access,
                "expires_in": 3600,
                "restricted_to": [],
                "refresh_token": refresh,
                "token_type": "bearer",
            },
        )

    def folder(self, request: Request, folder: str) -> Reply:
        return json_reply(200, _chosen(self._item(folder, folder=True), request))

    def folder_items(self, request: Request, folder: str) -> Reply:
        self._item(folder, folder=True)
        below = [item for item in self.items.values() if item.parent == folder]
        limit = min(int(request.query.get("limit", 100)), self.page)
        by_marker = request.query.get("usemarker") == "true"
        start = int(request.query.get("marker" if by_marker else "offset") or 0)
        if by_marker and "offset" in request.query:
            raise _No(400, "bad_request")
        chosen = below[start : start + limit]
        answer: dict[str, Any] = {"limit": limit, "entries": [_chosen(item, request) for item in chosen]}
        if by_marker:
            answer["next_marker"] = str(start + limit) if start + limit < len(below) else None
        else:
            answer |= {"total_count": len(below), "offset": start}
        return json_reply(200, answer)

    def create_folder(self, request: Request) -> Reply:
        given = json.loads(request.body)
        self._item(given["parent"]["id"], folder=True)
        self._require_free(given["name"], given["parent"]["id"], many=True)
        item = self._add(given["name"], given["parent"]["id"], None)
        return json_reply(201, _chosen(item, request))

    def remove(self, item: str) -> None:
        """Put an item, and what is below it, into the trash."""
        for below in [one.id for one in self.items.values() if one.parent == item]:
            self.remove(below)
        del self.items[item]

    def preflight(self, request: Request) -> Reply:
        given = json.loads(request.body)
        self._require_free(given["name"], given.get("parent", {}).get("id", "0"))
        return json_reply(200, {"upload_url": "https://upload.box.com/api/2.0/files/content", "upload_token": ""})

    def preflight_version(self, _: Request, file: str) -> Reply:
        self._item(file, folder=False)
        return json_reply(
            200, {"upload_url": f"https://upload.box.com/api/2.0/files/{file}/content", "upload_token": ""}
        )

    def upload(self, request: Request) -> Reply:
        attributes, data = _parts_of(request)
        return json_reply(201, _collection(self._store(attributes, data)))

    def upload_version(self, request: Request, file: str) -> Reply:
        attributes, data = _parts_of(request)
        return json_reply(201, _collection(self._store(attributes, data, file)))

    def _store(self, given: dict[str, Any], data: bytes, file: str = "") -> _Item:
        if file:
            item = self._item(file, folder=False)
            if given.get("name", item.name) != item.name:
                self._require_free(given["name"], item.parent, unless=file)
                item.name = given["name"]
        else:
            self._item(given["parent"]["id"], folder=True)
            self._require_free(given["name"], given["parent"]["id"])
        if sum(len(one.data or b"") for one in self.items.values()) + len(data) > self.space:
            raise _No(403, "storage_limit_exceeded")
        if not file:
            item = self._add(given["name"], given["parent"]["id"], data)
        item.data, item.modified, item.etag = data, _now(), item.etag + bool(file)
        item.content_modified = given.get("content_modified_at") or item.modified
        return item

    def start_session(self, request: Request, file: str = "") -> Reply:
        given = json.loads(request.body)
        if given["file_size"] < 20_000_000:
            raise _No(400, "file_size_too_small")
        if file:
            self._item(file, folder=False)
        else:
            self._item(given["folder_id"], folder=True)
            self._require_free(given["file_name"], given["folder_id"])
        session = secrets.token_hex(8)
        self.sessions[session] = _Session(given, file)
        return json_reply(
            201,
            {
                "id": session,
                "type": "upload_session",
                "part_size": _PART,
                "total_parts": -(-given["file_size"] // _PART),
                "num_parts_processed": 0,
                "session_expires_at": "2099-01-01T00:00:00+00:00",
                "session_endpoints": {},
            },
        )

    def part(self, request: Request, session: str) -> Reply:
        _check_digest(request.headers.get("digest", ""), request.body)
        place = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers.get("content-range", ""))
        if session not in self.sessions or place is None or int(place[1]) % _PART:
            raise _No(416, "range_not_satisfiable")
        part = secrets.token_hex(4).upper()
        self.sessions[session].parts[int(place[1])] = (part, request.body)
        sha1 = _sha1(request.body)
        return json_reply(
            200, {"part": {"part_id": part, "offset": int(place[1]), "size": len(request.body), "sha1": sha1}}
        )

    def commit(self, request: Request, session: str) -> Reply:
        if session not in self.sessions:
            raise _No(404, "not_found")
        stored, given = self.sessions[session], json.loads(request.body)
        if [part["part_id"] for part in given["parts"]] != [one[0] for _, one in sorted(stored.parts.items())]:
            raise _No(400, "parts_mismatch")
        data = b"".join(one[1] for _, one in sorted(stored.parts.items()))
        if len(data) != stored.given["file_size"]:
            raise _No(400, "parts_mismatch")
        _check_digest(request.headers.get("digest", ""), data)
        attributes = dict(given.get("attributes", {}))
        if not stored.file:
            attributes |= {"name": stored.given["file_name"], "parent": {"id": stored.given["folder_id"]}}
        return json_reply(201, _collection(self._store(attributes, data, stored.file)))

    def download(self, _: Request, file: str) -> Reply:
        item = self._item(file, folder=False)
        link = f"/d/1/{secrets.token_urlsafe(16)}/download"
        self.links[link] = item.id
        return Reply(302, headers={"Location": f"https://dl.boxcloud.com{link}"})

    def file(self, request: Request, file: str) -> Reply:
        return json_reply(200, _chosen(self._item(file, folder=False), request))

    def update_file(self, request: Request, file: str) -> Reply:
        item, given = self._item(file, folder=False), json.loads(request.body)
        item.content_modified = given.get("content_modified_at", item.content_modified)
        return json_reply(200, _chosen(item, request))

    def delete_file(self, _: Request, file: str) -> Reply:
        self._item(file, folder=False)
        self.remove(file)
        return Reply(204)

    def me(self, _: Request) -> Reply:
        used = sum(len(item.data or b"") for item in self.items.values())
        return json_reply(
            200,
            {
                "type": "user",
                "id": "11446498",
                "name": "Tester",
                "login": "tester@example.com",
                "created_at": _now(),
                "modified_at": _now(),
                "space_amount": self.space,
                "space_used": used,
                "max_upload_size": 5 << 30,
            },
        )

    def _item(self, item: str, *, folder: bool) -> _Item:
        found = self.items.get(item)
        if found is None or (found.data is None) != folder:
            raise _No(404, "not_found")
        return found

    def _require_free(self, name: str, parent: str, *, many: bool = False, unless: str = "") -> None:
        if code := fault_of(name):
            raise _No(400, code)
        for item in self.items.values():
            if item.parent == parent and item.name.casefold() == name.casefold() and item.id != unless:
                raise _No(409, "item_name_in_use", {"conflicts": [item.mini()] if many else item.mini()})

    def _add(self, name: str, parent: str, data: bytes | None) -> _Item:
        item = _Item(str(next(self._ids)), name, parent, data, _now(), _now())
        self.items[item.id] = item
        return item


_Handler = Callable[..., Reply]
_ROUTES: tuple[tuple[str, str, _Handler], ...] = (
    ("GET", r"folders/(\d+)", FakeBox.folder),
    ("GET", r"folders/(\d+)/items", FakeBox.folder_items),
    ("POST", "folders", FakeBox.create_folder),
    ("OPTIONS", "files/content/?", FakeBox.preflight),
    ("OPTIONS", r"files/(\d+)/content", FakeBox.preflight_version),
    ("POST", "files/content", FakeBox.upload),
    ("POST", r"files/(\d+)/content", FakeBox.upload_version),
    ("POST", "files/upload_sessions", FakeBox.start_session),
    ("POST", r"files/(\d+)/upload_sessions", FakeBox.start_session),
    ("PUT", r"files/upload_sessions/(\w+)", FakeBox.part),
    ("POST", r"files/upload_sessions/(\w+)/commit", FakeBox.commit),
    ("GET", r"files/(\d+)/content", FakeBox.download),
    ("GET", r"files/(\d+)", FakeBox.file),
    ("PUT", r"files/(\d+)", FakeBox.update_file),
    ("DELETE", r"files/(\d+)", FakeBox.delete_file),
    ("GET", "users/me", FakeBox.me),
)
_UPLOADS = (FakeBox.upload, FakeBox.upload_version, FakeBox.start_session, FakeBox.part, FakeBox.commit)


def _parts_of(request: Request) -> tuple[dict[str, Any], bytes]:
    """The attributes and the file of a form, in this order; the file is as long and as `Content-MD5` says."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    if boundary is None:
        raise _No(400, "bad_request")
    parts = []
    for piece in request.body.split(b"--" + boundary[1].encode())[1:-1]:
        header, _, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'name="(\w+)"', header)
        parts.append((name[1] if name else b"", data.removesuffix(b"\r\n")))
    # The file's part may have any name; rclone and Box's SDK give it two.
    if len(parts) != 2 or parts[0][0] != b"attributes":
        raise _No(400, "metadata_after_file_contents")
    data = parts[1][1]
    if len(data) > _DIRECT:
        raise _No(413, "request_entity_too_large")
    if request.headers.get("content-md5") not in (None, _sha1(data)):
        raise _No(400, "bad_digest")
    return json.loads(parts[0][1]), data


def _check_digest(digest: str, data: bytes) -> None:
    if digest != "sha=" + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode():
        raise _No(400, "bad_digest")


def _download(data: bytes, request: Request) -> Reply:
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    if found := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
        start, end = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        return Reply(206, data[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"})
    return Reply(200, data, headers)


def _chosen(item: _Item, request: Request) -> dict[str, Any]:
    """What a reply has of an item: with `fields` those, beside the few that are always there."""
    fields = request.query.get("fields")
    if not fields:
        return item.full()
    full = item.full()
    return {**item.mini(), **{name: full[name] for name in fields.split(",") if name in full}}


def _collection(item: _Item) -> dict[str, Any]:
    return {"total_count": 1, "entries": [item.full()]}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
