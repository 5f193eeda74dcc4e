"""When the app itself fails: a report without values of variables or keys, and one sentence for the user."""

import os
import time
import traceback

from bitnet_core.files.user_folders import state_folder
from bitnet_core.secrets.known import redactor


def report(error: BaseException) -> str:
    """Write the traceback into the user's state folder; return the sentence to show. Never raises."""
    what = f"bitnet-tui has a bug ({type(error).__name__}) and had to close; runs continue."
    try:
        path = state_folder() / f"crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = redactor()("".join(traceback.format_exception(error)))
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except Exception as failure:  # noqa: BLE001 - raised further, it would show the traceback with its values
        reason = getattr(failure, "strerror", None) or type(failure).__name__
        return f"{what} No report could be written ({reason})."
    return f"{what} Please report it with {path}, which holds no keys."
