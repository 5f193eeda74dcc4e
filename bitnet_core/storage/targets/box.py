"""A folder in Box as a target, by Box's SDK. Box names items by ids; it checks each upload by its SHA-1."""

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from box_sdk_gen import (
    BoxClient,
    CreateFolderParent,
    UploadFileAttributes,
    UploadFileAttributesParentField,
    UploadFileVersionAttributes,
)

from bitnet_core.errors import UsageError
from bitnet_core.settings.storage import BoxOptions
from bitnet_core.storage.clients.box_client import BoxNo, Child, box_client, children, failures_explained, item_id
from bitnet_core.storage.clients.sdk_session import sdk_session
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.names import FIRST, LAST, Escaping, fault
from bitnet_core.storage.target import Account, AlreadyThere, Found, Limits, NoSuchObject, Refused, Unreachable
from bitnet_core.storage.walk import Inside, Walk

T = TypeVar("T")
# It refuses backslashes and blanks at the ends; of characters beyond the Basic Multilingual Plane it says nothing.
_NAMES = Escaping(r"\x20-\x5b\x5d-\x7e\u00a0-\uffff", f"{FIRST} | {LAST}")
_MOST_FOLDERS = 100_000


@contextlib.contextmanager
def opened(options: BoxOptions, keys: Keys) -> Iterator["BoxTarget"]:
    """The target of these options. UsageError if there is no token."""
    root = options.folder_id or "0"
    if not (root.isascii() and root.isdecimal()):
        raise UsageError("BOX_ROOT_FOLDER_ID is not a number; take the one at the end of the folder's address.")
    with sdk_session("Box") as session:
        yield BoxTarget(box_client(options.client_id, keys, session), root)


class BoxTarget:
    """Objects are files below a folder, a new version in the place of an older one. Removed ones go to Box's trash.

    The ids of what was seen are remembered by path. Others may have removed it since: so a call that finds nothing
    under a remembered id looks once more.
    """

    name = "box"
    limits = Limits(case_sensitive=False, spelled=_NAMES.escape)

    def __init__(self, client: BoxClient, root: str) -> None:
        self._client = client
        self._root = root
        self.place = f"box:{root}/"
        self._folders: dict[str, str] = {}
        self._files: dict[str, str] = {}

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        path = _NAMES.escape(key)
        self._with_fresh_ids(path, lambda: self._put(path, data, only_if_absent=only_if_absent))

    def _put(self, path: str, data: bytes, *, only_if_absent: bool) -> None:
        folder, _, name = path.rpartition("/")
        known = None if only_if_absent else self._files.get(path.casefold())
        if known is None:
            parent = self._made_folder(folder)
            try:
                self._files[path.casefold()] = self._upload(parent, name, data)
                return
            except BoxNo as no:
                if no.conflict is None or no.conflict[0] != "file":
                    raise
                if only_if_absent:
                    raise AlreadyThere(f"{_NAMES.unescape(path)} is already in Box.") from None
                known = no.conflict[1]
        with failures_explained(f"storing {name}"):
            self._client.uploads.upload_file_version(
                known, UploadFileVersionAttributes(name), io.BytesIO(data), content_md_5=_sha1(data)
            )
        self._files[path.casefold()] = known

    def _upload(self, folder: str, name: str, data: bytes) -> str:
        attributes = UploadFileAttributes(name, UploadFileAttributesParentField(folder))
        with failures_explained(f"storing {name}"):
            stored = self._client.uploads.upload_file(attributes, io.BytesIO(data), content_md_5=_sha1(data))
            return item_id(stored.entries[0].id)

    def get(self, key: str) -> bytes:
        path = _NAMES.escape(key)
        return self._with_fresh_ids(path, lambda: self._get(path))

    def _get(self, path: str) -> bytes:
        file = self._file(path)
        if file is None:
            raise NoSuchObject(f"{_NAMES.unescape(path)} is not in Box.")
        with failures_explained("reading"):
            stream = self._client.downloads.download_file(file)
            if stream is None:
                raise Unreachable("Box has the file, but can't send it yet.")
            return bytes(stream.read())

    def list(self, prefix: str) -> Iterator[Found]:
        seen = set[str]()

        def look(folder: str) -> Inside:
            found, folders = [], []
            for child in self._with_fresh_ids(folder, functools.partial(self._children, folder)):
                path = f"{folder}/{child.name}".lstrip("/")
                key = _NAMES.unescape(path)
                if key is None or fault(key) or len(key) > self.limits.key_bytes:
                    continue
                if child.kind == "file":
                    found.append(Found(key, child.size, child.modified))
                elif child.id not in seen:
                    seen.add(child.id)
                    folders.append(path)
            if len(seen) > _MOST_FOLDERS:
                raise Refused("Box's listing does not end; check whether the folder has too many folders.")
            return found, folders

        return Walk(_NAMES.escape(prefix).rstrip("/"), look)

    def delete(self, key: str) -> None:
        path = _NAMES.escape(key)
        self._with_fresh_ids(path, lambda: self._delete(path))

    def _delete(self, path: str) -> None:
        file = self._file(path)
        if file is not None:
            with failures_explained("removing"):
                self._client.files.delete_file_by_id(file)
            self._files.pop(path.casefold(), None)

    def check(self) -> Account:
        """Free bytes of the account."""
        with failures_explained("looking at the folder of BOX_ROOT_FOLDER_ID"):
            folder = self._client.folders.get_folder_by_id(self._root, fields=["permissions"])
            if getattr(folder.permissions, "can_upload", None) is False:
                raise Refused("Box doesn't let you write to the folder of BOX_ROOT_FOLDER_ID; ask its owner.")
            user = self._client.users.get_user_me(fields=["space_amount", "space_used"])
            return Account(max(0, int(user.space_amount) - int(user.space_used)))

    # Paths to ids

    def _with_fresh_ids(self, path: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except BoxNo as no:
            if no.status != 404:
                raise
        while path:
            self._files.pop(path.casefold(), None)
            self._folders.pop(path.casefold(), None)
            path = path.rpartition("/")[0]
        return call()

    def _file(self, path: str) -> str | None:
        if path.casefold() not in self._files:
            self._children(path.rpartition("/")[0])
        return self._files.get(path.casefold())

    def _folder(self, path: str) -> str | None:
        if path and path.casefold() not in self._folders:
            self._children(path.rpartition("/")[0])
        return self._folders.get(path.casefold()) if path else self._root

    def _made_folder(self, path: str) -> str:
        if not path:
            return self._root
        if path.casefold() not in self._folders:
            parent, _, name = path.rpartition("/")
            within = CreateFolderParent(self._made_folder(parent))
            try:
                with failures_explained(f"making the folder {name}"):
                    made = item_id(self._client.folders.create_folder(name, within).id)
            except BoxNo as no:
                if no.conflict is None or no.conflict[0] != "folder":
                    raise
                made = no.conflict[1]
            self._folders[path.casefold()] = made
        return self._folders[path.casefold()]

    def _children(self, path: str) -> Sequence[Child]:
        """The files and folders in a folder; their ids are remembered."""
        folder = self._folder(path)
        found: list[Child] = []
        for child in children(self._client, folder) if folder else ():
            ids = self._files if child.kind == "file" else self._folders
            ids[f"{path}/{child.name}".lstrip("/").casefold()] = child.id
            found.append(child)
        return found


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
