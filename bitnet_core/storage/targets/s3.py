"""A bucket of S3, or of a server with its API, as a target. An object is one of S3, below a prefix."""

import base64
import contextlib
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.settings.storage import S3Options
from bitnet_core.storage import names
from bitnet_core.storage.clients.aws import Aws
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import Account, AlreadyThere, Found, Limits, NoSuchObject, Refused

_KEY_BYTES = 1024
_LARGEST_BYTES = 1 << 60
"""More than a bucket takes as one object."""


@contextlib.contextmanager
def opened(options: S3Options, keys: Keys) -> Iterator["S3Target"]:
    """The target of these options; without keys, boto3 looks for its own."""
    with open_s3(keys, options.region, options.endpoint) as s3:
        yield S3Target("s3", s3, options.bucket, options.prefix)


def create(options: S3Options, keys: Keys) -> None:
    """Create the bucket, unless it is there. Refused where the key may not, or the name is taken."""
    needed = f"s3:ListBucket and s3:CreateBucket on {options.bucket}"
    with Aws("S3", "s3", keys, region=options.region, endpoint=options.endpoint, permissions=needed) as s3:
        absent = NoSuchObject(f"The bucket {options.bucket} is not there.")
        try:
            s3.call("head_bucket", {"404": absent, "NoSuchBucket": absent}, Bucket=options.bucket)
        except NoSuchObject:
            s3.call("create_bucket", Bucket=options.bucket, **s3.location)


def open_s3(keys: Keys, region: str, endpoint: str) -> Aws:
    """The service S3."""
    needed = "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on the bucket"
    return Aws("S3", "s3", keys, region=region, endpoint=endpoint, permissions=needed)


class S3Target:
    """Objects below a prefix of a bucket."""

    def __init__(self, name: str, s3: Aws, bucket: str, prefix: str) -> None:
        self.name = name
        self._s3 = s3
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.place = f"s3://{bucket}/{self._prefix}"
        self.limits = Limits(key_bytes=_KEY_BYTES - len(self._prefix.encode()))

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        there = AlreadyThere(f"{self.place}{key} is already there.")
        condition = {}
        if only_if_absent:
            condition = {"IfNoneMatch": "*"}
            if not self._s3.is_amazon and self._is_there(key):  # some other servers ignore the condition
                raise there
        checksum = base64.b64encode(bytes.fromhex(sha256(data))).decode()
        if not self._call("put_object", key, there, Body=io.BytesIO(data), ChecksumSHA256=checksum, **condition).get(
            "ETag"
        ):
            raise self._s3.nonsense("a confirmation of the upload")

    def get(self, key: str) -> bytes:
        reply = self._call("get_object", key)
        data: bytes = reply["Body"]
        if len(data) > self.limits.object_bytes:
            raise Refused(f"{self.place}{key} is larger than any object is; it was not written by bitnet.")
        return data

    def list(self, prefix: str) -> Iterator[Found]:
        pages = self._s3.pages(
            "list_objects_v2",
            "ContinuationToken",
            self._next_of,
            Bucket=self._bucket,
            Prefix=self._prefix + prefix,
        )
        for page in pages:
            for entry in page.get("Contents", ()):
                name, size, modified = entry.get("Key"), entry.get("Size"), entry.get("LastModified")
                if not name or size is None or not 0 <= size <= _LARGEST_BYTES:
                    raise self._s3.nonsense("a listing")
                key = name.removeprefix(self._prefix)
                if name.startswith(self._prefix + prefix) and not names.fault(key):
                    yield Found(key, size, modified.timestamp() if isinstance(modified, datetime) else None)

    def delete(self, key: str) -> None:
        with contextlib.suppress(NoSuchObject):
            self._call("delete_object", key)

    def check(self) -> Account:
        """Refused if the bucket is not there or the key may not list it; S3 does not say how much it can hold."""
        self._next_of(self._s3.call("list_objects_v2", Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1))
        return Account()

    def _next_of(self, page: Any) -> object:
        """What to ask with for the next page; None for the last one. Not every 200 is a listing."""
        if "IsTruncated" not in page:
            raise self._s3.nonsense("a listing")
        return page.get("NextContinuationToken", "") if page["IsTruncated"] else None

    def _is_there(self, key: str) -> bool:
        with contextlib.suppress(NoSuchObject):
            if not self._call("head_object", key).get("ETag"):
                raise self._s3.nonsense("a description of an object")
            return True
        return False

    def _call(self, operation: str, key: str, there: AlreadyThere | None = None, **parameters: Any) -> Any:
        missing = NoSuchObject(f"{self.place}{key} is not there.")
        outcomes: dict[str, BitnetError] = {"NoSuchKey": missing}
        if operation == "head_object":
            outcomes["404"] = missing
        if there is not None:
            outcomes["PreconditionFailed"] = outcomes["412"] = there
        return self._s3.call(operation, outcomes, Bucket=self._bucket, Key=self._prefix + key, **parameters)
