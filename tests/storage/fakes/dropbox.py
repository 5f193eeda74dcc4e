"""A fake of Dropbox's API v2: files, upload sessions, space. Requests that Dropbox would refuse are refused."""

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.storage.fakes.replies import json_reply
from tests.storage.tls_proxy import Reply, Request

HOSTS = ("api.dropboxapi.com", "content.dropboxapi.com", "notify.dropboxapi.com")
_IGNORED = {"desktop.ini", "thumbs.db", ".ds_store", "icon\r", ".dropbox", ".dropbox.attr", ".dropbox.cache"}
_BLOCK = 4 << 20
_TOKEN_SECONDS = 14_400


def content_hash(data: bytes) -> str:
    """Dropbox's hash: SHA-256 of the SHA-256 of each block of 4 MiB."""
    blocks = (data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK))
    return hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()


def fault_of(path: str) -> str:
    """Why Dropbox takes no file of this path, as its tag; empty if it does."""
    if not re.fullmatch(r"(/[^/]+)+", path) or "\\" in path or any(ord(c) < 32 or ord(c) in {127} for c in path):
        return "malformed_path"
    segments = path.split("/")[1:]
    if any(ord(c) > 0xFFFF for c in path) or any(
        s in (".", "..") or s.endswith(" ") or len(s) > 255 for s in segments
    ):
        return "malformed_path"
    if any(s.lower() in _IGNORED or s.startswith(("~$", ".~")) for s in segments):
        return "disallowed_name"
    return "disallowed_name" if any(re.fullmatch(r"~.*\.tmp", s.lower()) for s in segments) else ""


@dataclass
class _Node:
    path: str
    data: bytes | None
    modified: str
    client_modified: str
    rev: str = field(default_factory=lambda: secrets.token_hex(8))
    id: str = field(default_factory=lambda: "id:" + secrets.token_urlsafe(16))

    def metadata(self) -> dict[str, Any]:
        common = {
            "name": self.path.rpartition("/")[2],
            "path_lower": self.path.lower(),
            "path_display": self.path,
            "id": self.id,
        }
        if self.data is None:
            return {".tag": "folder", **common}
        return {
            ".tag": "file",
            **common,
            "client_modified": self.client_modified,
            "server_modified": self.modified,
            "rev": self.rev,
            "size": len(self.data),
            "is_downloadable": True,
            "content_hash": content_hash(self.data),
        }


class _No(Exception):
    """An endpoint's error, as its tags: `path/conflict/file`; in `path!/…` the rest is the `reason` of a struct."""


