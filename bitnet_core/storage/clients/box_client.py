"""Box's SDK as its target uses it: the login, one try a request, and errors in our words.

Each refresh token works once, so a new one is kept before it is used.
"""

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import requests
from box_sdk_gen import (
    AccessToken,
    BoxAPIError,
    BoxClient,
    BoxDeveloperTokenAuth,
    BoxOAuth,
    BoxSDKError,
    NetworkSession,
    OAuthConfig,
    TokenStorage,
)
from box_sdk_gen.networking.box_network_client import BoxNetworkClient
from box_sdk_gen.networking.retries import RetryStrategy

from bitnet_core.errors import UsageError
from bitnet_core.storage.clients.sdk_session import NONSENSE
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import Refused, Unreachable, nonsense
from bitnet_core.text import flat

_LATER = {"name_temporarily_reserved", "operation_blocked_temporary", "bad_digest"}
_MOST_PAGES = 1000
_EXPECTED = "a reply of its API"
_NEW_LOGIN = "run `bitnet store login`"
_FIXES = {
    "storage_limit_exceeded": "free some space there, or choose another target",
    "item_name_invalid": "rename the file",
    "item_name_too_long": "rename the file",
    "item_name_in_use": "remove what is in the way, or set another BOX_ROOT_FOLDER_ID",
}


def box_client(client_id: str, keys: Keys, session: requests.Session) -> BoxClient:
    """The client of BOX_REFRESH_TOKEN, or else of BOX_DEVELOPER_TOKEN. UsageError if neither is set."""
    if keys.get("BOX_REFRESH_TOKEN"):
        auth: Any = _Login(client_id, keys)
    elif keys.get("BOX_DEVELOPER_TOKEN"):
        auth = BoxDeveloperTokenAuth(keys.get("BOX_DEVELOPER_TOKEN"))
    else:
        raise UsageError(f"Box needs BOX_REFRESH_TOKEN, which is not set; {_NEW_LOGIN}.")
    network = NetworkSession(network_client=BoxNetworkClient(session), retry_strategy=_RenewOnce())
    return BoxClient(auth, network_session=network)


class Child(NamedTuple):
    """A file or a folder in a folder; `modified` is in Unix seconds."""

    kind: str
    name: str
    id: str
    size: int
    modified: float | None


def children(client: BoxClient, folder: str) -> Iterator[Child]:
    """The files and folders in a folder, page by page."""
    marker: str | None = None
    for _ in range(_MOST_PAGES):
        with failures_explained("listing"):
            # The SDK would write True, which Box's documents don't have.
            page = client.folders.get_folder_items(
                folder, fields=["name", "size", "modified_at"], usemarker="true", marker=marker, limit=1000
            )
            found = [_child(entry) for entry in page.entries if entry.type in ("file", "folder")]
            marker = page.next_marker
        yield from found
        if not marker:
            return
    raise Refused("Box's listing does not end; check whether the folder has too many files.")


def _child(entry: Any) -> Child:
    kind = "file" if entry.type == "file" else "folder"
    size = int(entry.size) if kind == "file" else 0
    if not isinstance(entry.name, str) or size < 0:
        raise TypeError("neither a file nor a folder")
    modified = entry.modified_at.timestamp() if isinstance(entry.modified_at, datetime) else None
    return Child(kind, entry.name, item_id(entry.id), size, modified)


