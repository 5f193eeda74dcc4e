"""A running `bitnet-tui --web`, and requests to it."""

import contextlib
import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def serving(home: Path, errors: Path, *before: str) -> Iterator[str]:
    """The address; the server's stderr goes to `errors`. `before` is a command that starts another one."""
    command = [*before, sys.executable, "-m", "bitnet_tui", "--web", "--home", str(home)]
    with errors.open("w") as stderr:
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
    assert server.stdout is not None
    first = server.stdout.readline()
    try:
        yield first.removeprefix("Open ").strip()
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def get(address: str, path: str, **headers: str) -> tuple[int, Any, str]:
    host = address.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, answer.headers, text
