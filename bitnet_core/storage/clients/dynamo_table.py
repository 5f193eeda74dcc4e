"""The items of a DynamoDB table: how they are named, read, listed and changed together. Knows no object.

An item has a kind and a name, which are the table's key, and its other attributes as DynamoDB writes them.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.storage.clients.aws import Aws
from bitnet_core.storage.target import Unreachable

KIND, NAME = "item_kind", "object_name"
PRESENT = f"attribute_exists({NAME})"
ABSENT = f"attribute_not_exists({NAME})"
_CREATION_SECONDS = 60

Item = Mapping[str, Any]


class NoTable(BitnetError):
    """The table is not there yet."""


class Changed(BitnetError):
    """A condition of a write does not hold."""


class Table:
    """A table; the first write creates it, with on-demand billing. Reads are consistent. Safe to use from threads."""

    def __init__(self, dynamo: Aws, name: str) -> None:
        self.name = name
        self._dynamo = dynamo
        self._creating = threading.Lock()
        self._ahead = 0.0

    def now(self) -> float:
        """Unix seconds by the clock of DynamoDB, as of its last reply."""
        return time.time() + self._ahead

    def read(self, kind: str, name: str) -> Item | None:
        """The item; None if there is none."""
        with contextlib.suppress(NoTable):
            item = self._ask("get_item", Key=key_of(kind, name), ConsistentRead=True).get("Item")
            return item if isinstance(item, dict) else None
        return None

    def items(self, kind: str, prefix: str) -> Iterator[Item]:
        """The items of a kind whose names begin with a prefix."""
        values = {":kind": {"S": kind}, **({":prefix": {"S": prefix}} if prefix else {})}
        pages = self._dynamo.pages(
            "query",
            "ExclusiveStartKey",
            lambda page: page.get("LastEvaluatedKey"),
            {"ResourceNotFound": NoTable()},
            TableName=self.name,
            KeyConditionExpression=f"{KIND} = :kind" + (f" AND begins_with({NAME}, :prefix)" if prefix else ""),
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
        with contextlib.suppress(NoTable):
            for page in pages:
                if "Items" not in page:
                    raise self._dynamo.nonsense("a listing")
                yield from page["Items"]

    def exists(self) -> bool:
        """Whether the table is there. Refused if it has another key."""
        with contextlib.suppress(NoTable):
            self._ask("get_item", Key=key_of("-", "-"))
            return True
        return False

    def put(self, item: Item, condition: str = "") -> None:
        """Store an item. Changed if the condition does not hold."""
        self._write("put_item", Item=item, **({"ConditionExpression": condition} if condition else {}))

    def delete(self, kind: str, name: str) -> None:
        self._write("delete_item", Key=key_of(kind, name))

    def change(self, changes: Sequence[Item]) -> None:
        """All these changes or none (see `putting`). Changed if a condition does not hold."""
        named = [{kind: {"TableName": self.name, **change} for kind, change in one.items()} for one in changes]
        self._write("transact_write_items", TransactItems=named)

    def _write(self, operation: str, **parameters: Any) -> None:
        try:
            self._ask(operation, **parameters)
        except NoTable:
            with self._creating:
                self._create()
            self._ask(operation, **parameters)

    def _ask(self, operation: str, **parameters: Any) -> Any:
        outcomes = {"ResourceNotFound": NoTable(), "ConditionalCheckFailed": Changed()}
        table = {} if "TransactItems" in parameters else {"TableName": self.name}
        reply = self._dynamo.call(operation, outcomes, **table, **parameters)
        with contextlib.suppress(LookupError, ValueError):
            told = parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])
            self._ahead = told.timestamp() - time.time()
        return reply

    def _create(self) -> None:
        with contextlib.suppress(Changed):
            self._dynamo.call(
                "create_table",
                {"ResourceInUse": Changed()},  # another writer was first
                TableName=self.name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": one, "AttributeType": "S"} for one in (KIND, NAME)],
                KeySchema=[
                    {"AttributeName": KIND, "KeyType": "HASH"},
                    {"AttributeName": NAME, "KeyType": "RANGE"},
                ],
            )
        for _ in range(_CREATION_SECONDS):
            with contextlib.suppress(NoTable):
                if self._ask("describe_table").get("Table", {}).get("TableStatus") == "ACTIVE":
                    return
            time.sleep(1)
        raise Unreachable(f"The table {self.name} is still being created.")


def key_of(kind: str, name: str) -> dict[str, Any]:
    """The key of an item, which is a part of it."""
    return {KIND: {"S": kind}, NAME: {"S": name}}


def putting(item: Item, condition: Item | None = None) -> Item:
    """A change that stores an item; `condition` has DynamoDB's parameters for it."""
    return {"Put": {"Item": item, **(condition or {})}}


def deleting(kind: str, name: str, condition: Item | None = None) -> Item:
    """A change that removes an item."""
    return {"Delete": {"Key": key_of(kind, name), **(condition or {})}}


def text_in(item: Item, name: str) -> str:
    """A text in an item; empty if there is none."""
    value = item.get(name, {}).get("S")
    return value if isinstance(value, str) else ""


def number_in(item: Item, name: str) -> int | None:
    """A whole number in an item; None if there is none."""
    value = item.get(name, {}).get("N")
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 20 else None
