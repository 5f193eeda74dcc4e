"""Google Drive as a target: a folder where it is mounted, else its API.

Names are not unique in Drive, so an object is found by a hash of its path in the properties that Drive keeps for the
app; folders and names are there for people and for mounts of the same Drive. Of several files with one path, the
oldest is the object.
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bitnet_core.errors import UsageError
from bitnet_core.settings.storage import GoogleDriveOptions
from bitnet_core.storage import names
from bitnet_core.storage.catalog import KINDS
from bitnet_core.storage.clients.drive_files import TITLE, DriveFiles, Has, age
from bitnet_core.storage.clients.http import Http
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.oauth import AccessToken
from bitnet_core.storage.target import Account, AlreadyThere, Found, Limits, NoSuchObject, Refused, Unreachable
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.untrusted import count_of, object_of, text_of, unix_seconds_of
from bitnet_core.text import flat, printable

_DEEPEST = 20
"""Ancestors by which a file can be found; Drive keeps 30 properties of an app."""


@contextlib.contextmanager
def opened(options: GoogleDriveOptions, keys: Keys) -> Iterator["DriveTarget | FolderTarget"]:
    """The target of these options. Refused if the mounted folder is not there; UsageError without a login."""
    if options.mounted:
        yield _mounted(options)
        return
    if not options.client_id:
        raise UsageError(
            "STORAGE_BACKEND=gdrive needs GDRIVE_PROJECT_ROOT, a folder in the mounted Drive, or GDRIVE_CLIENT_ID, "
            "the id of an app for Drive's API; set one of them in .env."
        )
    token = AccessToken(KINDS["gdrive"], options, keys)
    with Http(TITLE, token.headers) as http:
        yield DriveTarget(DriveFiles(http), options.folder)


def _mounted(options: GoogleDriveOptions) -> FolderTarget:
    folder = Path(options.mounted).expanduser()
    if options.auto_mount and options.mount_point is not None and not folder.parent.is_dir():
        with contextlib.suppress(ImportError):  # elsewhere than in Colab
            from google.colab import drive  # type: ignore[import-untyped, import-not-found, unused-ignore]

            drive.mount(str(options.mount_point))
    if not folder.parent.is_dir():
        raise Refused(f"{flat(str(folder))} is not there; mount Google Drive, or correct GDRIVE_PROJECT_ROOT.")
    return FolderTarget("gdrive", folder)


class DriveTarget:
    """A file appears whole when its upload ends. Among racing writers the oldest file wins, by Drive's listing."""

    name = "gdrive"
    limits = Limits(segment_bytes=250)

    def __init__(self, drive: DriveFiles, folder: str) -> None:
        self._drive = drive
        self._root = folder.strip("/")
        if self._root and (why := names.fault(self._root)):
            raise Refused(f"GDRIVE_FOLDER={flat(folder)} can't be a folder: {why}; set another one.")
        self.place = f"Google Drive:/{printable(self._root)}"
        self._folders: dict[str, str] = {}
        self._making = threading.Lock()

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        there = self._object(key)
        if there is None:
            there = self._create(key, data)
            if there is None:
                return
        if only_if_absent:
            raise AlreadyThere(f"{printable(key)} is already in {TITLE}.")
        self._drive.replace(there, data)

    def _create(self, key: str, data: bytes) -> str | None:
        """Make the object and return None; or return the id of an older one, which another call has just made."""
        try:
            mine = self._drive.create(self._metadata(key), data)
            oldest = self._object(key)
        except Unreachable:
            self._folders.clear()  # they may be gone
            raise
        if oldest == mine:
            return None
        self._drive.remove(mine)
        if oldest is None:
            self._folders.clear()  # the file was made in a folder that is in the bin
            raise Unreachable(f"{printable(key)} was not in {TITLE} after it was stored.")
        return oldest

    def get(self, key: str) -> bytes:
        there = self._object(key)
        data = self._drive.read(there) if there is not None else None
        if data is None:
            raise NoSuchObject(f"{printable(key)} is not in {TITLE}.")
        return data

    def list(self, prefix: str) -> Iterator[Found]:
        known: set[str] = set()
        for file in self._drive.files(self._below(prefix)):
            key, size = text_of(file.get("description")), count_of(file.get("size"))
            if size is not None and key.startswith(prefix) and key not in known and self._is_ours(key, file):
                known.add(key)
                yield Found(key, size, unix_seconds_of(file.get("modifiedTime")))

    def delete(self, key: str) -> None:
        for file in self._all(key):
            self._drive.remove(file["id"])

    def check(self) -> Account:
        return self._drive.account()

    def _object(self, key: str) -> str | None:
        """The id of the oldest file with this key."""
        return min(map(age, self._all(key)), default=(None, None))[1]

    def _all(self, key: str) -> tuple[dict[str, Any], ...]:
        return tuple(file for file in self._drive.files(self._exactly(key)) if self._is_ours(key, file))

    def _is_ours(self, key: str, file: Mapping[str, Any]) -> bool:
        name, value = self._exactly(key)
        given = file.get("description"), object_of(file.get("appProperties")).get(name)
        return not names.fault(key) and given == (key, value)

    def _exactly(self, key: str) -> Has:
        return "object", self._hash(key)

    def _below(self, prefix: str) -> Has:
        ancestor = "".join(f"{part}/" for part in prefix.split("/")[: _DEEPEST - 1] if part)
        return f"in{ancestor.count('/')}", self._hash(ancestor)

    def _hash(self, key: str) -> str:
        return hashlib.sha256(f"{self._root}\n{key}".encode()).hexdigest()

    def _metadata(self, key: str) -> dict[str, Any]:
        folder, _, name = key.rpartition("/")
        above = ["", *(key[: at + 1] for at, char in enumerate(key) if char == "/")]
        return {
            "name": name,
            "description": key,
            "parents": [self._folder("/".join(part for part in (self._root, folder) if part))],
            "appProperties": dict([self._exactly(key), *map(self._below, above[:_DEEPEST])]),
        }

    def _folder(self, path: str) -> str:
        """The id of a folder, which is made if it is not there. Two of one path harm nothing."""
        if not path:
            return "root"
        if found := self._folders.get(path):
            return found
        above, _, name = path.rpartition("/")
        parent = self._folder(above)
        with self._making:
            if path not in self._folders:
                has = "folder", hashlib.sha256(path.encode()).hexdigest()
                self._folders[path] = self._drive.oldest_folder(has) or self._drive.make_folder(name, parent, has)
            return self._folders[path]
