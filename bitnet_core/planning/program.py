"""What a training's process takes without its tensors: Python, torch and this program, measured once and kept."""

import platform
from contextlib import suppress
from importlib.metadata import version

from bitnet_core import __version__, files
from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import cache_folder
from bitnet_core.process import rss_bytes

FILE = "program_bytes.json"
_SIDE = 64
"""Of the layer that is trained for a step: its own tensors are less than a page of the figure."""


def program_bytes() -> int:
    """The resident bytes of a process that has imported what training imports and made one step of almost nothing.

    The first step loads the optimizer's code and the kernels' libraries: about 100 MB that an import leaves out.
    """
    if (kept := kept_program_bytes()) is not None:
        return kept
    import torch

    import bitnet_core.training.trainer  # noqa: F401 - what it imports is measured

    layer = torch.nn.Linear(_SIDE, _SIDE)
    optimizer = torch.optim.AdamW(layer.parameters())
    loss: torch.Tensor = layer(torch.ones(_SIDE, _SIDE)).logsumexp(-1).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    found = rss_bytes()
    with suppress(OSError, BitnetError):  # then it is measured again next time
        cache_folder().mkdir(parents=True, exist_ok=True)
        files.write_json(cache_folder() / FILE, {_key(): found})
    return found


def kept_program_bytes() -> int | None:
    """What was measured before; None if nothing was. It needs no torch."""
    kept = _kept().get(_key())
    return kept if type(kept) is int and kept > 0 else None


def _key() -> str:
    return f"{__version__} torch {version('torch')} python {platform.python_version()}"


def _kept() -> dict[str, object]:
    try:
        found = files.read_json(cache_folder() / FILE)
    except (BitnetError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
