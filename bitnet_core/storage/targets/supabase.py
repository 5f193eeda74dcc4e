"""A bucket of Supabase Storage as a target, over its REST interface.

An upload is visible when its row in the service's database is written, after the last byte. A listing takes its
prefix as a pattern without case, where `_` is any character, so `_` is escaped in the names of folders.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Set
from datetime import datetime
from typing import Any
from urllib.parse import quote

from bitnet_core.errors import UsageError
from bitnet_core.settings.storage import SupabaseOptions
from bitnet_core.storage import names
from bitnet_core.storage.clients.http import Http, Response, require_address
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import Account, AlreadyThere, Found, Limits, NoSuchObject, Refused, Unreachable
from bitnet_core.storage.walk import MOST_LISTED, Inside, Walk, bounded
from bitnet_core.text import finite, size

_FOLDERS = names.Escaping(r"A-Za-z0-9!.'()&$@,+ \-")
_FILES = names.Escaping(r"A-Za-z0-9_!.'()&$@,+ \-")
"""Of the characters that the service takes; `* ; : ?` are left out because proxies read them in their own ways."""
_PAGE = 100
"""The service's own default; it may cap a larger one."""
_STORED, _DELETED = "a confirmation of the upload", "a confirmation of the deletion"
_SERVICE_KEY, _ANON_KEY = "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_ANON_KEY"


@contextlib.contextmanager
def opened(options: SupabaseOptions, keys: Keys) -> Iterator["SupabaseTarget"]:
    """The target of these options. UsageError if neither key is set; the service role's comes first."""
    name = next((name for name in (_SERVICE_KEY, _ANON_KEY) if keys.get(name)), "")
    if not name:
        raise UsageError(
            f"Neither {_SERVICE_KEY} nor {_ANON_KEY} is set; `bitnet keys set {_SERVICE_KEY}` keeps one."
        )
    require_address("SUPABASE_URL", options.url)
    authorization = {"Authorization": f"Bearer {keys.get(name)}", "apikey": keys.get(name)}

    def authorize(renew: bool) -> Mapping[str, str]:
        return {} if renew else authorization

    with Http("Supabase", authorize, setting="SUPABASE_URL") as http:
        yield SupabaseTarget(http, options, name)


def create(options: SupabaseOptions, keys: Keys) -> None:
    """Create the bucket, which nobody else may read, unless it is there. Refused where the key may not."""
    with opened(options, keys) as target:
        target.create_bucket()


