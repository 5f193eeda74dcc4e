"""Reading as a user who may not read everything, which root always may."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def everybodys_folder() -> Iterator[Path]:
    """A folder that every user may enter, and what is made in it; those of pytest are closed to others."""
    before = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(dir="/tmp") as place:  # TMPDIR may be a closed one
            Path(place).chmod(0o755)
            yield Path(place)
    finally:
        os.umask(before)


def close(path: Path) -> None:
    """Nobody but root may read it from now on."""
    path.chmod(0)


def as_nobody(work: Callable[[], Any]) -> Any:
    """What `work` returns, as JSON, without root's rights; in a child process if we have them."""
    if os.geteuid() != 0:
        return json.loads(json.dumps(work()))
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            answer = json.dumps(work())
        except BaseException as error:  # noqa: BLE001 - told to the parent
            answer = json.dumps(repr(error))
        os.write(theirs, answer.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as source:
        answer = source.read()
    os.waitpid(child, 0)
    return json.loads(answer)
