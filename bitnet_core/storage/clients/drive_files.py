"""Files and folders of Google Drive by its API, version 3: search, upload, delete. Knows no keys of objects."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from bitnet_core.storage.clients.http import Http, Response
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.target import MIB, Account, Refused, Unreachable
from bitnet_core.storage.untrusted import body_of, count_of, object_of, objects_of, text_of
from bitnet_core.text import flat

TITLE = "Google Drive"
_API = "https://www.googleapis.com"
_FILES = f"{_API}/drive/v3/files"
_UPLOAD = f"{_API}/upload/drive/v3/files"
_FOLDER = "application/vnd.google-apps.folder"
_FIELDS = "id,size,description,appProperties,createdTime,modifiedTime,md5Checksum,sha256Checksum"
_JSON = {"Content-Type": "application/json; charset=UTF-8"}
_MOST_IN_ONE = 5 * MIB
"""Drive takes this much together with the metadata; more needs a session, whose address a first request gives."""
_MOST_PAGES = 10_000
_BUSY = {"userRateLimitExceeded", "rateLimitExceeded", "dailyLimitExceeded", "backendError"}
_LOGIN = "run `bitnet store login`"
_FULL = "free space in Google Drive, and empty its bin"
_FIXES = {
    "storageQuotaExceeded": _FULL,
    "accessNotConfigured": "enable the Drive API for the app in Google's console",
    "insufficientPermissions": _LOGIN,
    "authError": _LOGIN,
}

Has = tuple[str, str]
"""A property of the app, by which a file is found: letters and digits only."""


class DriveFiles:
    """What an app may see of a Drive. Errors: Refused, Unreachable; what is not there is Unreachable too."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def files(self, has: Has) -> Iterator[dict[str, Any]]:
        """The files with this property, oldest first."""
        return self._search(has, "!=")

    def oldest_folder(self, has: Has) -> str | None:
        """The id of the oldest folder with this property; None if there is none."""
        return min((age(folder) for folder in self._search(has, "=")), default=(None, None))[1]

    def _search(self, has: Has, is_folder: str) -> Iterator[dict[str, Any]]:
        asked = {
            "q": f"appProperties has {{ key='{has[0]}' and value='{has[1]}' }} "
            f"and mimeType {is_folder} '{_FOLDER}' and trashed = false",
            "fields": f"nextPageToken,files({_FIELDS})",
            "pageSize": "1000",
            "orderBy": "createdTime",
        }
        seen: set[str] = set()
        while len(seen) < _MOST_PAGES:
            response = self._http.send("GET", f"{_FILES}?{urlencode(asked)}")
            page = self._require(response, "listing").object("a listing")
            files = objects_of(page.get("files"))
            if files != page.get("files") or not all(text_of(file.get("id")) for file in files):
                raise response.nonsense("a listing")
            yield from files
            token = text_of(page.get("nextPageToken"))
            if not token:
                return
            if token in seen:
                break
            seen.add(token)
            asked["pageToken"] = token
        raise Refused(f"{TITLE} sent a listing without an end; try again later.")

    def make_folder(self, name: str, parent: str, has: Has) -> str:
        """Make a folder and return its id."""
        metadata = {"name": name, "mimeType": _FOLDER, "parents": [parent], "appProperties": dict([has])}
        content = json.dumps(metadata).encode()
        response = self._http.send("POST", f"{_FILES}?fields=id", content=content, headers=_JSON)
        return _id(self._require(response, "making a folder"))

    def create(self, metadata: Mapping[str, Any], data: bytes) -> str:
        """Make a file and return its id. Unreachable if Drive has other bytes than these."""
        response = self._upload("POST", _UPLOAD, metadata, data)
        if not _holds(response, data):
            self.remove(_id(response))
            raise Unreachable(f"{TITLE} stored other bytes than it was sent.")
        return _id(response)

    def replace(self, id_: str, data: bytes) -> None:
        """Give a file new bytes. Unreachable if Drive has other bytes than these."""
        if not _holds(self._upload("PATCH", f"{_UPLOAD}/{quote(id_, safe='')}", {}, data), data):
            raise Unreachable(f"{TITLE} stored other bytes than it was sent.")

    def read(self, id_: str) -> bytes | None:
        """The bytes of a file; None if it is not there any more."""
        response = self._http.send("GET", f"{_FILES}/{quote(id_, safe='')}?alt=media")
        return None if response.status == 404 else self._require(response, "reading").body

    def remove(self, id_: str) -> None:
        """Remove a file for good; nothing happens if it is not there."""
        response = self._http.send("DELETE", f"{_FILES}/{quote(id_, safe='')}")
        if response.status != 404:
            self._require(response, "deleting")
            if response.body.strip():
                raise response.nonsense("a confirmation of the deletion")

    def account(self) -> Account:
        """The free bytes, where there is a limit. Refused if none are left."""
        response = self._http.send("GET", f"{_API}/drive/v3/about?fields=storageQuota(limit,usage)")
        quota = self._require(response, "opening it").object("an account").get("storageQuota")
        if not isinstance(quota, dict):
            raise response.nonsense("an account")
        limit, usage = count_of(quota.get("limit")), count_of(quota.get("usage"))
        if limit is None or usage is None:
            return Account()
        if usage >= limit:
            raise Refused(f"{TITLE} is full; {_FULL}.")
        return Account(limit - usage)

    def _upload(self, method: str, url: str, metadata: Mapping[str, Any], data: bytes) -> Response:
        send = self._send_in_session if len(data) > _MOST_IN_ONE else self._send_at_once
        return self._require(send(method, url, json.dumps(metadata).encode(), data), "storing")

    def _send_at_once(self, method: str, url: str, metadata: bytes, data: bytes) -> Response:
        boundary = secrets.token_hex(16).encode()
        content = (
            b"--%b\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%b\r\n"
            b"--%b\r\nContent-Type: application/octet-stream\r\n\r\n%b\r\n--%b--\r\n"
        ) % (boundary, metadata, boundary, data, boundary)
        headers = {"Content-Type": f"multipart/related; boundary={boundary.decode()}"}
        asked = f"{url}?uploadType=multipart&fields={_FIELDS}"
        return self._http.send(method, asked, content=content, headers=headers)

    def _send_in_session(self, method: str, url: str, metadata: bytes, data: bytes) -> Response:
        about = {"X-Upload-Content-Type": "application/octet-stream", "X-Upload-Content-Length": str(len(data))}
        asked = f"{url}?uploadType=resumable&fields={_FIELDS}"
        started = self._http.send(method, asked, content=metadata, headers={**_JSON, **about})
        session = self._require(started, "starting an upload").headers.get("location", "")
        if not session.startswith(f"{_API}/"):
            where = flat(session)[:200] or "nowhere"
            raise Refused(f"{TITLE} wants an upload sent to another server ({where}); try another network.")
        return self._http.send("PUT", session, content=data, headers={"Content-Type": "application/octet-stream"})

    def _require(self, response: Response, what: str) -> Response:
        if response.status in (200, 201, 204):
            return response
        errors = objects_of(object_of(body_of(response).get("error")).get("errors"))
        reason = text_of(errors[0].get("reason")) if errors else ""
        if reason in _BUSY or response.status in (308, 404, 410):
            raise Unreachable(f"{TITLE}: {what} did not work this time ({response.words}).")
        fix = _LOGIN if response.status == 401 else _FIXES.get(reason, "see what its message names")
        raise self._http.refused(what, response, fix)


def age(file: Mapping[str, Any]) -> tuple[str, str]:
    """What puts files with one key in order: when they were made, and their ids."""
    return text_of(file.get("createdTime")), text_of(file.get("id"))


def _file(response: Response) -> dict[str, Any]:
    file = response.object("a file")
    if not text_of(file.get("id")):
        raise response.nonsense("a file")
    return file


def _id(response: Response) -> str:
    return text_of(_file(response)["id"])


def _holds(response: Response, data: bytes) -> bool:
    file = _file(response)
    if count_of(file.get("size")) != len(data):
        return False
    if file.get("sha256Checksum") is not None:
        return bool(file["sha256Checksum"] == sha256(data))
    return file.get("md5Checksum") in (None, hashlib.md5(data, usedforsecurity=False).hexdigest())