class SupabaseTarget:
    """Objects are objects of the bucket, below a prefix."""

    name = "supabase"
    # Escaping may triple a key, and S3 behind the service takes 1,024 bytes with the bucket and a version.
    limits = Limits(segment_bytes=250, key_bytes=300, case_sensitive=False)

    def __init__(self, http: Http, options: SupabaseOptions, key_name: str) -> None:
        self._http = http
        self._key_name = key_name
        self._api = f"{options.url.rstrip('/')}/storage/v1"
        self._bucket = options.bucket
        prefix = options.prefix.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self.place = f"{options.url.rstrip('/')} {options.bucket}/{self._prefix}"

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        headers = {"Content-Type": "application/octet-stream", "Cache-Control": "no-cache"}
        headers["x-upsert"] = "false" if only_if_absent else "true"
        response = self._http.send("POST", self._url(key), content=data, headers=headers, busy=False)
        status, words = _outcome(response)
        if only_if_absent and (status == 409 or "already exists" in words):
            raise AlreadyThere(f"{key} is already at {self.place}.")
        self._http.require_ready(response)
        self._require(f"storing {key}", response, busy_at={409})
        if not isinstance(response.object(_STORED).get("Key"), str):
            raise response.nonsense(_STORED)

    def get(self, key: str) -> bytes:
        response = self._http.send("GET", self._url(key, "authenticated/"))
        status, words = _outcome(response)
        if status == 404 and "bucket" not in words.lower():
            raise NoSuchObject(f"{key} is not at {self.place}.")
        self._require(f"reading {key}", response)
        return response.body

    def list(self, prefix: str) -> Iterator[Found]:
        passed = bounded(self.place)

        def look(folder: str) -> Inside:
            found, folders = [], []
            for name, entry in passed(self._entries(folder)):
                is_folder = entry.get("id") is None
                own = (_FOLDERS if is_folder else _FILES).unescape(name)
                if own is None or "/" in own or names.fault(folder + own):
                    continue
                if not is_folder:
                    metadata = entry.get("metadata")
                    length = finite(metadata.get("size")) if isinstance(metadata, dict) else None
                    found.append(Found(folder + own, max(0, int(length or 0)), _seconds(entry.get("updated_at"))))
                elif len(folder + own) < self.limits.key_bytes:
                    folders.append(f"{folder}{own}/")
            return found, folders

        return Walk(prefix, look)

    def _entries(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        seen: set[str] = set()
        for page in range(MOST_LISTED // _PAGE):
            ask = {
                "prefix": self._prefix + _FOLDERS.escape(folder),
                "limit": _PAGE,
                "offset": page * _PAGE,
                "sortBy": {"column": "name", "order": "asc"},
            }
            response = self._json("POST", f"object/list/{quote(self._bucket, safe='')}", ask)
            self._require("listing", response)
            rows = response.json("a listing")
            if not isinstance(rows, list) or not all(
                isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows
            ):
                raise response.nonsense("a listing")
            new = [row for row in rows if row["name"] not in seen]
            seen.update(row["name"] for row in new)
            yield from ((row["name"], row) for row in new)
            if len(rows) < _PAGE or not new:
                return

    def delete(self, key: str) -> None:
        ask = {"prefixes": [self._name(key)]}
        response = self._json("DELETE", f"object/{quote(self._bucket, safe='')}", ask)
        self._require(f"deleting {key}", response)
        gone = response.json(_DELETED)
        if not isinstance(gone, list) or not all(isinstance(one, dict) for one in gone):
            raise response.nonsense(_DELETED)

    def check(self) -> Account:
        response = self._json("GET", f"bucket/{quote(self._bucket, safe='')}", None)
        self._require(f"looking for the bucket {self._bucket}", response)
        bucket = response.object("a bucket")
        if not isinstance(bucket.get("id"), str):
            raise response.nonsense("a bucket")
        most = finite(bucket.get("file_size_limit"))
        if most and most < self.limits.object_bytes:
            raise Refused(
                f"The bucket {self._bucket} takes files of at most {size(most)}; raise its limit to "
                f"{size(self.limits.object_bytes)}."
            )
        types = bucket.get("allowed_mime_types")
        if types and "application/octet-stream" not in types and "*/*" not in types:
            raise Refused(f"The bucket {self._bucket} takes only some types; allow application/octet-stream.")
        public = bucket.get("public") is True
        return Account(note="The bucket is public: anyone can read what is in it; make it private." if public else "")

    def create_bucket(self) -> None:
        """Make the bucket, unless it is there."""
        response = self._json("POST", "bucket", {"id": self._bucket, "name": self._bucket, "public": False})
        if _outcome(response)[0] != 409:
            self._require(f"creating the bucket {self._bucket}", response)
            if not isinstance(response.object("a bucket").get("name"), str):
                raise response.nonsense("a bucket")

    def _json(self, method: str, path: str, ask: object) -> Response:
        content = None if ask is None else json.dumps(ask).encode()
        return self._http.send(
            method, f"{self._api}/{path}", content=content, headers={"Content-Type": "application/json"}
        )

    def _require(self, what: str, response: Response, busy_at: Set[int] = frozenset()) -> None:
        """Refused or Unreachable for a response that is an error; the service wraps most in HTTP 400."""
        status, words = _outcome(response)
        if status == 200:
            return
        if status in {408, 423, 429} | busy_at or status >= 500:
            raise Unreachable(f"Supabase is busy ({response.words}).")
        if status == 404:
            fix = f"check SUPABASE_URL and SUPABASE_BUCKET, and whether {self._key_name} may see the bucket"
        elif status == 413:
            fix = f"raise the size limit of the bucket and the project to {size(self.limits.object_bytes)}"
        elif status in (401, 403) or "jw" in words.lower() or "signature" in words.lower():
            fix = f"check {self._key_name}; without the service role's key, policies must allow all on the bucket"
        else:
            fix = "check the settings of SUPABASE_URL and its bucket"
        raise self._http.refused(what, response, fix)

    def _name(self, key: str) -> str:
        folder, slash, file = key.rpartition("/")
        return self._prefix + _FOLDERS.escape(folder) + slash + _FILES.escape(file)

    def _url(self, key: str, way: str = "") -> str:
        return f"{self._api}/object/{way}{quote(self._bucket, safe='')}/{quote(self._name(key))}"


def _outcome(response: Response) -> tuple[int, str]:
    """The status that is meant, and the service's words: a 400 may hold another status."""
    if response.status == 200:
        return 200, ""
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(response.body)
        if isinstance(said, dict):
            code = str(said.get("statusCode", ""))
            words = f"{said.get('error', '')} {said.get('message', '')}"
            return int(code) if code.isdecimal() and len(code) == 3 and code != "200" else response.status, words
    return response.status, response.words


def _seconds(date: object) -> float | None:
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return datetime.fromisoformat(date).timestamp()  # type: ignore[arg-type]
    return None
