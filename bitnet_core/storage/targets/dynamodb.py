"""A table of DynamoDB as a target, and a bucket of S3 for what is in the objects if one is given.

The table has three kinds of items. An object is there if and only if its `index` item is: a name and a size. What is
in it is an item `content/<name>` or, with a bucket, an S3 object with a name of its own, which the index item names.
A transaction changes both items at once. An S3 object has a `temporary` item from before it is written until the
transaction that makes an index item name it, and again, condemned, from the transaction after which none does. So a
crash at any point leaves the older object or the newer one, whole, and a temporary item for an S3 object that no
index item names. What is condemned is never named again.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from bitnet_core.settings.storage import DynamoOptions
from bitnet_core.storage import names
from bitnet_core.storage.clients.aws import Aws
from bitnet_core.storage.clients.dynamo_table import (
    ABSENT,
    NAME,
    PRESENT,
    Changed,
    Item,
    Table,
    deleting,
    key_of,
    number_in,
    putting,
    text_in,
)
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import (
    TEMPORARY,
    Account,
    AlreadyThere,
    Found,
    Limits,
    NoSuchObject,
    Refused,
    Unreachable,
)
from bitnet_core.storage.targets.s3 import S3Target, open_s3

_ITEM_BYTES = 384 << 10
"""Of an object in an item; an item has at most 400 KiB with the names in it."""
_INDEX, _TEMPORARY = "index", "temporary"
_SIZE, _WRITTEN, _BLOB, _CONTENT, _CONDEMNED = "size", "written", "blob_name", "content", "condemned"
_TURNS = 3


@contextlib.contextmanager
def opened(options: DynamoOptions, keys: Keys) -> Iterator["DynamoTarget"]:
    """The target of these options; without keys, boto3 looks for its own."""
    table = f"{options.table_prefix}objects"
    region = options.region or options.s3_region
    needed = "dynamodb:GetItem, Query, PutItem, DeleteItem, CreateTable and DescribeTable on the table"
    with contextlib.ExitStack() as stack:
        dynamo = Aws("DynamoDB", "dynamodb", keys, region=region, endpoint=options.endpoint, permissions=needed)
        stack.enter_context(dynamo)
        blobs = None
        if options.bucket:
            s3 = stack.enter_context(open_s3(keys, options.s3_region, options.s3_endpoint))
            blobs = S3Target("dynamodb", s3, options.bucket, f"{options.prefix.rstrip('/')}/{table}")
        yield DynamoTarget(Table(dynamo, table), blobs)


class DynamoTarget:
    """Objects of a table, whose contents are in `blobs` if that is given."""

    name = "dynamodb"

    def __init__(self, table: Table, blobs: S3Target | None) -> None:
        self._table = table
        self._blobs = blobs
        self.place = f"dynamodb:{table.name}/"
        self.limits = Limits() if blobs else Limits(object_bytes=_ITEM_BYTES)

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        there = AlreadyThere(f"{self.place}{key} is already there.") if only_if_absent else None
        old = self._table.read(_INDEX, key)
        if there and old is not None:
            raise there
        index = self._item(_INDEX, key, len(data))
        if self._blobs is None:
            content = {**key_of(*_content(key)), _CONTENT: {"B": data}}
            self._replace(key, old, index, [putting(content)], there)
            return
        blob = f"{time.time():.0f}-{secrets.token_hex(12)}"
        self._table.put(self._item(_TEMPORARY, blob, len(data)))
        self._blobs.put(blob, data)
        # Its temporary item may be gone or condemned: somebody cleaned up what looked left over.
        kept = {"ConditionExpression": f"{PRESENT} AND attribute_not_exists({_CONDEMNED})"}
        try:
            self._replace(key, old, {**index, _BLOB: {"S": blob}}, [deleting(_TEMPORARY, blob, kept)], there)
        except AlreadyThere:
            self._discard_soon(blob)
            raise

    def get(self, key: str) -> bytes:
        for _ in range(_TURNS):  # another writer may replace the object between the index and its content
            index = self._table.read(_INDEX, key)
            if index is None:
                break
            with contextlib.suppress(NoSuchObject):
                return self._contents(key, index)
        raise NoSuchObject(f"{self.place}{key} is not there.")

    def list(self, prefix: str) -> Iterator[Found]:
        """Also the S3 objects that no index item names, as temporary ones."""
        yield from self._found(_INDEX, prefix)
        if prefix in ("", TEMPORARY):
            for found in self._found(_TEMPORARY, ""):
                yield Found(TEMPORARY + found.key, found.size, found.modified)

    def delete(self, key: str) -> None:
        if (old := self._table.read(_INDEX, key)) is not None:
            self._replace(key, old, None, [])
        elif key.startswith(TEMPORARY):
            self._discard(key.removeprefix(TEMPORARY))

    def check(self) -> Account:
        """Refused if the table is another program's; it is created when the first object is put."""
        if self._blobs is not None:
            self._blobs.check()
        created = f"The table {self._table.name} is created with the first object, billed on demand."
        return Account(note="" if self._table.exists() else created)

    def _contents(self, key: str, index: Item) -> bytes:
        if blob := text_in(index, _BLOB):
            return self._bucket_of(key).get(blob)
        item = self._table.read(*_content(key)) or {}
        data = item.get(_CONTENT, {}).get("B")
        if not isinstance(data, bytes):
            raise NoSuchObject(f"{self.place}{key} has no content.")
        return data

    def _found(self, kind: str, prefix: str) -> Iterator[Found]:
        for item in self._table.items(kind, prefix):
            key, size = text_in(item, NAME), number_in(item, _SIZE)
            if key.startswith(prefix) and not names.fault(key) and size is not None:
                yield Found(key, size, number_in(item, _WRITTEN))

    def _replace(
        self, key: str, old: Item | None, new: Item | None, others: Sequence[Item], there: AlreadyThere | None = None
    ) -> None:
        """Make `new` the object's index item, if `old` still is, together with other changes."""
        blob, still = text_in(old or {}, _BLOB), _still(old)
        changes = [putting(new, still) if new else deleting(_INDEX, key, still), *others]
        if blob:
            self._bucket_of(key)
            changes.append(putting(self._condemned(blob)))
        elif old and (new is None or _BLOB in new):
            changes.append(deleting(*_content(key)))
        try:
            self._table.change(changes)
        except Changed:
            if there and self._table.read(_INDEX, key) is not None:
                raise there from None
            raise Unreachable(f"{self.place}{key} was changed by another writer at the same time.") from None
        if blob:
            self._discard_soon(blob)

    def _discard(self, blob: str) -> None:
        """Delete an S3 object that has a temporary item."""
        with contextlib.suppress(Changed):
            self._table.put(self._condemned(blob), PRESENT)
            self._bucket_of(blob).delete(blob)
            self._table.delete(_TEMPORARY, blob)

    def _discard_soon(self, blob: str) -> None:
        """Delete it now, or else leave it to the next cleaning: its temporary item stays."""
        with contextlib.suppress(Refused, Unreachable):
            self._discard(blob)

    def _bucket_of(self, name: str) -> S3Target:
        if self._blobs is None:
            raise Refused(f"{self.place}{name} is in a bucket of S3; set S3_BUCKET.")
        return self._blobs

    def _item(self, kind: str, name: str, size: int) -> dict[str, Any]:
        return {**key_of(kind, name), _SIZE: {"N": str(size)}, _WRITTEN: {"N": f"{max(0.0, self._table.now()):.0f}"}}

    def _condemned(self, blob: str) -> Item:
        return {**self._item(_TEMPORARY, blob, 0), _CONDEMNED: {"BOOL": True}}


def _content(key: str) -> tuple[str, str]:
    """Kind and name of an object's content: each in a partition of its own, as a partition takes 1 MB/s."""
    return f"content/{key}", key


def _still(old: Item | None) -> Item:
    """The condition that an index item is as it was when it was read."""
    if old is None:
        return {"ConditionExpression": ABSENT}
    if blob := text_in(old, _BLOB):
        return {"ConditionExpression": f"{_BLOB} = :blob", "ExpressionAttributeValues": {":blob": {"S": blob}}}
    return {"ConditionExpression": f"{PRESENT} AND attribute_not_exists({_BLOB})"}
