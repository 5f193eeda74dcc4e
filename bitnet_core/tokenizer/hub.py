"""Download from the Hugging Face hub, into the hub's own cache. Knows no tokenizer and no model.

The hub's library makes names of files of what a server says. It stops `..` in a file's name, but not in the hashes:
a mirror (HF_ENDPOINT) could write anywhere with those, so they are looked at here.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import NoHome
from bitnet_core.proxy import through
from bitnet_core.text import crop, flat

_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HASH = re.compile(r'(?:W/)?"?[\w=+-][\w.=+-]{0,254}"?', re.ASCII)
_HEADERS = ("etag", "x-linked-etag", "x-repo-commit")
_ANSWERS_JSON = "/api/"
_SHOWN = 60


def is_hub_name(text: str) -> bool:
    """Whether `text` has the form of a repository's name on the hub; sends no request."""
    return _NAME.fullmatch(text) is not None


def download(name: str, patterns: Sequence[str], *, kind: str, fix: str, token: str | None = None) -> Path:
    """The folder with the repository's files that match `patterns`; what the cache has is not fetched again.

    `kind` ("model", "tokenizer") and `fix` ("correct TOKENIZER_NAME") go into the BitnetError of a failed download.
    Without a `token` the hub library looks for HF_TOKEN itself.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if constants.HF_HUB_CACHE.startswith("~"):
        raise NoHome("This user has no home folder, so there is no place for the hub's cache; set HF_HOME or HOME.")
    # Its bars redraw lines by escape sequences, which are shown as text on our streams and fill a run's log.
    disable_progress_bars()
    # Else it asks the hub which variables to look for, tells it what it has found, and the version of torch.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    huggingface_hub.set_client_factory(_client)
    try:
        return Path(huggingface_hub.snapshot_download(name, token=token, allow_patterns=list(patterns)))
    except BitnetError:
        raise
    except GatedRepoError as error:
        raise BitnetError(
            f"The {kind} {name} is gated on the hub: accept its terms there and set HF_TOKEN "
            "(`bitnet keys set HF_TOKEN`)."
        ) from error
    except RepositoryNotFoundError as error:
        raise BitnetError(
            f"The hub has no {kind} {name}, or it is private; {fix}, or set HF_TOKEN (`bitnet keys set HF_TOKEN`)."
        ) from error
    except Exception as error:
        # No network, a full disk, a bad proxy: the library raises errors of many families.
        where = f"the hub{through(constants.ENDPOINT)} ({type(error).__name__})"
        raise BitnetError(
            f"The {kind} {name} can't be downloaded from {where}; check the name and the network, or give a "
            "folder with its files."
        ) from error


def _client() -> Any:
    """The library's own HTTP client, which refuses a hash that is none."""
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    client.event_hooks["response"].append(_require_hashes)
    return client


def _require_hashes(response: Any) -> None:
    """BitnetError if a hash in a response of the hub, which becomes the name of a file, could lead elsewhere."""
    asks_for_hash = response.request.method == "HEAD"  # what a file's own server adds to its content is not used
    said = [response.headers.get(name) for name in _HEADERS] if asks_for_hash else []
    if response.url.path.startswith(_ANSWERS_JSON):
        with suppress(ValueError, RecursionError):
            answer = json.loads(response.read())
            said.append(answer.get("sha") if isinstance(answer, dict) else None)
    for one in said:
        if one is not None and not (isinstance(one, str) and _HASH.fullmatch(one)):
            shown = crop(flat(str(one)), _SHOWN)
            raise BitnetError(
                f"{response.url.host} gives {shown} as the hash of a file, and it is none; use another HF_ENDPOINT."
            )
