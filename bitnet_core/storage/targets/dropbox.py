"""A folder in Dropbox as a target, by Dropbox's SDK. Dropbox checks each upload by the hash that the SDK sends."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from dropbox import Dropbox, exceptions, files
from dropbox.stone_validators import ValidationError

from bitnet_core.errors import UsageError
from bitnet_core.settings.storage import DropboxOptions
from bitnet_core.storage.clients.sdk_session import NONSENSE, sdk_session
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.names import FIRST, LAST, Escaping, fault
from bitnet_core.storage.target import (
    Account,
    AlreadyThere,
    Found,
    Limits,
    NoSuchObject,
    Refused,
    Unreachable,
    nonsense,
)
from bitnet_core.text import flat

_IGNORED = rf"(?i:(?:desktop\.ini|thumbs\.db|\.ds_store|\.dropbox(?:\.attr|\.cache)?){LAST}|~\$|\.~|~[^/]*\.tmp)"
# It refuses backslashes, characters beyond the Basic Multilingual Plane (most emoji), and names that its apps ignore.
_NAMES = Escaping(r"\x20-\x5b\x5d-\x7e\u00a0-\uffff", rf"[ .]{LAST}|{FIRST}(?={_IGNORED})[^/]")
_GONE = {"not_found", "not_file", "not_folder"}
_LATER = {"too_many_write_operations", "too_many_requests", "internal_error", "content_hash_mismatch", "reset"}
_NEW_LOGIN = "run `bitnet store login`"
_FIXES = {
    "insufficient_space": "free some space there, or choose another target",
    "no_write_permission": "let the app write to the folder",
    "conflict": "remove what is in the way, or set another DROPBOX_ROOT",
    **dict.fromkeys(("malformed_path", "disallowed_name"), "rename the file"),
}
_MOST_PAGES = 10_000

logging.getLogger("dropbox").addHandler(logging.NullHandler())


@contextlib.contextmanager
def opened(options: DropboxOptions, keys: Keys) -> Iterator["DropboxTarget"]:
    """The target of these options. UsageError if there is no token."""
    refresh, access = keys.get("DROPBOX_REFRESH_TOKEN"), keys.get("DROPBOX_ACCESS_TOKEN")
    if not refresh and not access:
        raise UsageError(f"Dropbox needs DROPBOX_REFRESH_TOKEN, which is not set; {_NEW_LOGIN}.")
    if refresh and not options.app_key:
        raise UsageError("DROPBOX_REFRESH_TOKEN needs DROPBOX_APP_KEY, which is not set; set it in .env.")
    with sdk_session("Dropbox") as session:
        client = Dropbox(
            oauth2_access_token=None if refresh else access,
            oauth2_refresh_token=refresh or None,
            app_key=options.app_key or None,
            app_secret=keys.get("DROPBOX_APP_SECRET") or None,
            session=session,
            max_retries_on_error=0,
            max_retries_on_rate_limit=0,
        )
        yield DropboxTarget(client, options.root)


class DropboxTarget:
    """Objects are files below a folder; it makes the folders between. Its trash keeps removed ones for a while."""

    name = "dropbox"
    limits = Limits(case_sensitive=False, spelled=_NAMES.escape)

    def __init__(self, client: Dropbox, root: str) -> None:
        self._client = client
        self._root = "".join(f"/{segment}" for segment in root.split("/") if segment)
        self.place = f"dropbox:{self._root or '/'}"

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        mode = files.WriteMode.add if only_if_absent else files.WriteMode.overwrite
        try:
            with _failures_explained(f"storing {key}"):
                self._client.files_upload(data, self._path(key), mode, mute=True, strict_conflict=only_if_absent)
        except _No as no:
            if only_if_absent and {"conflict", "file"} <= no.words:
                raise AlreadyThere(f"{key} is already in Dropbox.") from None
            raise

    def get(self, key: str) -> bytes:
        try:
            with _failures_explained(f"reading {key}"):
                metadata, response = self._client.files_download(self._path(key))
                data = bytes(response.content)
                if len(data) != metadata.size:
                    raise Unreachable(f"Dropbox sent {len(data)} of {metadata.size} bytes of {key}.")
                return data
        except _No as no:
            if no.words & _GONE:
                raise NoSuchObject(f"{key} is not in Dropbox.") from None
            raise

    def list(self, prefix: str) -> Iterator[Found]:
        found: dict[str, Found] = {}
        try:
            for page in self._pages(self._path(prefix)):
                for entry in page:
                    # What changes while it is listed comes again, or as deleted.
                    found.pop(entry.path_lower, None)
                    one = self._found(entry)
                    if one is not None and one.key.startswith(prefix):
                        found[entry.path_lower] = one
        except _No as no:
            if not no.words & _GONE:
                raise
        yield from found.values()

    def _pages(self, path: str) -> Iterator[Sequence[files.Metadata]]:
        with _failures_explained("listing"):
            page = self._client.files_list_folder(path, recursive=True, limit=2000)
        for _ in range(_MOST_PAGES):
            yield page.entries
            if not page.has_more:
                return
            with _failures_explained("listing"):
                page = self._client.files_list_folder_continue(page.cursor)
        raise Refused("Dropbox's listing does not end; check whether the folder has too many files.")

    def _found(self, entry: files.Metadata) -> Found | None:
        if not isinstance(entry, files.FileMetadata) or entry.path_display is None:
            return None
        # The root may be displayed in other letters than those in the settings.
        name = "/".join(entry.path_display.split("/")[self._root.count("/") + 1 :])
        key = _NAMES.unescape(name)
        if key is None or fault(key):
            return None
        return Found(key, entry.size, entry.server_modified.replace(tzinfo=UTC).timestamp())

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            with _failures_explained(f"removing {key}"):
                metadata = self._client.files_get_metadata(path)
                # With a revision, Dropbox removes no folder, and no file that was written since.
                if isinstance(metadata, files.FileMetadata):
                    self._client.files_delete_v2(path, metadata.rev)
        except _No as no:
            if "conflict" in no.words:
                raise Unreachable(f"{key} changed in Dropbox while it was removed.") from no
            if not no.words & _GONE:
                raise

    def check(self) -> Account:
        """Free bytes of the account, or of its team. A folder that is not there yet is made by the first `put`."""
        free = None
        try:
            with _failures_explained("looking at the account"):
                usage = self._client.users_get_space_usage()
                space = usage.allocation
                if space.is_team():
                    free = space.get_team().allocated - space.get_team().used
                elif space.is_individual():
                    free = space.get_individual().allocated - usage.used
                root = self._client.files_get_metadata(self._root) if self._root else None
                if isinstance(root, files.FileMetadata):
                    raise Refused(f"{self.place} is a file; set another DROPBOX_ROOT.")
        except _No as no:
            if not no.words & _GONE:
                raise
        return Account(None if free is None else max(0, free))

    def _path(self, key: str) -> str:
        return f"{self._root}/{_NAMES.escape(key)}".rstrip("/")


class _No(Refused):
    """Dropbox said no to a call, with these words."""

    def __init__(self, message: str, words: list[str]) -> None:
        super().__init__(message)
        self.words = set(words)


def _words_of(error: Any) -> Iterator[str]:
    """The tags of an error, outermost first: `path`, `conflict`, `file`."""
    while isinstance(tag := getattr(error, "_tag", None), str):
        yield tag
        value = error._value  # unions have no public way to ask for the value of any tag
        error = getattr(value, "reason", value)


@contextlib.contextmanager
def _failures_explained(what: str) -> Iterator[None]:
    failed = f"Dropbox: {what} failed"
    try:
        yield
    except exceptions.ApiError as error:
        words = list(_words_of(error.error))
        if _LATER.intersection(words):
            raise Unreachable(f"{failed} ({'/'.join(words)}).") from error
        fix = next((fix for word, fix in _FIXES.items() if word in words), "check the folder in Dropbox")
        raise _No(f"{failed} ({'/'.join(words)}); {fix}.", words) from error
    except exceptions.AuthError as error:
        said = "/".join(_words_of(error.error)) or "no access"
        fix = "allow it in the app's settings, then " if "missing_scope" in said else ""
        raise Refused(f"{failed} ({said}); {fix}{_NEW_LOGIN}.") from error
    except exceptions.HttpError as error:
        said = f"HTTP {error.status_code}: {flat(str(error.body or ''))[:300]}"
        raise Refused(f"{failed} ({said}); check DROPBOX_ROOT and DROPBOX_APP_KEY.") from error
    except (ValidationError, *NONSENSE) as error:
        raise nonsense("Dropbox", "a reply of its API") from error