class _Kept(TokenStorage):  # type: ignore[misc]
    """The tokens in memory; the refresh token also where it came from."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._token = AccessToken(refresh_token=keys.need("BOX_REFRESH_TOKEN"))

    def store(self, token: AccessToken) -> None:
        if not (isinstance(token.access_token, str) and isinstance(token.refresh_token, str)):
            raise nonsense("Box", _EXPECTED)
        self._keys.keep("BOX_REFRESH_TOKEN", token.refresh_token)
        self._token = token

    def get(self) -> AccessToken:
        return self._token

    def clear(self) -> None:
        self._token = AccessToken()


class _Login(BoxOAuth):  # type: ignore[misc]
    """The login of BOX_REFRESH_TOKEN. When many threads are refused at once, one renews the token for all."""

    def __init__(self, client_id: str, keys: Keys) -> None:
        if not client_id:
            raise UsageError("BOX_REFRESH_TOKEN needs BOX_CLIENT_ID, which is not set; set it in .env.")
        secret = keys.need("BOX_CLIENT_SECRET")
        super().__init__(OAuthConfig(client_id=client_id, client_secret=secret, token_storage=_Kept(keys)))
        self._renewing = threading.Lock()
        self._last = threading.local()

    def retrieve_token(self, *, network_session: NetworkSession | None = None) -> AccessToken:
        token = self.token_storage.get()
        if token.access_token is None:
            token = self.refresh_token(network_session=network_session)
        self._last.access = token.access_token
        return token

    def refresh_token(self, *, network_session: NetworkSession | None = None) -> AccessToken:
        with self._renewing:
            token = self.token_storage.get()
            if token.access_token != getattr(self._last, "access", None):
                return token  # another thread has renewed it
            return super().refresh_token(network_session=network_session)


class _RenewOnce(RetryStrategy):  # type: ignore[misc]
    """Try again only when a token has ended, and once; everything else is tried again above the target."""

    def should_retry(self, fetch_options: Any, fetch_response: Any, attempt_number: int) -> bool:
        if fetch_response.status != 401 or attempt_number > 1 or not isinstance(fetch_options.auth, _Login):
            return False
        fetch_options.auth.refresh_token(network_session=fetch_options.network_session)
        return True

    def retry_after(self, fetch_options: Any, fetch_response: Any, attempt_number: int) -> float:  # noqa: ARG002
        return 0.0


class BoxNo(Refused):
    """Box said no to a call; `conflict` is the type and the id of the item that has the name already."""

    def __init__(self, message: str, status: int, conflict: tuple[str, str] | None) -> None:
        super().__init__(message)
        self.status = status
        self.conflict = conflict


def item_id(given: object) -> str:
    """An id, which becomes a part of addresses."""
    if isinstance(given, str) and given.isascii() and given.isdecimal():
        return given
    raise ValueError("not an id")


def _conflict(context: Any) -> tuple[str, str] | None:
    conflicts = context.get("conflicts") if isinstance(context, dict) else None
    one = conflicts[0] if isinstance(conflicts, list) and conflicts else conflicts
    return (str(one.get("type")), item_id(one.get("id"))) if isinstance(one, dict) else None


@contextlib.contextmanager
def failures_explained(what: str) -> Iterator[None]:
    try:
        yield
    except BoxAPIError as error:
        raise _explained(what, error) from error
    except (BoxSDKError, *NONSENSE) as error:
        raise nonsense("Box", _EXPECTED) from error


def _explained(what: str, error: BoxAPIError) -> Refused | Unreachable:
    info = error.response_info
    body = info.body if isinstance(info.body, dict) else {}
    code = str(body.get("code") or body.get("error") or "")
    said = flat(str(body.get("message") or body.get("error_description") or ""))
    words = f"HTTP {info.status_code}" + "".join(f", {one[:200]}" for one in (flat(code), said) if one)
    message = f"Box: {what} failed ({words})"
    if code in _LATER:
        return Unreachable(f"{message}.")
    if info.status_code == 401 or error.request_info.url.endswith("/oauth2/token"):
        return Refused(f"{message}; {_NEW_LOGIN}.")
    fix = _FIXES.get(code, "check BOX_ROOT_FOLDER_ID and your permissions there")
    try:
        return BoxNo(f"{message}; {fix}.", info.status_code, _conflict(info.context_info))
    except ValueError:
        return nonsense("Box", _EXPECTED)
