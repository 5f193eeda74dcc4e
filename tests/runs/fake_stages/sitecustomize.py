"""On a child's PYTHONPATH, replaces the stages by small ones whose end a test can choose.

Launching, the worker, signals, locks and files are real; only the work of the stage is not.
FAKE_<STAGE> says what happens: done, wait, fail, bug, full, too large (a file of 1 MiB), memory (it takes all there
is), deaf, leak (a key in many ways), abort, lose (what it made is removed under it, and it does not notice), and
until PATH (it is done when that is there).
`die on import N` and `exit on import N WORDS` happen before the worker can take over.
"""

import errno
import json
import logging
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.runs import catalog
from bitnet_core.runs.context import StageContext


def run(ctx: StageContext) -> dict[str, Any]:
    what = os.environ.get(f"FAKE_{ctx.stage.upper()}", "done")
    place, pattern = catalog.stage(ctx.stage).outputs[0]
    made = getattr(ctx.experiment, place) / pattern.replace("*", "000")
    made.write_text(json.dumps({"made by": ctx.run_id}))
    ctx.artifact(made, "fake")
    if ctx.stage == "eval":
        ctx.table("qei", ["quantity", "value"], [["QEI", 1.5]])
    while what in ("wait", "deaf") or (what.startswith("until ") and not Path(what[6:]).exists()):
        ctx.progress(1, 2, "steps")
        if what == "wait":
            ctx.check_stop()
        time.sleep(0.02)
    if what == "lose":
        shutil.rmtree(made.parent)
        made.parent.mkdir()
    if what == "fail":
        raise BitnetError("The moon is in the wrong phase; wait a week.")
    if what == "full":
        raise OSError(errno.ENOSPC, "No space left on device", str(made))
    if what == "too large":
        (made.parent / "large").write_bytes(bytes(1 << 20))
    if what == "memory":
        _take_all_memory()
    key = ctx.secret("OPENAI_API_KEY") or ""
    if what in ("leak", "abort"):
        sys.stdout.write(f"debug: key={key}\n")
        os.write(2, f"from C: {key}\n".encode())
        os.write(2, b"an unknown token: sk-proj-0123456789abcdefABCD\n")
        logging.getLogger("httpx").warning("Authorization: Bearer %s", key)
        ctx.log(f"key={key}")
        ctx.table(key, ["key"], [[key]])
        ctx.alert("warning", "leak", f"https://user:{key}@host/", key)
        ctx.report("leak.json", {key: [key, {"deep": f"url?api_key={key}"}]})
        thread = threading.Thread(target=lambda: int(f"thread {key}"))
        thread.start()
        thread.join()
    if what == "abort":
        os.abort()
    if what in ("bug", "leak"):
        secret_local = ctx.secret("OPENAI_API_KEY")
        raise ValueError(f"unexpected reply for {secret_local}")
    return {"answer": 42}


def _take_all_memory() -> None:
    """MemoryError with all that a limit leaves still held by this frame."""
    import psutil

    own = psutil.Process().memory_info().vms + (100 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (own, own))
    held: list[bytearray] = []
    for size in (1 << 20, 1 << 12, 1 << 6):
        try:
            held += (bytearray(size) for _ in range(1 << 16))
        except MemoryError:
            continue
    raise MemoryError


def _install() -> None:
    for name in ("teacher", "collect", "train", "evaluate", "dryrun"):
        sys.modules[f"bitnet_core.stages.{name}"] = sys.modules[__name__]


def _end_on_import(what: str) -> None:
    how, *rest = what.partition(" on import ")[::2]
    number, _, words = rest[0].partition(" ")
    if how == "die":
        os.kill(os.getpid(), int(number))
    if how == "exit":
        os.write(2, words.encode())
        os._exit(int(number))


if os.environ.get("FAKE_STAGES") == "1":
    _end_on_import(os.environ.get("FAKE_TRAIN", ""))
    _install()