class FakeDropbox:
    """One account. `access` are the tokens that it takes; `page` bounds a listing's pages."""

    def __init__(self, page: int = 100, allocated: int = 2 << 30) -> None:
        self.page = page
        self.allocated = allocated
        self.access: dict[str, float] = {}
        self.refresh_tokens: set[str] = set()
        self.app = ("the-app-key", "the-app-secret")
        self.nodes: dict[str, _Node] = {}
        self.sessions: dict[str, bytearray] = {}
        self.cursors: dict[str, list[dict[str, Any]]] = {}
        self.log: list[str] = []
        self._lock = threading.RLock()

    def answer(self, request: Request) -> Reply:
        route = request.path.removeprefix("/2/")
        self.log.append(route)
        if request.method != "POST":
            return _plain(400, "Error: only POST")
        if request.path == "/oauth2/token":
            return self._token(request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return _plain(400, 'Error in call to API function: Must provide HTTP header "Authorization".')
        if token not in self.access:
            return _failed(401, "invalid_access_token")
        if self.access[token] < time.time():
            return _failed(401, "expired_access_token")
        return self._routed(route, request)

    def _token(self, request: Request) -> Reply:
        form = request.form()
        if form.get("client_id") != self.app[0] or form.get("client_secret", self.app[1]) != self.app[1]:
            return json_reply(
                400, {"error": "invalid_client", "error_description": "Invalid client_id or client_secret"}
            )
        if form.get("grant_type") != "refresh_token":
            return json_reply(400, {"error": "unsupported_grant_type"})
        if form.get("refresh_token") not in self.refresh_tokens:
            return json_reply(
                400, {"error": "invalid_grant", "error_description": "refresh token is invalid or revoked"}
            )
        token = "sl." + secrets.token_urlsafe(20)
        self.access[token] = time.time() + _TOKEN_SECONDS
        return json_reply(200, {"access_token": token, "token_type": "bearer", "expires_in": _TOKEN_SECONDS})

    def _routed(self, route: str, request: Request) -> Reply:
        content = request.host.startswith("content.")
        known = _CONTENT if content else _RPC
        if route not in known:
            return _plain(404, f"Unknown API function: {route}")
        handler, fields = known[route]
        kind = request.headers.get("content-type", "").partition(";")[0]
        if content:
            text = request.headers.get("dropbox-api-arg", "")
            if not text.isascii():
                return _plain(400, f"Error in call to API function {route}: HTTP header is not ASCII")
            if kind not in ("application/octet-stream", "text/plain", "") or (
                route == "files/download" and request.body
            ):
                return _plain(400, f"Error in call to API function {route}: Bad HTTP Content-Type {kind}")
        else:
            text = request.body.decode()
            if kind != "application/json":
                return _plain(400, f"Error in call to API function {route}: Bad HTTP Content-Type {kind}")
        try:
            given = json.loads(text or "null") or {}
        except ValueError:
            return _plain(400, f"Error in call to API function {route}: could not decode input as JSON")
        unknown = set(given) - set(fields.split())
        if unknown:
            return _plain(400, f"Error in call to API function {route}: unknown fields {sorted(unknown)}")
        try:
            with self._lock:
                answer = handler(self, given, request.body)
        except _No as no:
            return _failed(409, str(no))
        if isinstance(answer, tuple):
            return Reply(
                body=answer[1],
                headers={
                    "Content-Type": "application/octet-stream",
                    "Dropbox-Api-Result": json.dumps(answer[0]),
                },
            )
        return json_reply(200, answer)

    # Endpoints: the decoded argument and the body in, the result out.

    def upload(self, given: dict[str, Any], body: bytes) -> dict[str, Any]:
        if len(body) > 150 << 20:
            raise _No("payload_too_large")
        self._check_hash(given, body)
        try:
            return self._commit(given, body)
        except _No as no:
            raise _No(str(no).replace("path/", "path!/", 1)) from None

    def _commit(self, given: dict[str, Any], body: bytes) -> dict[str, Any]:
        path, mode = given["path"], given.get("mode", "add")
        tag = mode if isinstance(mode, str) else mode[".tag"]
        if fault := fault_of(path):
            raise _No(f"path/{fault}")
        there = self.nodes.get(path.lower())
        if there is not None and there.data is None:
            raise _No("path/conflict/folder")
        if there is not None and tag == "add":
            if given.get("strict_conflict") or there.data != body:
                raise _No("path/conflict/file")
            return _untagged(there.metadata())
        if tag == "update" and (there is None or there.rev != mode["update"]):
            raise _No("path/conflict/file")
        if sum(len(node.data or b"") for node in self.nodes.values()) + len(body) > self.allocated:
            raise _No("path/insufficient_space")
        self._make_folders(path.rpartition("/")[0], "path/conflict/file_ancestor")
        now = _now()
        node = _Node(there.path if there else path, body, now, given.get("client_modified") or now)
        if there is not None:
            node.id = there.id
        self.nodes[path.lower()] = node
        return _untagged(node.metadata())

    def _make_folders(self, folder: str, fault: str) -> None:
        segments = folder.split("/")[1:]
        for depth in range(1, len(segments) + 1):
            path = "/" + "/".join(segments[:depth])
            there = self.nodes.setdefault(path.lower(), _Node(path, None, _now(), ""))
            if there.data is not None:
                raise _No(fault)

    def _check_hash(self, given: dict[str, Any], body: bytes) -> None:
        if given.get("content_hash") not in (None, content_hash(body)):
            raise _No("content_hash_mismatch")

    def start(self, given: dict[str, Any], body: bytes) -> dict[str, Any]:
        self._check_hash(given, body)
        session = secrets.token_hex(12)
        self.sessions[session] = bytearray(body)
        return {"session_id": session}

    def append(self, given: dict[str, Any], body: bytes) -> None:
        self._check_hash(given, body)
        self._session(given["cursor"]).extend(body)

    def _session(self, cursor: dict[str, Any], prefix: str = "") -> bytearray:
        session = self.sessions.get(cursor["session_id"])
        if session is None:
            raise _No(f"{prefix}not_found")
        if len(session) != cursor["offset"]:
            raise _No(f"{prefix}incorrect_offset")
        return session

    def finish(self, given: dict[str, Any], body: bytes) -> dict[str, Any]:
        self._check_hash(given, body)
        session = self._session(given["cursor"], "lookup_failed/")
        session.extend(body)
        return self._commit(given["commit"], bytes(session))

    def finish_batch(self, given: dict[str, Any], _: bytes) -> dict[str, Any]:
        entries = []
        for one in given["entries"]:
            try:
                entries.append({".tag": "success", **self.finish(one, b"")})
            except _No as no:
                entries.append({".tag": "failure", "failure": _union(str(no))})
        return {"entries": entries}

    def download(self, given: dict[str, Any], _: bytes) -> tuple[dict[str, Any], bytes]:
        node = self._node(given["path"], "path/")
        if node.data is None:
            raise _No("path/not_file")
        return _untagged(node.metadata()), node.data

    def _node(self, path: str, prefix: str) -> _Node:
        by_id = (node for node in self.nodes.values() if node.id == path)
        node = next(by_id, None) if path.startswith("id:") else self.nodes.get(path.lower())
        if node is None:
            raise _No(f"{prefix}{'malformed_path' if fault_of(path) == 'malformed_path' else 'not_found'}")
        return node

    def list_folder(self, given: dict[str, Any], _: bytes) -> dict[str, Any]:
        path = given["path"]
        if path == "/":
            raise _No("path/malformed_path")
        if path and self._node(path, "path/").data is not None:
            raise _No("path/not_folder")
        below = path.lower() + "/"
        entries = [
            node.metadata()
            for lower, node in self.nodes.items()
            if lower.startswith(below) and (given.get("recursive") or "/" not in lower.removeprefix(below))
        ]
        if given.get("recursive") and path:
            entries.insert(0, self._node(path, "path/").metadata())
        return self._paged(entries)

    def _paged(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        cursor = secrets.token_hex(12)
        self.cursors[cursor] = entries[self.page :]
        return {"entries": entries[: self.page], "cursor": cursor, "has_more": len(entries) > self.page}

    def list_more(self, given: dict[str, Any], _: bytes) -> dict[str, Any]:
        if given["cursor"] not in self.cursors:
            raise _No("reset")
        return self._paged(self.cursors[given["cursor"]])

    def get_metadata(self, given: dict[str, Any], _: bytes) -> dict[str, Any]:
        return self._node(given["path"], "path/").metadata()

    def create_folder(self, given: dict[str, Any], _: bytes) -> dict[str, Any]:
        if fault := fault_of(given["path"]):
            raise _No(f"path/{fault}")
        if there := self.nodes.get(given["path"].lower()):
            raise _No("path/conflict/folder" if there.data is None else "path/conflict/file")
        self._make_folders(given["path"], "path/conflict/file_ancestor")
        return {"metadata": _untagged(self._node(given["path"], "path/").metadata())}

    def delete(self, given: dict[str, Any], _: bytes) -> dict[str, Any]:
        node = self._node(given["path"], "path_lookup/")
        if given.get("parent_rev") and (node.data is None or node.rev != given["parent_rev"]):
            raise _No("path_write/conflict/file")
        lower = node.path.lower()
        for path in [path for path in self.nodes if path == lower or path.startswith(lower + "/")]:
            del self.nodes[path]
        return {"metadata": node.metadata()}

    def space(self, _given: dict[str, Any], _: bytes) -> dict[str, Any]:
        used = sum(len(node.data or b"") for node in self.nodes.values())
        return {"used": used, "allocation": {".tag": "individual", "allocated": self.allocated}}

    def account(self, _given: dict[str, Any], _: bytes) -> dict[str, Any]:
        return {
            "account_id": "dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc",
            "name": dict.fromkeys(
                ("given_name", "surname", "familiar_name", "display_name", "abbreviated_name"), "Tester"
            ),
            "email": "tester@example.com",
            "email_verified": True,
            "disabled": False,
            "locale": "en",
            "referral_link": "https://db.tt/x",
            "is_paired": False,
            "account_type": {".tag": "basic"},
            "root_info": {".tag": "user", "root_namespace_id": "3235641", "home_namespace_id": "3235641"},
        }


_Handler = Callable[[FakeDropbox, dict[str, Any], bytes], Any]
_COMMIT = "path mode autorename client_modified mute property_groups strict_conflict"
_LIST = (
    "path recursive include_media_info include_deleted include_has_explicit_shared_members include_mounted_folders "
    "include_non_downloadable_files include_property_groups include_restorable_info limit shared_link"
)
_RPC: dict[str, tuple[_Handler, str]] = {
    "files/list_folder": (FakeDropbox.list_folder, _LIST),
    "files/list_folder/continue": (FakeDropbox.list_more, "cursor"),
    "files/get_metadata": (
        FakeDropbox.get_metadata,
        "path include_media_info include_deleted include_has_explicit_shared_members include_property_groups",
    ),
    "files/create_folder_v2": (FakeDropbox.create_folder, "path autorename"),
    "files/delete_v2": (FakeDropbox.delete, "path parent_rev"),
    "files/upload_session/finish_batch_v2": (FakeDropbox.finish_batch, "entries"),
    "users/get_space_usage": (FakeDropbox.space, ""),
    "users/get_current_account": (FakeDropbox.account, ""),
}
_CONTENT: dict[str, tuple[_Handler, str]] = {
    "files/upload": (FakeDropbox.upload, f"{_COMMIT} content_hash"),
    "files/download": (FakeDropbox.download, "path rev"),
    "files/upload_session/start": (FakeDropbox.start, "close session_type content_hash"),
    "files/upload_session/append_v2": (FakeDropbox.append, "cursor close content_hash"),
    "files/upload_session/finish": (FakeDropbox.finish, "cursor commit content_hash"),
}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _untagged(metadata: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name != ".tag"}


def _union(tags: str) -> dict[str, Any]:
    """An error as Dropbox writes it: each tag inside the one before."""
    first, _, rest = tags.partition("/")
    if not rest:
        return {".tag": first}
    inner = _union(rest)
    if first.endswith("!"):
        return {".tag": first[:-1], "reason": inner, "upload_session_id": ""}
    return {".tag": first, first: inner}


def _failed(status: int, tags: str) -> Reply:
    return json_reply(status, {"error_summary": f"{tags.replace('!', '')}/...", "error": _union(tags)})


def _plain(status: int, text: str) -> Reply:
    return Reply(status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})
