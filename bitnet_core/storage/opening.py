"""Open the target that the settings name. Its module, and the SDK that it needs, are imported only here."""

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator
from types import ModuleType

from bitnet_core.errors import UsageError
from bitnet_core.settings.resolved import Settings
from bitnet_core.storage.catalog import KINDS, Kind
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import Target
from bitnet_core.text import listed


@contextlib.contextmanager
def open_target(settings: Settings, keys: Keys) -> Iterator[Target]:
    """The target of STORAGE_BACKEND, until the context ends.

    UsageError names a setting, a key or a package that is missing; Refused and Unreachable are the target's.
    """
    kind, module = _module_of(settings)
    with module.opened(kind.options.of(settings), keys) as target:
        yield target


def create_place(settings: Settings, keys: Keys) -> None:
    """Create the bucket or folder that the settings name, unless it is there. Errors as of `open_target`."""
    kind, module = _module_of(settings)
    if not kind.creates:
        able = listed([one.title for one in KINDS.values() if one.creates])
        raise UsageError(f"Nothing can be created at {kind.title} from here, only at {able}; leave out --create.")
    module.create(kind.options.of(settings), keys)


def _module_of(settings: Settings) -> tuple[Kind, ModuleType]:
    kind = KINDS[str(settings.values["STORAGE_BACKEND"])]
    require_settings(kind, settings)
    require_package(kind)
    return kind, importlib.import_module(f"bitnet_core.storage.targets.{kind.module}")


def require_settings(kind: Kind, settings: Settings) -> None:
    """UsageError for the settings that the kind needs and that are not set."""
    missing = [name for name in kind.needs if not settings.values.get(name)]
    if missing:
        needed = f"STORAGE_BACKEND={kind.backend} needs {' and '.join(missing)}"
        raise UsageError(f"{needed}; set {'it' if len(missing) == 1 else 'them'} in .env, or choose another target.")


def require_package(kind: Kind) -> None:
    """UsageError with the line to type for an SDK that is not installed."""
    top = kind.package.partition(".")[0]
    if top and importlib.util.find_spec(top) is None:
        what = f"'bitnet-tui[{kind.extra}]'" if kind.extra else "bitnet-tui"
        raise UsageError(f"{kind.title} needs the package {top}, which is not installed; run `pip install {what}`.")
