"""When the app itself fails: a report without values of variables or keys, and one sentence for the user."""

import os
import time
import traceback

from bitnet_core import files
from bitnet_core.errors import FREE_MEMORY, explained, is_about_the_machine, lacks_memory, lacks_package
from bitnet_core.files.user_folders import state_folder
from bitnet_core.secrets.known import redactor


def report(error: BaseException) -> str:
    """Write the traceback into the user's state folder; return the sentence to show. Never raises.

    Where memory, the disk or another limit of the machine failed, the sentence says that instead.
    """
    cause = getattr(error, "error", error)  # a worker of Textual wraps what it failed for
    if lacks_memory(cause):
        return f"Memory ran out, and bitnet-tui had to close; runs continue. To open it again, {FREE_MEMORY}."
    if lacking := lacks_package(cause):
        return f"{lacking} bitnet-tui had to close; runs continue."
    if isinstance(cause, OSError) and is_about_the_machine(cause):
        why = explained(cause, "check it")
        return f"{cause.filename or 'A file'} can't be used {why}; bitnet-tui had to close, and runs continue."
    what = f"bitnet-tui has a bug ({type(error).__name__}) and had to close; runs continue."
    try:
        path = state_folder() / f"crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = redactor()("".join(traceback.format_exception(error)))
        files.write_bytes(path, text.encode(errors="backslashreplace"), 0o600)
    except Exception as failure:  # noqa: BLE001 - raised further, it would show the traceback with its values
        reason = getattr(failure, "strerror", None) or type(failure).__name__
        return f"{what} No report could be written ({reason})."
    return f"{what} Please report it with {path}, which holds no keys."
