"""Google Drive, API version 3: files with ids, names that are not unique, parents, app properties and queries.

As documented: a request names the fields it wants and gets no others, uploads are multipart or in sessions, `about`
needs fields, an app has at most 30 properties of 124 bytes on a file.
"""

import email
import email.policy
import hashlib
import itertools
import json
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.storage.fakes import identity
from tests.storage.fakes.drive_query import File, Query, Refusal
from tests.storage.fakes.identity import Identity
from tests.storage.fakes.replies import moment, ranged
from tests.storage.tls_proxy import Reply, Request

HOSTS = ("www.googleapis.com", *identity.HOSTS)
FOLDER = "application/vnd.google-apps.folder"
_DEFAULT_FIELDS = {"kind", "id", "name", "mimeType"}
_FIELDS = {
    *("kind", "id", "name", "mimeType", "size", "description", "appProperties", "parents", "trashed", "createdTime"),
    *(
        "modifiedTime",
        "md5Checksum",
        "sha1Checksum",
        "sha256Checksum",
        "fileExtension",
        "fullFileExtension",
        "webViewLink",
    ),
    *(
        "exportLinks",
        "shortcutDetails",
        "resourceKey",
        "version",
        "capabilities",
        "starred",
        "explicitlyTrashed",
        "ownedByMe",
        "driveId",
    ),
    *("quotaBytesUsed", "thumbnailLink", "originalFilename", "headRevisionId", "properties", "owners", "permissions"),
    *(
        "permissionIds",
        "writersCanShare",
        "viewedByMeTime",
        "folderColorRgb",
        "contentHints",
        "copyRequiresWriterPermission",
    ),
}
_CHUNK = 256 << 10


@dataclass
class Session:
    file: str
    """The id of the file that gets the bytes; empty = a new one."""
    metadata: dict[str, Any]
    fields: str
    total: int | None
    data: bytearray = field(default_factory=bytearray)


