"""A folder as a target: on another disk, iCloud Drive's folder, or a mounted Google Drive."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bitnet_core.errors import UsageError, explained
from bitnet_core.files.folder_sync import FolderSync
from bitnet_core.files.pieces import write_at
from bitnet_core.files.regular import open_regular
from bitnet_core.settings.storage import ICloudOptions, StorageOptions
from bitnet_core.storage import names
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import TEMPORARY, Account, AlreadyThere, Found, Limits, NoSuchObject, Refused
from bitnet_core.storage.walk import Inside, Walk

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES}
_GONE = (FileNotFoundError, NotADirectoryError)
_TRIES = 100
_CLAIM_TRIES, _CLAIM_PAUSE = 50, 0.1
"""How often to ask for a claim, and the seconds between."""
_PLACEHOLDER = ".icloud"


@contextlib.contextmanager
def opened(options: StorageOptions | ICloudOptions, keys: Keys) -> Iterator["FolderTarget"]:  # noqa: ARG001
    """The target of these options; it needs no keys."""
    in_icloud = isinstance(options, ICloudOptions)
    folder = options.folder if isinstance(options, ICloudOptions) else options.local_folder
    if folder is None:
        raise UsageError("STORAGE_LOCAL_DIR is not set; give it the folder for the copy.")
    yield FolderTarget("icloud" if in_icloud else "local", folder)


def create(options: StorageOptions, keys: Keys) -> None:  # noqa: ARG001
    """Create the folder with those above it, unless it is there. Refused where that can't be done."""
    folder = options.local_folder
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"{folder} can't be created {explained(error, 'choose another folder')}.") from error


class FolderTarget:
    """Objects are files below a folder."""

    # While some writes wait for the disk, others keep the cores busy.
    limits = Limits(key_bytes=3000, workers=8)

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.place = str(folder).encode(errors="backslashreplace").decode()  # a name may be no UTF-8
        self._folder = folder
        self._folders = FolderSync()
        if not _tells_cases_apart(folder):
            self.limits = replace(self.limits, case_sensitive=False)

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        self._require_disk()
        path = self._path(key)
        temp = self._path(f"{TEMPORARY}{time.time():.0f}-{secrets.token_hex(6)}")
        try:
            try:
                _in_its_folder(temp, lambda: _write_durably(temp, data))
                _in_its_folder(path, lambda: _link(temp, path) if only_if_absent else temp.replace(path))
            finally:
                temp.unlink(missing_ok=True)
        except FileExistsError:
            raise AlreadyThere(f"{path} is already there.") from None
        except OSError as error:
            raise self._refused(path, error) from error
        self._sync(path.parent)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        try:
            with open_regular(path, follow_links=False) as source:
                if os.fstat(source.fileno()).st_size > self.limits.object_bytes:
                    raise Refused(f"{path} is larger than any object is; it was not written by bitnet.")
                return source.read()
        except _GONE:
            if path.with_name(f".{path.name}{_PLACEHOLDER}").exists():
                raise Refused(f"{path} is only in iCloud; open its folder in Finder to download it.") from None
            raise NoSuchObject(f"{path} is not there.") from None
        except OSError as error:
            raise self._refused(path, error) from error

    def list(self, prefix: str) -> Iterator[Found]:
        return Walk(prefix, self._look)

    def _look(self, prefix: str) -> Inside:
        """What is in a folder. Others may keep files there, too, and folders that no object could be in."""
        folder = self._path(prefix)
        found: list[Found] = []
        folders: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    key = f"{prefix}{entry.name}"
                    if names.fault(key) or len(key.encode()) > self.limits.key_bytes:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{key}/")
                    elif entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            found.append(Found(key, status.st_size, status.st_mtime))
        except _GONE:
            return found, []
        except OSError as error:
            raise self._refused(folder, error) from error
        return found, folders

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink()
            self._remove_empty_folders(path.parent)
        except _GONE:
            return
        except OSError as error:
            raise self._refused(path, error) from error

    def _remove_empty_folders(self, folder: Path) -> None:
        with contextlib.suppress(OSError):  # not empty
            while folder != self._folder:
                folder.rmdir()
                folder = folder.parent

    def check(self) -> Account:
        """Free bytes of its file system."""
        self._require_disk()
        existing = self._folder if self._folder.is_dir() else self._folder.parent
        try:
            return Account(shutil.disk_usage(existing).free)
        except OSError as error:
            raise self._refused(existing, error) from error

    def _require_disk(self) -> None:
        """Refused if the folder's parent is missing, too: the copy would land where the disk is not mounted."""
        if not self._folder.is_dir() and not self._folder.parent.is_dir():
            raise Refused(f"{self._folder} is not there; mount its disk, or create its folder.")

    def _path(self, key: str) -> Path:
        return self._folder / key

    def _sync(self, folder: Path) -> None:
        try:
            self._folders.sync(folder)
        except _GONE:  # somebody has deleted it already
            return
        except OSError as error:
            raise self._refused(folder, error) from error

    @staticmethod
    def _refused(path: Path, error: OSError) -> Refused:
        return Refused(f"{path} can't be used {explained(error, 'check its permissions')}.")


def _tells_cases_apart(folder: Path) -> bool:
    """Whether `a` and `A` are two files there, by a name that is there; taken for granted without one."""
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            there = next((folder / entry.name for entry in entries if _other_case(entry.name)), None)
        if there is None and _other_case(folder.name) and folder.stat().st_dev == folder.parent.stat().st_dev:
            there = folder
        if there is not None:
            return not there.samefile(there.with_name(_other_case(there.name)))
    return True


def _other_case(name: str) -> str:
    """The name with upper and lower case exchanged; empty if it is not ASCII or has no letters."""
    return name.swapcase() if name.isascii() and name.swapcase() != name else ""


def _in_its_folder(path: Path, act: Callable[[], object]) -> None:
    """Do what makes a file at `path`. A `delete` may remove its folder as empty meanwhile; then it is made again."""
    for _ in range(_TRIES):
        # A folder that was removed just after it was found or while the one below it was made, or a file.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            act()
        except FileNotFoundError:
            continue
        return
    raise FileNotFoundError(errno.ENOENT, "its folder is removed again and again", str(path.parent))


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as out:
        write_at(out.fileno(), data)
        os.fsync(out.fileno())


def _link(temp: Path, path: Path) -> None:
    """Give the file its name if nothing has that name. FileExistsError if something has."""
    try:
        os.link(temp, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with _claimed(temp, path):
            _require_free(path)
            temp.replace(path)


@contextlib.contextmanager
def _claimed(temp: Path, path: Path) -> Iterator[None]:
    """Be the one writer of a name on a mount without links, where a file would be seen before it is whole.

    The claim is a folder, as only one writer can make it. One that stays for a few seconds counts as left by a writer
    that was killed.
    """
    key = path.relative_to(temp.parents[1])
    claim = temp.with_name(f"claim-{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}")
    for _ in range(_CLAIM_TRIES):
        with contextlib.suppress(FileExistsError):
            claim.mkdir()
            break
        _require_free(path)
        time.sleep(_CLAIM_PAUSE)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            claim.rmdir()


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
