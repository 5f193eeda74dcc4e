"""Supabase Storage as its source and its documentation describe it, with one bucket in memory.

Errors come as HTTP 400 with the status inside; a listing's prefix is a pattern without case in which `_` is any
character, as in the service's SQL (`name ilike prefix || '%'`); keys have few characters.
"""

import json
import re
import threading
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from tests.storage.fakes.server import Reply, Request

_KEY = re.compile(r"[\w/!.*'() &$@=;:+,?-]+", re.ASCII)
_MOST_ROWS = 100


class Supabase:
    """Answers the requests of one project; `fail` answers instead where it gives a reply."""

    def __init__(self, bucket: str, key: str) -> None:
        self.bucket: dict[str, Any] = {"id": bucket, "name": bucket, "public": False, "file_size_limit": None}
        self.key = key
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.requests: list[Request] = []
        self.fail: list[Reply] = []
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            if self.fail:
                return self.fail.pop(0)
            if request.headers.get("authorization") != f"Bearer {self.key}":
                return error(403, "Unauthorized", "invalid signature")
            path = request.path.partition("?")[0]
            if not path.startswith("/storage/v1/"):
                return Reply(404, b'{"message":"Route not found"}')
            return self._route(request, path.removeprefix("/storage/v1/"))

    def _route(self, request: Request, path: str) -> Reply:
        name = self.bucket["name"]
        if (request.method, path) == ("POST", "bucket"):
            asked = json.loads(request.body)
            if asked["name"] == name:
                return error(409, "Duplicate", "The resource already exists")
            self.bucket |= asked
            return reply({"name": asked["name"]})
        if request.method == "GET" and path.startswith("bucket/"):
            found = unquote(path.removeprefix("bucket/")) == name
            return reply(self.bucket) if found else error(404, "Bucket not found", "Bucket not found")
        if not path.startswith("object/"):
            return Reply(404, b'{"message":"Route not found"}')
        rest = path.removeprefix("object/")
        for way in ("list/", "authenticated/"):
            rest = rest.removeprefix(way)
        bucket, _, key = (unquote(part) for part in rest.partition("/"))
        if bucket != name:
            return error(404, "Bucket not found", "Bucket not found")
        if request.method == "POST" and path.startswith("object/list/"):
            return self._list(json.loads(request.body))
        if request.method == "DELETE" and not key:
            gone = [one for one in json.loads(request.body)["prefixes"] if self.objects.pop(one, None)]
            return reply([{"name": one} for one in gone])
        if request.method == "GET":
            if key not in self.objects:
                return error(404, "not_found", "Object not found")
            return Reply(200, self.objects[key][0])
        if request.method == "POST":
            return self._upload(key, request)
        return Reply(404, b'{"message":"Route not found"}')

    def _upload(self, key: str, request: Request) -> Reply:
        if not _KEY.fullmatch(key):
            return error(400, "InvalidKey", f"Invalid key: {key}")
        if self.bucket["file_size_limit"] and len(request.body) > self.bucket["file_size_limit"]:
            return error(413, "Payload too large", "The object exceeded the maximum allowed size")
        if key in self.objects and request.headers.get("x-upsert") != "true":
            return error(409, "Duplicate", "The resource already exists")
        self.objects[key] = (request.body, datetime.now(UTC).isoformat())
        return reply({"Key": f"{self.bucket['name']}/{key}", "Id": str(uuid.uuid4())})

    def _list(self, ask: dict[str, Any]) -> Reply:
        prefix = ask["prefix"]
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        pattern = re.compile(re.escape(prefix).replace("_", "."), re.IGNORECASE)
        level = prefix.count("/")
        rows: dict[tuple[str, bool], dict[str, Any]] = {}
        for key, (data, written) in self.objects.items():
            tokens = key.split("/")
            if not pattern.match(key) or len(tokens) <= level:
                continue
            is_folder = len(tokens) > level + 1
            row: dict[str, Any] = {"name": tokens[level], "id": None, "updated_at": None, "metadata": None}
            if not is_folder:
                row |= {"id": str(uuid.uuid4()), "updated_at": written, "metadata": {"size": len(data)}}
            rows[(tokens[level], is_folder)] = row
        order = sorted(rows, key=lambda one: (not one[1], one[0]))
        start, most = ask.get("offset", 0), min(ask.get("limit", _MOST_ROWS), _MOST_ROWS)
        return reply([rows[one] for one in order[start : start + most]])


def reply(found: object) -> Reply:
    return Reply(200, json.dumps(found).encode(), {"Content-Type": "application/json"})


def error(status: int, name: str, message: str) -> Reply:
    """An error as the service renders it: HTTP 400 around every status but 500."""
    body = json.dumps({"statusCode": str(status), "error": name, "message": message}).encode()
    return Reply(500 if status == 500 else 400, body, {"Content-Type": "application/json"})
