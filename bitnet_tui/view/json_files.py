"""JSON files that are looked at again and again: a file is read again only if it has changed."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitnet_core.files.regular import read_bounded, version
from bitnet_core.files.repeated import refuse_repeats


@dataclass
class JsonFiles:
    """Reads files of up to `most_bytes`. For one thread."""

    most_bytes: int
    _known: dict[Path, tuple[tuple[int, ...], dict[str, Any]]] = field(default_factory=dict)

    def read(self, path: Path) -> dict[str, Any]:
        """The object in the file; empty if there is none that can be read."""
        try:
            now = version(path.stat())
            if self._known.get(path, ((),))[0] != now:
                found = json.loads(read_bounded(path, self.most_bytes), object_pairs_hook=refuse_repeats)
                self._known[path] = now, found if isinstance(found, dict) else {}
            return self._known[path][1]
        except (OSError, ValueError, RecursionError):
            return {}
