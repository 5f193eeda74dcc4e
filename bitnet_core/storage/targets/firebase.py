"""A bucket of Firebase, which is one of Google Cloud Storage. A write there is atomic and may have a condition."""

import base64
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.oauth2 import service_account
from requests import Response
from requests.exceptions import JSONDecodeError, RequestException
from urllib3.exceptions import HTTPError

from bitnet_core.errors import UsageError, explained
from bitnet_core.files.regular import read_bounded
from bitnet_core.network.proxy import proxy_of
from bitnet_core.settings.storage import FirebaseOptions
from bitnet_core.storage import names
from bitnet_core.storage.clients.http import CONNECT_SECONDS, SILENCE_SECONDS, wait_of
from bitnet_core.storage.clients.sdk_session import has_cut_head
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import (
    MIB,
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

_KEY = "FIREBASE_CREDENTIALS_JSON"
_BUCKET = "FIREBASE_STORAGE_BUCKET"
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_PERMISSIONS = [f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list")]
_ROLE = "give its account the role Storage Object Admin for the bucket"
_ONE_TRY: dict[str, Any] = {"retry": None, "timeout": (CONNECT_SECONDS, SILENCE_SECONDS)}
_MOST_PAGES = 10_000
_NOTHING = (b"", b"null", b"{}")


@contextlib.contextmanager
def opened(options: FirebaseOptions, keys: Keys) -> Iterator["FirebaseTarget"]:
    """The target of these options. Without a key, Google's application default credentials are used."""
    given = keys.get(_KEY)
    try:
        client = storage.Client(project=options.project or None, credentials=_credentials(given) if given else None)
    except DefaultCredentialsError:
        login = "`gcloud auth application-default login`"
        raise Refused(f"Google knows no user here; run {login}, or `bitnet keys set {_KEY}`.") from None
    # The SDK asks in the background where the bucket is, with retries, and with a permission that is not needed.
    client._bucket_metadata_cache = None
    client._http.hooks["response"].append(_check_response)
    with client:
        yield FirebaseTarget(client, options.bucket.removeprefix("gs://").strip("/"))


class FirebaseTarget:
    """Objects are those of the bucket, under their own names."""

    name = "firebase"
    limits = Limits(workers=8)

    def __init__(self, client: Any, bucket: str) -> None:
        self.place = f"gs://{bucket}/"
        self._client = client
        self._bucket = client.bucket(bucket)

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        checksum = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        try:
            with self._explained(conditional=only_if_absent):
                # The server compares the checksum before the object becomes visible.
                blob = self._bucket.blob(key)
                blob.upload_from_string(
                    data,
                    "application/octet-stream",
                    if_generation_match=0 if only_if_absent else None,
                    crc32c_checksum_value=checksum,
                    **_ONE_TRY,
                )
                if blob.size != len(data):
                    raise _nonsense("a confirmation of the upload")
        except PreconditionFailed:
            raise AlreadyThere(f"{self.place}{key} is already there.") from None
        except NotFound as error:
            raise self._no_bucket(error) from None

    def get(self, key: str) -> bytes:
        body = _Bounded(self.limits.object_bytes)
        try:
            with self._explained():
                # Raw: a compressed body could unpack to any size.
                blob = self._bucket.blob(key)
                blob.download_to_file(body, raw_download=True, **_ONE_TRY)
                if not blob.crc32c:
                    raise _nonsense("an object, as it has no checksum")
        except NotFound as error:
            if "bucket does not exist" in _words(error):
                raise self._no_bucket(error) from None
            raise NoSuchObject(f"{self.place}{key} is not there.") from None
        return body.getvalue()

    def list(self, prefix: str) -> Iterator[Found]:
        try:
            with self._explained():
                found = self._client.list_blobs(
                    self._bucket, prefix=prefix, fields="kind,items(name,size,updated),nextPageToken", **_ONE_TRY
                )
                for number, page in enumerate(found.pages):
                    if number > _MOST_PAGES:
                        raise Refused(f"The listing of {self.place} does not end; look at it in Google's console.")
                    _require_listing(page)
                    for blob in page:
                        if not names.fault(blob.name):
                            modified = blob.updated.timestamp() if blob.updated else None
                            yield Found(blob.name, int(blob.size), modified)
        except NotFound as error:
            raise self._no_bucket(error) from None

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFound), self._explained():
            self._bucket.blob(key).delete(**_ONE_TRY)

    def check(self) -> Account:
        """Look at one object and ask which permissions there are. Google Cloud Storage has no limit of space."""
        try:
            with self._explained():
                for page in self._client.list_blobs(self._bucket, max_results=1, **_ONE_TRY).pages:
                    _require_listing(page)
        except NotFound as error:
            raise self._no_bucket(error) from None
        with contextlib.suppress(NotFound), self._explained():  # servers for tests don't know the question
            allowed = self._bucket.test_iam_permissions(_PERMISSIONS, **_ONE_TRY)
            if missing := ", ".join(sorted(set(_PERMISSIONS) - set(allowed))):
                raise Refused(f"{self.place} can't be used without the permissions {missing}; {_ROLE}.")
        return Account()

    def _no_bucket(self, error: GoogleAPICallError) -> Refused:
        return Refused(f"The bucket {self.place} is not there ({_words(error)}); create it, or correct {_BUCKET}.")

    @contextlib.contextmanager
    def _explained(self, *, conditional: bool = False) -> Iterator[None]:
        """NotFound is left to the caller, and of a conditional call PreconditionFailed."""
        try:
            yield
        except NotFound:
            raise
        except GoogleAPICallError as error:
            if conditional and isinstance(error, PreconditionFailed):
                raise
            raise self._answer(error) from None
        except RefreshError as error:
            words = flat(str(error.args[0] if error.args else error))[:300]
            if words.startswith("No access token"):
                raise nonsense("Google's server for tokens", "a token") from None
            if error.retryable:
                raise Unreachable(f"Google's server for tokens is busy ({words}).") from None
            raise Refused(f"Google refuses the key of {self.place} ({words}); make a new one for {_KEY}.") from None
        except DefaultCredentialsError:
            raise Refused(f"{self.place} wants a key; set {_KEY} with `bitnet keys set {_KEY}`.") from None
        except DataCorruption:
            raise Unreachable(f"{self.place} sent something else than it has stored.") from None
        except (JSONDecodeError, TypeError, KeyError, AttributeError, RecursionError):
            raise _nonsense("a reply of its API") from None
        except (RequestException, HTTPError, GoogleAuthError, OSError) as error:
            why = "it does not respond" if "timed out" in str(error) else type(error).__name__
            proxy = proxy_of("https://storage.googleapis.com")
            told = proxy.told(why, error) if proxy else f" ({why})"
            raise Unreachable(f"{self.place} can't be reached{told}.") from None
        except ValueError:
            raise _nonsense("a reply of its API") from None

    def _answer(self, error: GoogleAPICallError) -> Refused | Unreachable:
        code = int(error.code or 0)
        if code in (408, 409, 429) or code >= 500:
            headers = getattr(error.response, "headers", {})
            after = wait_of({name.lower(): value for name, value in headers.items()})
            return Unreachable(f"{self.place} is busy ({_words(error)}).", after)
        if code == 401:
            return Refused(f"{self.place} refuses the key ({_words(error)}); make a new one for {_KEY}.")
        fix = _ROLE if code == 403 else f"check {_BUCKET} and {_KEY}"
        return Refused(f"{self.place} refuses the call ({_words(error)}); {fix}.")


def _check_response(response: Response, *_: object, **__: object) -> None:
    """Raise for what the SDK takes as it comes."""
    if has_cut_head(response):
        raise RequestException("the connection broke")
    if response.request.method == "DELETE" and response.ok and response.content.strip() not in _NOTHING:
        raise _nonsense("a confirmation of the deletion")


def _require_listing(page: Any) -> None:
    """Nonsense for what is not a listing: the SDK takes any JSON without `items` for an empty one."""
    if page.raw_page.get("kind") != "storage#objects":
        raise _nonsense("a listing")


def _nonsense(expected: str) -> Refused:
    return nonsense("Google Cloud Storage", expected)


class _Bounded(io.BytesIO):
    """A body of at most `most` bytes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._most:
            raise Refused("Google sent an object larger than bitnet writes; it is another program's, so remove it.")
        return super().write(data)


def _credentials(given: str) -> Any:
    """The service account of a key: its JSON, or the path of a file with it. UsageError without its content."""
    try:
        is_json = given.lstrip().startswith("{")
        info = json.loads(given if is_json else read_bounded(Path(given).expanduser(), MIB))
        if info["type"] != "service_account":
            raise ValueError(_KEY)
        return service_account.Credentials.from_service_account_info(info, scopes=_SCOPES)
    except OSError as error:
        raise UsageError(f"The file that {_KEY} names can't be read {explained(error, 'correct it')}.") from None
    except (GoogleAuthError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise UsageError(
            f"{_KEY} is not the key of a service account; download one from the project's settings in Firebase."
        ) from None


def _words(error: GoogleAPICallError) -> str:
    """What the server says, cut to a clause. The address is left out: that of an upload is as good as a key."""
    said = getattr(error.response, "text", "") or ""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        said = str(json.loads(said)["error"]["message"])
    return f"HTTP {error.code}: {flat(said)[:300]}".rstrip(": ")
