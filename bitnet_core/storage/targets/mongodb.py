"""A collection of MongoDB as a target: an object is one document, so a write is atomic and leaves no orphans."""

import contextlib
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pymongo
from pymongo import errors
from pymongo.collection import Collection

from bitnet_core.errors import UsageError
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.storage import MongoOptions
from bitnet_core.storage import names
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import (
    MIB,
    Account,
    AlreadyThere,
    Corrupt,
    Found,
    Limits,
    NoSuchObject,
    Refused,
    Unreachable,
    nonsense,
)
from bitnet_core.text import finite, flat

_CONNECT_MS = 10_000
_SILENCE_MS = 60_000
_LONGEST_SECONDS = 900.0
"""The longest that one object may take: a link of 20 kB/s is fast enough."""
_URI = "MONGODB_ATLAS_URI"
_BAD_KEY = {18, 8000}
"""Codes of a wrong user or password, by the server and by Atlas, which also gives 8000 to a full cluster."""
_NO_PERMISSION = {13}
_NO_SPACE = {14031}
_FULL = re.compile(r"quota|space|storage limit", re.IGNORECASE)
_NO_MONGODB = re.compile(r"Got (?:response id|opcode)|Message length|Unknown opcode")
"""What the driver says of a reply in another protocol."""
_NOW_BUSY = {6, 7, 50, 64, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436}
"""Codes of a server that steps down, restarts, or took too long."""


@contextlib.contextmanager
def opened(options: MongoOptions, keys: Keys) -> Iterator["MongoTarget"]:
    """The target of these options. UsageError for a connection string that is none."""
    uri = keys.need(_URI)
    hosts = _hosts(uri)
    with _explained(hosts, uri), warnings.catch_warnings():
        warnings.simplefilter("error")  # the driver only warns of an option that it can't read
        client: pymongo.MongoClient[Mapping[str, Any]] = pymongo.MongoClient(uri, **_settings(uri))
    with client, _explained(hosts, uri):
        collection = client[options.database][f"{options.collection_prefix}objects"]
        yield MongoTarget(collection, hosts, uri)


class MongoTarget:
    """Documents whose `_id` is the key: it is unique in every collection, and there is no index to wait for."""

    name = "mongodb_atlas"
    # A document has at most 16 MiB.
    limits = Limits(object_bytes=15 * MIB)

    def __init__(self, collection: Collection[Mapping[str, Any]], hosts: str, uri: str) -> None:
        self.place = f"mongodb://{hosts}/{collection.full_name}"
        self._collection = collection
        self._hosts = hosts
        self._uri = uri
        self._indexed = False
        self._ahead = 0.0
        """How many seconds the server's clock is ahead of ours: ages are compared among machines."""
        self._seconds = _SILENCE_MS / 1000
        """How long an object may take. The driver gives a whole message no longer than silence, which is too short
        for a large one on a slow link: so after each that took too long, the next may take twice as long."""

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        with self._guarded():
            self._prepare()
        document = {
            "_id": key,
            "size": len(data),
            "modified": time.time() + self._ahead,
            "sha256": sha256(data),
            "data": data,
        }
        with self._guarded(), self._timed():
            try:
                if only_if_absent:
                    self._collection.insert_one(document)
                else:
                    self._collection.replace_one({"_id": key}, document, upsert=True)
            except errors.DuplicateKeyError:
                if only_if_absent:
                    raise AlreadyThere(f"{self.place} already has {key}.") from None
                raise Unreachable(f"{self.place}: another writer put {key} at the same time.") from None

    def get(self, key: str) -> bytes:
        with self._guarded(), self._timed():
            found = self._collection.find_one({"_id": key}, {"data": 1, "sha256": 1})
        if found is None:
            raise NoSuchObject(f"{self.place} has no {key}.")
        data = found.get("data")
        if not isinstance(data, bytes) or sha256(data) != found.get("sha256"):
            raise Corrupt(f"{self.place}: {key} is damaged: its sha256 differs.")
        return data

    def list(self, prefix: str) -> Iterator[Found]:
        # Every key below `a/` is between `a/` and `a0`, the text after it.
        below = {"_id": {"$gte": prefix, "$lt": prefix[:-1] + chr(ord("/") + 1)}} if prefix else {}
        with self._guarded():
            for found in self._collection.find(below, {"size": 1, "modified": 1}):
                key, size = found.get("_id"), found.get("size")
                if isinstance(key, str) and isinstance(size, int) and size >= 0 and not names.fault(key):
                    yield Found(key, size, finite(found.get("modified")))

    def delete(self, key: str) -> None:
        with self._guarded():
            self._collection.delete_one({"_id": key})

    def check(self) -> Account:
        """Ask for one document. MongoDB does not say how much space is left."""
        with self._guarded():
            self._collection.find_one({}, {"_id": 1})
        return Account()

    def _prepare(self) -> None:
        """Make an index, with which a listing need not read the documents, which would be all the data."""
        if not self._indexed:
            self._collection.create_index([("_id", 1), ("size", 1), ("modified", 1)])
            now = self._collection.database.command("hello").get("localTime")
            if isinstance(now, datetime):
                self._ahead = now.replace(tzinfo=UTC).timestamp() - time.time()
            self._indexed = True

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        # A server is looked for first: the time for an object would also be the time to find one that is gone. While
        # one is known, this sends nothing.
        _ = self._collection.database.client.is_primary
        seconds = self._seconds
        try:
            with pymongo.timeout(seconds):
                yield
        except errors.PyMongoError as error:
            if error.timeout:  # of several threads that took too long at once, each asks for the same
                self._seconds = max(self._seconds, min(2 * seconds, _LONGEST_SECONDS))
            raise

    def _guarded(self) -> contextlib.AbstractContextManager[None]:
        return _explained(self._hosts, self._uri)