class FakeDrive:
    """A user's Drive. `page` is the most that a listing gives at once, `total` the quota; None = unlimited."""

    def __init__(self, total: int | None = 15 << 30, page: int = 100) -> None:
        self.identity = Identity(client_secret="the-secret")
        self.root = "0AFakeRootOfThisDrive"
        self.files: dict[str, File] = {}
        self.sessions: dict[str, Session] = {}
        self.total = total
        self.page = page
        self.log: list[str] = []
        """What was asked for, oldest first."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        if (reply := self.identity.answer(request)) is not None:
            return reply
        with self._lock:
            self.log.append(f"{request.method} {request.path} {' '.join(request.query.values())}")
            try:
                return self._drive(request)
            except Refusal as refusal:
                errors = [{"domain": "global", "reason": refusal.reason, "message": refusal.message}]
                error = {"code": refusal.status, "message": refusal.message, "errors": errors}
                return _json(refusal.status, {"error": error})

    def _drive(self, request: Request) -> Reply:
        if not self.identity.accepts(request):
            raise Refusal(401, "authError", "Invalid Credentials")
        if request.path == "/drive/v3/about" and request.method == "GET":
            return self._about(request)
        found = re.fullmatch(r"(/upload)?/drive/v3/files(?:/([^/]+))?", request.path)
        if found is None:
            raise Refusal(404, "notFound", request.path)
        if found[1]:
            return self._upload(request, found[2])
        if found[2] is None:
            match request.method:
                case "GET":
                    return self._list(request)
                case "POST":
                    return self._made(json.loads(request.body), b"", request.query.get("fields", ""))
        return self._on_file(request, found[2] or "")

    def _on_file(self, request: Request, id_: str) -> Reply:
        fields = request.query.get("fields", "")
        if id_ in ("root", self.root):
            return _json(
                200, _chosen({"kind": "drive#file", "id": self.root, "name": "My Drive", "mimeType": FOLDER}, fields)
            )
        file = self._file(id_)
        match request.method:
            case "GET" if request.query.get("alt") == "media":
                if file.kind == FOLDER:
                    raise Refusal(403, "fileNotDownloadable")
                return ranged(file.data, request.headers.get("range", ""))
            case "GET":
                return _json(200, _chosen(self._described(file), fields))
            case "PATCH":
                self._change(file, json.loads(request.body or b"{}"), request)
                return _json(200, _chosen(self._described(file), fields))
            case "DELETE":
                self._delete(id_)
                return Reply(204)
        raise Refusal(405, "httpMethodNotAllowed")

    def _file(self, id_: str) -> File:
        if id_ not in self.files:
            raise Refusal(404, "notFound", f"File not found: {id_}.")
        return self.files[id_]

    def _delete(self, id_: str) -> None:
        for child in [file.id for file in self.files.values() if id_ in file.parents]:
            self._delete(child)
        del self.files[id_]

    def _is_trashed(self, file: File) -> bool:
        above = [self.files[id_] for id_ in file.parents if id_ in self.files]
        return file.trashed or any(self._is_trashed(one) for one in above)

    # -- queries ------------------------------------------------------------------------------------------
    def _list(self, request: Request) -> Reply:
        asked = request.query
        fits = Query(asked.get("q", ""), self.root, self._is_trashed).parse()
        order = asked.get("orderBy", "")
        if order not in ("", "createdTime"):
            raise Refusal(400, "invalid", "orderBy")
        found = [file for file in self.files.values() if fits(file)]
        found.sort(key=lambda file: file.created if order else 0)
        start = int(asked.get("pageToken", "0"))
        end = start + min(int(asked.get("pageSize", "100")), self.page, 1000)
        body: dict[str, Any] = {
            "kind": "drive#fileList",
            "incompleteSearch": False,
            "files": [self._described(file) for file in found[start:end]],
            **({"nextPageToken": str(end)} if end < len(found) else {}),
        }
        given = re.search(r"files\(([^)]*)\)", asked.get("fields", ""))
        files = [_chosen(file, given[1] if given else "") for file in body["files"]]
        outside = set(re.sub(r"\([^)]*\)", "", asked.get("fields", "")).split(","))
        body["files"] = files
        return _json(200, {name: value for name, value in body.items() if not outside - {""} or name in outside})

    # -- writing ------------------------------------------------------------------------------------------
    def _made(self, metadata: dict[str, Any], data: bytes, fields: str) -> Reply:
        self._require_space(len(data))
        parents = [self.root if one == "root" else one for one in metadata.get("parents", ["root"])]
        if len(parents) != 1 or (parents[0] != self.root and self._file(parents[0]).kind != FOLDER):
            raise Refusal(403, "cannotAddParent")
        kind = metadata.get("mimeType", "application/octet-stream")
        id_ = f"1{secrets.token_hex(8)}{next(self._numbers)}"
        file = File(id_, metadata.get("name", "Untitled"), kind, parents)
        self._set(file, metadata)
        file.data = data
        self.files[file.id] = file
        return _json(200, _chosen(self._described(file), fields))

    def _change(self, file: File, metadata: dict[str, Any], request: Request) -> None:
        for name, keep in (("addParents", False), ("removeParents", True)):
            for parent in request.query.get(name, "").split(",") if request.query.get(name) else ():
                file.parents = [one for one in file.parents if one != parent] if keep else [*file.parents, parent]
        self._set(file, metadata)

    @staticmethod
    def _set(file: File, metadata: dict[str, Any]) -> None:
        if unknown := set(metadata) - _FIELDS:
            raise Refusal(400, "badRequest", f"Unknown name {unknown}")
        file.name = metadata.get("name", file.name)
        file.description = metadata.get("description", file.description)
        file.trashed = metadata.get("trashed", file.trashed)
        file.properties.update(metadata.get("appProperties", {}))
        if len(file.properties) > 30 or any(len((n + v).encode()) > 124 for n, v in file.properties.items()):
            raise Refusal(403, "propertyLimitExceeded")
        if "modifiedTime" in metadata:
            file.modified = datetime.fromisoformat(metadata["modifiedTime"]).timestamp()

    def _upload(self, request: Request, id_: str | None) -> Reply:
        fields = request.query.get("fields", "")
        if "upload_id" in request.query:
            return self._continue(request)
        if request.method != ("PATCH" if id_ else "POST"):
            raise Refusal(405, "httpMethodNotAllowed")
        if id_:
            self._file(id_)
        match request.query.get("uploadType"):
            case "multipart":
                metadata, data = _parts(request)
                return self._stored(id_ or "", metadata, data, fields)
            case "resumable":
                total = request.headers.get("x-upload-content-length")
                name = secrets.token_hex(12)
                metadata = json.loads(request.body or b"{}")
                self.sessions[name] = Session(id_ or "", metadata, fields, int(total) if total else None)
                where = f"https://www.googleapis.com/upload/drive/v3/files?uploadType=resumable&upload_id={name}"
                return Reply(200, headers={"Location": where})
        raise Refusal(400, "badRequest", "uploadType")

    def _continue(self, request: Request) -> Reply:
        session = self.sessions.get(request.query["upload_id"])
        if session is None or request.method not in ("PUT", "POST"):
            raise Refusal(404, "notFound")
        asked = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", request.headers.get("content-range", ""))
        start, last, total = (int(asked[1]), int(asked[2]), asked[3]) if asked else (0, len(request.body) - 1, "")
        if start != len(session.data) or last - start + 1 != len(request.body):
            raise Refusal(400, "badRequest", "Content-Range")
        whole = session.total if total in ("", "*") else int(total)
        is_last = not asked or (whole is not None and last + 1 == whole)
        if not is_last and len(request.body) % _CHUNK:
            raise Refusal(400, "badRequest", "Not a multiple of 256 KiB")
        session.data += request.body
        if not is_last:
            return Reply(308, headers={"Range": f"bytes=0-{last}"})
        if whole is not None and len(session.data) != whole:
            raise Refusal(400, "badRequest", "Not the promised length")
        del self.sessions[request.query["upload_id"]]
        return self._stored(session.file, session.metadata, bytes(session.data), session.fields)

    def _stored(self, id_: str, metadata: dict[str, Any], data: bytes, fields: str) -> Reply:
        if not id_:
            return self._made(metadata, data, fields)
        self._require_space(len(data))
        file = self._file(id_)
        file.modified = time.time()
        self._set(file, metadata)
        file.data = data
        return _json(200, _chosen(self._described(file), fields))

    def _require_space(self, size: int) -> None:
        if self.total is not None and self._used() + size > self.total:
            raise Refusal(403, "storageQuotaExceeded", "The user's Drive storage quota has been exceeded.")

    def _used(self) -> int:
        return sum(len(file.data) for file in self.files.values())

    def _about(self, request: Request) -> Reply:
        if not request.query.get("fields"):
            raise Refusal(400, "required", "The 'fields' parameter is required for this method.")
        limit = {"limit": str(self.total)} if self.total is not None else {}
        quota = {**limit, "usage": str(self._used()), "usageInDrive": str(self._used()), "usageInDriveTrash": "0"}
        return _json(200, {"storageQuota": quota})

    def _described(self, file: File) -> dict[str, Any]:
        described: dict[str, Any] = {
            "kind": "drive#file",
            "id": file.id,
            "name": file.name,
            "mimeType": file.kind,
            "parents": file.parents,
            "trashed": self._is_trashed(file),
            "createdTime": moment(file.created),
            "modifiedTime": moment(file.modified),
            **({"description": file.description} if file.description else {}),
            **({"appProperties": file.properties} if file.properties else {}),
        }
        if file.kind == FOLDER:
            return described
        sums = {f"{name}Checksum": hashlib.new(name, file.data).hexdigest() for name in ("md5", "sha1", "sha256")}
        return {**described, **sums, "size": str(len(file.data))}


def _parts(request: Request) -> tuple[dict[str, Any], bytes]:
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/related"):
        raise Refusal(400, "badRequest", "Content-Type")
    boundary = re.search(r'boundary="?([^";]+)', kind)
    parts = request.body.split(b"--" + boundary[1].encode()) if boundary else []
    if len(parts) != 4 or not parts[3].startswith(b"--"):
        raise Refusal(400, "badRequest", "Two parts are needed")
    (head, metadata), (_, data) = (part[2:-2].split(b"\r\n\r\n", 1) for part in parts[1:3])
    about = email.message_from_bytes(head, policy=email.policy.HTTP)
    if about.get_content_type() != "application/json":
        raise Refusal(400, "badRequest", "The first part is metadata")
    return json.loads(metadata), data


def _chosen(body: dict[str, Any], fields: str) -> dict[str, Any]:
    names = set(fields.split(",")) if fields else _DEFAULT_FIELDS
    names = {re.sub(r"[/(].*", "", name) for name in names}
    if "*" not in names and (unknown := names - _FIELDS):
        raise Refusal(400, "invalidParameter", f"Invalid field selection {unknown}")
    return {name: value for name, value in body.items() if "*" in names or name in names}


def _json(status: int, body: dict[str, Any]) -> Reply:
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json; charset=UTF-8"})
