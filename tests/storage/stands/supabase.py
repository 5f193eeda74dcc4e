"""Supabase Storage: no registry has the server, so a fake after its source."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.storage.fakes.server import serving
from tests.storage.fakes.supabase import Supabase
from tests.storage.stand import Running, Stand, free_port

KEY = "eyJhbGciOiJIUzI1NiJ9.service.hush"


def running(port: int) -> Running:
    """The settings of a user of a fake on this port."""

    def through(other: int) -> dict[str, str]:
        return {"SUPABASE_URL": f"http://127.0.0.1:{other}/"}

    return Running(
        {"STORAGE_BACKEND": "supabase", "SUPABASE_BUCKET": "runs of mine", "SUPABASE_PREFIX": "art/"} | through(port),
        {"SUPABASE_SERVICE_ROLE_KEY": KEY, "SUPABASE_ANON_KEY": "anon"},
        {"SUPABASE_ANON_KEY": "eyJ.wrong.key"},
        through(free_port()),
        port,
        through,
        page=100,
    )


@contextlib.contextmanager
def _fake(_: Path) -> Iterator[Running]:
    with serving(Supabase("runs of mine", KEY).answer) as port:
        yield running(port)


STANDS = [Stand("supabase-fake", _fake)]
