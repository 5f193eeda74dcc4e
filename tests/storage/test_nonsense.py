"""What another kind of server answers with success: a login page, text, nothing, half a JSON, JSON of a wrong type.

Of every kind that has a server. Waiting does not mend it, so it is told at once, with where it came from.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from bitnet_core.storage.target import Nonsense, Target
from tests.storage.fakes.google_tokens import TokenServer
from tests.storage.fakes.scripted import Reply, Scripted, scripted
from tests.storage.stand import Running, opened
from tests.storage.stands import box, dropbox, firebase, gdrive, onedrive, rclone, supabase
from tests.storage.tls_proxy import Reply as VendorsReply

NONSENSE = [
    b"<!doctype html><html><head><title>Log in</title></head><body>to this network</body></html>",
    b"\x1b[31mOK",
    b"",
    b'{"files": [{"id": "1", "na',
    b"[1, null]",
    b'{"files": 5, "value": [7], "entries": {"a": []}, "access_token": ["x"], "id": 3, "a": 1}',
    b"[" * 60_000,
]
AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "hush"}

Say = Callable[[bytes], object]
"""Makes the server answer with this body from now on."""


@contextlib.contextmanager
def _by_address(settings: Mapping[str, str], keys: Mapping[str, str], setting: str) -> Iterator[tuple[Running, Say]]:
    with scripted() as script:
        given = {**settings, setting: f"http://127.0.0.1:{script.port}/files"}
        yield Running(given, keys), _saying(script)


def _saying(script: Scripted) -> Say:
    return lambda body: setattr(script, "replies", [Reply(body=body)])


@contextlib.contextmanager
def _vendor(
    stand: ModuleType, keys: Mapping[str, str], folder: Path, answers_login: bool
) -> Iterator[tuple[Running, Say]]:
    with stand.faked(folder) as (_, proxy):

        def say(body: bytes) -> None:
            proxy.instead = lambda asked: (
                VendorsReply(body=body) if asked.path.endswith("/token") == answers_login else None
            )

        yield Running(stand.SETTINGS, keys), say


@contextlib.contextmanager
def _firebase(folder: Path) -> Iterator[tuple[Running, Say]]:
    with scripted() as script, TokenServer() as tokens, firebase.emulator_at(script.port):
        settings = {"STORAGE_BACKEND": "firebase", "FIREBASE_STORAGE_BUCKET": firebase.BUCKET}
        key = folder / "key.json"
        key.write_text(json.dumps(tokens.known))
        yield Running(settings, {"FIREBASE_CREDENTIALS_JSON": str(key)}), _saying(script)


@contextlib.contextmanager
def _mongodb() -> Iterator[tuple[Running, Say]]:
    with scripted() as script:
        uri = f"mongodb://u:hush@127.0.0.1:{script.port}/?serverSelectionTimeoutMS=200"
        yield Running({"STORAGE_BACKEND": "mongodb_atlas"}, {"MONGODB_ATLAS_URI": uri}), _saying(script)


@contextlib.contextmanager
def _rclone(folder: Path, config: Callable[[int], str]) -> Iterator[tuple[Running, Say]]:
    with scripted() as script:
        yield Running(rclone.settings(folder, "remote:bucket/runs", config(script.port))), _saying(script)


def _dav_config(port: int) -> str:
    return f"[remote]\ntype = webdav\nvendor = other\nurl = http://127.0.0.1:{port}\n"


def _s3_config(port: int) -> str:
    return rclone.s3_config(port).replace("[bucket]", "[remote]")


KINDS: dict[str, Callable[[Path], AbstractContextManager[tuple[Running, Say]]]] = {
    "webdav": lambda _: _by_address({"STORAGE_BACKEND": "webdav"}, {}, "WEBDAV_URL"),
    "nextcloud": lambda _: _by_address(
        {"STORAGE_BACKEND": "nextcloud", "NC_USERNAME": "u"}, {"NC_APP_PASSWORD": "hush"}, "NC_WEBDAV_URL"
    ),
    "supabase": lambda _: _by_address(
        {"STORAGE_BACKEND": "supabase", "SUPABASE_BUCKET": "runs"},
        {"SUPABASE_SERVICE_ROLE_KEY": supabase.KEY},
        "SUPABASE_URL",
    ),
    "s3": lambda _: _by_address({"STORAGE_BACKEND": "s3", "S3_BUCKET": "bucket"}, AWS, "S3_ENDPOINT_URL"),
    "dynamodb": lambda _: _by_address({"STORAGE_BACKEND": "dynamodb"}, AWS, "DYNAMO_ENDPOINT_URL"),
    "firebase": _firebase,
    "mongodb": lambda _: _mongodb(),
    "rclone to webdav": lambda folder: _rclone(folder, _dav_config),
    "rclone to s3": lambda folder: _rclone(folder, _s3_config),
    **{
        f"{name}{' login' if login else ''}": lambda folder, stand=stand, keys=keys, login=login: _vendor(
            stand, keys, folder, login
        )
        for name, stand, keys, login in (
            ("gdrive", gdrive, gdrive.KEYS, False),
            ("gdrive", gdrive, gdrive.KEYS, True),
            ("onedrive", onedrive, onedrive.KEYS, False),
            ("onedrive", onedrive, onedrive.KEYS, True),
            ("dropbox", dropbox, dropbox.KEYS, False),
            ("dropbox", dropbox, dropbox.KEYS, True),
            ("box", box, box.DEVELOPER, False),
            ("box", box, box.REFRESH, True),
        )
    },
}


_SETTINGS = {
    "webdav": ["WEBDAV_URL"],
    "nextcloud": ["NC_WEBDAV_URL"],
    "supabase": ["SUPABASE_URL"],
    "s3": ["S3_ENDPOINT_URL"],
    "dynamodb": ["DYNAMO_ENDPOINT_URL"],
    "mongodb": ["MONGODB_ATLAS_URI"],
}
_SAY_NOTHING = ("s3", "firebase", "box", "box login")
"""What answers a deletion with nothing."""
CALLS: dict[str, Callable[[Target], object]] = {
    "put": lambda target: target.put("x", b"1"),
    "put once": lambda target: target.put("x", b"1", only_if_absent=True),
    "list": lambda target: list(target.list("")),
    "list below": lambda target: list(target.list("y/")),
    "delete": lambda target: target.delete("x"),
    "check": lambda target: target.check(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("no_aws_keys")
def test_what_is_no_answer_of_such_a_service_is_told_at_once(kind: str, tmp_path: Path, isolated: Path) -> None:
    """Nothing counts as absent or stored, and a sentence names the place and the fix."""
    with KINDS[kind](tmp_path) as (running, say), ExitStack() as stack:
        if not kind.endswith(" login"):
            target = stack.enter_context(opened(running, isolated))
        is_slow = kind in ("mongodb", "rclone to webdav")
        for body in NONSENSE[:1] if is_slow else NONSENSE:
            say(body)
            for name, call in list(CALLS.items())[: 3 if is_slow else None]:
                if name == "delete" and (kind.startswith("rclone") or (body == b"" and kind in _SAY_NOTHING)):
                    continue
                with pytest.raises(Nonsense) as told, ExitStack() as once:
                    call(once.enter_context(opened(running, isolated)) if kind.endswith(" login") else target)
                words = str(told.value)
                assert re.search(r" answers with something that is not .*; check that .*this network .*\.$", words)
                assert words.isprintable()
                assert all(setting in words for setting in _SETTINGS.get(kind, ()))
