"""A client of one AWS service: boto3 with one attempt a call, bounded replies, and errors told as the room's own.

The only module of this room that imports boto3. Knows no target.
"""

import contextlib
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import boto3
import urllib3.exceptions
from botocore import exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError

from bitnet_core.errors import BitnetError
from bitnet_core.network.proxy import LOOPBACK, proxy_of
from bitnet_core.network.trickle import bounded_pools
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.storage.clients.aws_replies import bounded, is_cut, is_object, read
from bitnet_core.storage.clients.http import (
    CONNECT_SECONDS,
    MOST_BYTES,
    MOST_LISTED_BYTES,
    SILENCE_SECONDS,
    wait_of,
)
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import Nonsense, Refused, Unreachable, nonsense
from bitnet_core.text import flat

MOST_PAGES = 20_000
"""Of one listing; a page of S3 has up to 1,000 objects."""
_MOST_REQUESTS = 4
"""Of one call: botocore asks for a bucket's region and sends the call there; nothing else is sent again."""
_CONNECTIONS = 16
_MOST_ERROR_BYTES = 1 << 16
_LONGEST_WORDS = 300
_ANY_REGION = "us-east-1"
"""For servers that are in no region."""
_ENDPOINTS = {"s3": "S3_ENDPOINT_URL", "dynamodb": "DYNAMO_ENDPOINT_URL"}
"""The settings that give a server's address instead of Amazon's."""
_OWN_REGIONS = {
    "dynamodb": "DYNAMO_REGION or ",
    **dict.fromkeys(("amplify", "cloudformation"), "AMPLIFY_REGION or "),
}
"""The settings that come before AWS_DEFAULT_REGION."""
_UNKNOWN_KEY = ("InvalidAccessKeyId", "UnrecognizedClient")
_URL = re.compile(r'"?https?://([^/?\s"]+)[^\s"]*"?')
"""botocore names the whole address of a request, and only its host is of use."""
_LATER = {
    *("408", "429", "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "LimitExceeded"),
    *("OperationAborted", "ProvisionedThroughputExceeded", "RequestLimitExceeded", "RequestTimeout", "ResourceInUse"),
    *("ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingError", "TooManyRequests", "TransactionConflict"),
    *("TransactionInProgress", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"),
}
_NEVER = {501, 505, 507}
"""Statuses of a server's fault that patience does not mend."""
_KEYS = "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_KEY = "correct AWS_ACCESS_KEY_ID"
_SIGNING = "correct AWS_SECRET_ACCESS_KEY"
_EXPIRED = "get new temporary keys, or log in again (`aws sso login`)"
_REGION = "set the region in which it is (AWS_DEFAULT_REGION)"
_SPACE = "free space there"
_FIXES = {
    "InvalidAccessKeyId": _KEY,
    "InvalidClientTokenId": _KEY,
    "InvalidSignature": _SIGNING,
    "InvalidToken": "correct AWS_SESSION_TOKEN, or leave it empty for keys that don't expire",
    "SignatureDoesNotMatch": _SIGNING,
    "UnrecognizedClient": _KEY,
    "401": _KEYS,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraint": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "NoSuchBucket": "create the bucket at the service (its console, or {make}), or correct S3_BUCKET",
    "BucketAlreadyExists": "choose another name (S3_BUCKET), as this one is somebody else's",
    "InvalidBucketName": "correct S3_BUCKET",
    "KeyTooLongError": "use a shorter name",
    "RequestTimeTooSkewed": "set this machine's clock",
    "Validation": "choose another DYNAMO_TABLE_PREFIX if another program has this table",
    "QuotaExceeded": _SPACE,
    "XMinioStorageFull": _SPACE,
    "507": _SPACE,
}
_LOGIN_ENDED = (
    exceptions.SSOError,
    exceptions.LoginError,
    exceptions.TokenRetrievalError,
    exceptions.CredentialRetrievalError,
)
_BROKEN = (
    exceptions.HTTPClientError,
    exceptions.ConnectionError,
    exceptions.ChecksumError,
    exceptions.IncompleteReadError,
    exceptions.ResponseStreamingError,
    exceptions.MetadataRetrievalError,
    urllib3.exceptions.HTTPError,
    HTTPException,
    OSError,
)
_NONSENSE = (
    ResponseParserError,
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError),
)
"""What botocore raises for a reply that no AWS service sends."""


class _Sent(threading.local):
    """What this thread's call has sent so far, and the status of the last answer; 0 = none."""

    requests = 0
    status = 0
    cut = False
    """Whether that answer was cut off, as `is_cut` says."""


class Aws:
    """A service: `title` is its name in messages, `permissions` what the key must allow. Safe to use from threads."""

    def __init__(
        self, title: str, service: str, keys: Keys, *, region: str = "", endpoint: str = "", permissions: str
    ) -> None:
        self._title = title
        self._speaks_json = service in ("dynamodb", "amplify")
        self._sent = _Sent()
        self._permissions = permissions
        self._masked = Redactor(value for value in keys.values.values() if value)
        self._endpoint = _ENDPOINTS[service] if endpoint else ""
        self._where = self._endpoint or "AWS_DEFAULT_REGION"
        self._region = f"{_OWN_REGIONS.get(service, '')}AWS_DEFAULT_REGION"
        other = _ENDPOINTS.get(service, "") if not endpoint else ""
        self._elsewhere = f", or set {other} for another server than Amazon's" if other else ""
        host = _host_of(title, endpoint, self._endpoint)
        with self._told({}):
            # Without keys of ours boto3 looks for its own: environment, profile, role of the machine.
            session = boto3.session.Session(**_credentials(keys))
            self._client = session.client(
                service,
                region_name=region or session.region_name or (_ANY_REGION if endpoint else None),
                endpoint_url=endpoint or None,
                config=Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=SILENCE_SECONDS,
                    retries={"total_max_attempts": 1},
                    max_pool_connections=_CONNECTIONS,
                    # Targets send a sha256, which the server compares, and their readers compare it again.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"payload_signing_enabled": False, **({"addressing_style": "path"} if endpoint else {})},
                    proxies={} if host in LOOPBACK else None,
                ),
            )
        self._bound_replies()
        self.is_amazon = ".amazonaws.com" in str(self._client.meta.endpoint_url)

    @property
    def location(self) -> dict[str, Any]:
        """What tells Amazon in which region to create a bucket. Other servers know where they are."""
        region = self._client.meta.region_name
        elsewhere = self.is_amazon and region != _ANY_REGION
        return {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}

    def __enter__(self) -> "Aws":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, operation: str, outcomes: Mapping[str, BitnetError] | None = None, **parameters: Any) -> Any:
        """The parsed reply, a streamed body as bytes. `outcomes` are the errors to raise for some error codes."""
        self._sent.requests = self._sent.status = 0
        self._sent.cut = False
        with self._told(outcomes or {}, parameters.get("Bucket", "")):
            reply = getattr(self._client, operation)(**parameters)
            if operation == "get_object":
                with contextlib.closing(reply["Body"]) as body:
                    if "ContentLength" not in reply:
                        raise Unreachable(f"{self._title} sent an object without its length, so it may be cut.")
                    reply["Body"] = read(body, reply["ContentLength"])
            return reply

    def pages(
        self,
        operation: str,
        ask: str,
        more: Callable[[Any], object],
        outcomes: Mapping[str, BitnetError] | None = None,
        **parameters: Any,
    ) -> Iterator[Any]:
        """The pages of a listing. `more` finds in a page what to ask with for the next one; None = it is the last."""
        token: object = None
        for _ in range(MOST_PAGES):
            page = self.call(operation, outcomes, **parameters, **({} if token is None else {ask: token}))
            yield page
            following = more(page)
            if following is None:
                return
            if not following or following == token:
                break
            token = following
        raise Refused(f"{self._title} sends a listing without an end; check that its address is right.")

    def nonsense(self, expected: str = "a reply of an AWS service") -> Nonsense:
        """The error for an answer that is something else than `expected`, as a login page is."""
        return nonsense(f"{self._title} at {self._address}", expected, self._where, self._elsewhere)

    @property
    def _address(self) -> str:
        """Of the server, without a name and a password."""
        address = urlsplit(str(self._client.meta.endpoint_url))
        return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()

    @contextlib.contextmanager
    def _told(self, outcomes: Mapping[str, BitnetError], bucket: str = "") -> Iterator[None]:
        try:
            yield
        except BitnetError:
            raise
        except exceptions.ClientError as error:
            code = _code(error)
            if code in outcomes:
                # A new one: an error that a frame keeps would keep that frame, and the bytes of a put, alive.
                raise type(outcomes[code])(str(outcomes[code])) from None
            raise self._answered(code, error, bucket) from error
        except exceptions.SSLError as error:
            if "certificate" in str(error).lower():
                fix = "check the address, or name its authority in AWS_CA_BUNDLE"
                raise self._refused(error, fix) from error
            raise self._unreached(error) from error
        except exceptions.NoCredentialsError as error:
            fix = "run `bitnet keys set` for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`"
            none = "no access keys are set, and this machine has none of its own"
            raise Refused(f"{self._title} can't be used ({none}); {fix}.") from error
        except _LOGIN_ENDED as error:
            raise self._refused(error, _EXPIRED) from error
        except exceptions.NoRegionError as error:
            raise self._refused(error, "set its region (AWS_DEFAULT_REGION)") from error
        except _NONSENSE as error:
            if not self._sent.requests:
                region = isinstance(error, exceptions.InvalidRegionError)
                fix = f"correct {self._region}" if region else f"check that {self._where} is right"
                raise self._refused(error, fix) from error
            if self._sent.status >= 500:
                raise Unreachable(f"{self._title} is busy (HTTP {self._sent.status}).") from error
            raise self.nonsense() from error
        except _BROKEN as error:
            # Ctrl-C raises inside a request, and botocore wraps what it does not know.
            if isinstance(error, exceptions.HTTPClientError) and isinstance(error.kwargs.get("error"), BitnetError):
                raise error.kwargs["error"] from None
            raise self._unreached(error) from error
        except exceptions.ParamValidationError as error:
            if "Invalid bucket name" not in str(error):
                raise self._refused(error, "correct the settings") from error
            fix = "write it without s3:// and without a folder, which S3_PREFIX takes"
            raise Refused(f"S3_BUCKET is not the name of a bucket; {fix}.") from None
        except exceptions.BotoCoreError as error:
            raise self._refused(error, "correct the settings or the AWS configuration") from error

    def _bound_replies(self) -> None:
        """Limit what botocore does not: a reply's bytes and time, and how often S3 sends a call elsewhere."""
        session = self._client._endpoint.http_session
        classes = session._pool_classes_by_scheme
        classes.update(bounded_pools(classes))
        send = session.send

        def send_bounded(request: Any) -> Any:
            self._sent.requests += 1
            if self._sent.requests > _MOST_REQUESTS:
                raise Refused(f"{self._title} sends every request elsewhere; correct its address, or {_REGION}.")
            streamed = request.stream_output
            request.stream_output = True  # leaves the body to be read here
            response = send(request)
            self._sent.status = response.status_code
            failed = response.status_code >= 300
            most_bytes = _MOST_ERROR_BYTES if failed else MOST_BYTES if streamed else MOST_LISTED_BYTES
            response.raw.stream = lambda: bounded(response.raw, most_bytes)
            if not streamed or failed:
                self._sent.cut = is_cut(response.content)
            # botocore takes what is no JSON of its service for an empty reply, as if all were well.
            if self._speaks_json and not failed and not is_object(response):
                raise self.nonsense()
            return response

        session.send = send_bounded

    def _unreached(self, error: Exception) -> Unreachable:
        fix = f"check that {self._endpoint} is right and its server runs"
        if not self._endpoint:
            fix = f"check that the network works and AWS_DEFAULT_REGION is right{self._elsewhere}"
        words = _URL.sub(r"\1", str(error)).replace("the endpoint URL: ", "")
        if proxy := proxy_of(str(self._client.meta.endpoint_url), knows_all=False):
            return Unreachable(f"{self._title} can't be reached{proxy.told(self._words(words), error)}.")
        return Unreachable(f"{self._title} can't be reached ({self._words(words)}); {fix}.")

    def _refused(self, error: Exception, fix: str) -> Refused:
        return Refused(f"{self._title} can't be used ({self._words(str(error))}); {fix}.")

    def _answered(self, code: str, error: exceptions.ClientError, bucket: str = "") -> BitnetError:
        """The error for an answer that says no."""
        said = error.response.get("Error", {}).get("Message")
        metadata = error.response.get("ResponseMetadata", {})
        status = int(metadata.get("HTTPStatusCode", 0))
        named = code not in ("", str(status))  # else it is a server of another kind, or one in its place
        if self._sent.status == 200:  # botocore makes a 500 of an error that is sent as a success, and of no XML
            if not named and self._sent.cut:
                return Unreachable(f"{self._title} sent a part of an answer.")
            if not named:
                return self.nonsense()
            status = 200
        words = self._words(f"{code}: {said}" if said else code or f"HTTP {status}")
        if code in _LATER or status in (408, 429) or (status >= 500 and status not in _NEVER):
            return Unreachable(f"{self._title} is busy ({words}).", wait_of(metadata.get("HTTPHeaders", {})))
        otherwise = "check the settings" if named or not self._endpoint else f"check that {self._endpoint} is right"
        fix = _FIXES.get(code) or _FIXES.get(str(status)) or otherwise
        if code not in _FIXES and (status == 403 or code == "AccessDenied"):
            fix = f"allow the key {self._permissions}"
        fix = fix.replace("{make}", self._making(bucket))
        fix += self._elsewhere if code in _UNKNOWN_KEY else ""
        return Refused(f"{self._title} refuses ({words}); {fix}.")

    def _making(self, bucket: str) -> str:
        """The command that creates this bucket, to be pasted into a shell."""
        command = ["aws", "s3", "mb", f"s3://{bucket}"]
        if self._endpoint:
            command += ["--endpoint-url", self._address]
        return f"`{shlex.join(command)}`"

    def _words(self, said: str) -> str:
        return flat(self._masked(said)).rstrip(".")[:_LONGEST_WORDS]


def _credentials(keys: Keys) -> dict[str, str]:
    if not keys.get("AWS_ACCESS_KEY_ID"):
        return {}
    given = {
        "aws_access_key_id": keys.need("AWS_ACCESS_KEY_ID"),
        "aws_secret_access_key": keys.need("AWS_SECRET_ACCESS_KEY"),
    }
    token = keys.get("AWS_SESSION_TOKEN")
    return {**given, "aws_session_token": token} if token else given


def _host_of(title: str, endpoint: str, setting: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(endpoint)
        if not endpoint or (parts.scheme in ("http", "https") and parts.hostname):
            return parts.hostname or ""
    raise Refused(f"{title} can't be used: {setting} is not an http(s) address; correct it.")


def _code(error: exceptions.ClientError) -> str:
    """The error's code without `Exception`; of a cancelled transaction, that of the write that cancelled it."""
    code = str(error.response.get("Error", {}).get("Code", "")).removesuffix("Exception")
    if code == "TransactionCanceled":
        reasons = [str(one.get("Code")) for one in error.response.get("CancellationReasons") or ()]
        reasons = [reason for reason in reasons if reason != "None"]
        return "ConditionalCheckFailed" if "ConditionalCheckFailed" in reasons else next(iter(reasons), code)
    return code