def _settings(uri: str) -> dict[str, Any]:
    """One attempt a call. The time to find a server may be another one if the user's address says so."""
    settings: dict[str, Any] = {
        "connectTimeoutMS": _CONNECT_MS,
        "socketTimeoutMS": _SILENCE_MS,
        "wTimeoutMS": _SILENCE_MS,
        "w": "majority",
        "retryWrites": False,
        "retryReads": False,
        "readConcernLevel": "majority",
        # The driver forgets a server that refused a password; streaming, it would miss it for 10 s.
        "serverMonitoringMode": "poll",
        "appname": "bitnet",
    }
    if "serverselectiontimeoutms=" not in uri.lower():
        settings["serverSelectionTimeoutMS"] = _CONNECT_MS
    return settings


def _hosts(uri: str) -> str:
    """The hosts of a connection string, without the password. UsageError if it may not be what it looks like."""
    scheme, _, rest = uri.partition("://")
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    user, _, hosts = authority.rpartition("@")
    # A password with a bare @, / or ? would be taken for a part of the host, and shown.
    if scheme not in ("mongodb", "mongodb+srv") or "@" in user or rest.count("@") > authority.count("@"):
        raise UsageError(
            f"{_URI} is not a connection string; copy it as Atlas shows it, with each of : / ? # [ ] @ "
            "and % in the password percent-encoded."
        )
    return flat(hosts)


@contextlib.contextmanager
def _explained(hosts: str, uri: str) -> Iterator[None]:
    where = f"MongoDB at {hosts}"
    try:
        yield
    except (errors.ConfigurationError, ValueError, UserWarning) as error:
        if type(error.__cause__).__module__.startswith("dns.") and "does not exist" not in str(error):
            raise Unreachable(f"{where} can't be found ({_words(error, uri)}).") from None
        raise UsageError(f"{_URI} can't be used ({_words(error, uri)}); correct it.") from None
    except errors.ConnectionFailure as error:
        if _NO_MONGODB.search(str(error)):
            raise nonsense(where, "MongoDB's protocol", _URI) from None
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise Refused(
                f"{where} has a certificate that is not trusted; check {_URI}, or tlsCAFile in it."
            ) from None
        raise Unreachable(f"{where} can't be reached ({_words(error, uri)}).") from None
    except errors.OperationFailure as error:
        raise _answer(where, error, _words(error, uri)) from None
    except (errors.PyMongoError, TypeError) as error:
        raise Refused(f"{where} can't be used ({_words(error, uri)}); check {_URI}.") from None


def _answer(where: str, error: errors.OperationFailure, words: str) -> Refused | Unreachable:
    if error.code in _NO_SPACE or (error.code not in _NO_PERMISSION and _FULL.search(str(error))):
        return Refused(f"{where} has no space left ({words}); free some, or enlarge the cluster.")
    if error.code in _BAD_KEY:
        return Refused(f"{where} refuses the user or the password ({words}); correct {_URI}.")
    if error.code in _NO_PERMISSION:
        return Refused(f"{where} does not allow this ({words}); give the user of {_URI} the role readWrite.")
    if error.code in _NOW_BUSY or error.has_error_label("RetryableWriteError"):
        return Unreachable(f"{where} is busy ({words}).")
    return Refused(f"{where} refuses the call ({words}); check {_URI}.")


def _words(error: Exception, uri: str) -> str:
    """What is said, cut to a clause: without the password, and without the state of every server."""
    said = flat(str(error)).partition(", full error:")[0].partition(" (configured timeouts:")[0]
    said = said.partition(", Topology Description:")[0]
    password = unquote(uri.partition("://")[2].partition("@")[0].partition(":")[2])
    return Redactor([uri, password])(said)[:300]
