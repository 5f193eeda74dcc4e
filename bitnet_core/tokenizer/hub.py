"""Download from the Hugging Face hub, into the hub's own cache. Knows no tokenizer and no model."""

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bitnet_core.errors import BitnetError, explained, is_about_the_machine
from bitnet_core.files.user_folders import NoHome
from bitnet_core.network.proxy import through
from bitnet_core.tokenizer.hub_answers import Answers

_NONSENSE = (json.JSONDecodeError, RecursionError, TypeError, AssertionError, AttributeError, KeyError)
"""What the library raises over an answer of another kind of server."""


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
    cache = Path(constants.HF_HUB_CACHE)
    huggingface_hub.set_client_factory(Answers(cache).client)
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
        if isinstance(error, OSError) and (is_about_the_machine(error) or isinstance(error, PermissionError)):
            why = explained(error, "set HF_HOME to a folder of your own")
            raise BitnetError(f"The {kind} {name} can't be kept in {cache} {why}.") from error
        if isinstance(error, _NONSENSE):
            way, host = through(constants.ENDPOINT), urlsplit(constants.ENDPOINT).hostname
            raise BitnetError(
                f"The {kind} {name} can't be downloaded{way}: {host} answers with something that is not the hub's; "
                "check that HF_ENDPOINT is right and that this network asks for no login, or give a folder with its "
                "files."
            ) from error
        # No network, a bad proxy: the library raises errors of many families.
        where = f"the hub{through(constants.ENDPOINT)} ({type(error).__name__})"
        raise BitnetError(
            f"The {kind} {name} can't be downloaded from {where}; check the name and the network, or give a "
            "folder with its files."
        ) from error
