"""Nextcloud: no registry has it, so its answers in front of rclone's WebDAV server."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.storage.fakes.nextcloud import Nextcloud
from tests.storage.fakes.server import serving
from tests.storage.stand import Running, Stand, below_a_file, free_port, overwriting
from tests.storage.stands.webdav import PASSWORD, USER, no_rclone, rclone_server

HOME = f"/remote.php/dav/files/{USER}"


def running(port: int) -> Running:
    """The settings of a user of a Nextcloud on this port, who gives only its host."""

    def through(other: int) -> dict[str, str]:
        return {"NC_WEBDAV_URL": f"http://127.0.0.1:{other}"}

    return Running(
        {"STORAGE_BACKEND": "nextcloud", "NC_USERNAME": USER, "NC_ROOT_PATH": "/runs"} | through(port),
        {"NC_APP_PASSWORD": PASSWORD},
        {"NC_APP_PASSWORD": "guessed-wrong-1"},
        through(free_port()),
        port,
        through,
    )


@contextlib.contextmanager
def _fake(folder: Path) -> Iterator[Running]:
    with rclone_server(folder, HOME) as behind, serving(Nextcloud(behind, HOME).answer) as port:
        files = folder / "files"
        nowhere = {"NC_ROOT_PATH": f"/{below_a_file(files).relative_to(files)}"}
        yield replace(running(port), nowhere=nowhere, overwrite=overwriting(files))


STANDS = [Stand("nextcloud-fake", _fake, no_rclone)]
