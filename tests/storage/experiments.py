"""Experiments to store, and what is stored of them."""

import random
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.resolve import from_values
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.layout import part_bytes
from bitnet_core.storage.manifest import Published
from bitnet_core.storage.newest import newest_state
from bitnet_core.storage.target import TEMPORARY, NoSuchObject, Target

MIB = 1 << 20
CHECKPOINT = "checkpoints/mini_bitnet_step_00000010.pt"
_OBJECT = re.compile(r"(.+?)(?:\.revisions/\d{6}-[0-9a-f]+)?(?:\.parts/(index\.json|\d{5}))?")


def machine(folder: Path, **values: str) -> Experiment:
    """An experiment with these settings, as if its `.env` had them; all its checkpoints are stored."""
    settings = from_values({"DRIVE_ROOT": str(folder), "STORAGE_CHECKPOINTS": "all", **values})
    experiment = Experiment.from_settings(replace(settings, origins=dict.fromkeys(settings.origins, ".env line 1")))
    experiment.ensure()
    return experiment


def write(experiment: Experiment, name: str, data: bytes) -> Path:
    path = experiment.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def fill(experiment: Experiment, sizes: Mapping[str, int], seed: int = 0) -> dict[str, bytes]:
    """Write files of these names and sizes; each seed gives other content."""
    found = {name: content(size, seed * 1000 + number) for number, (name, size) in enumerate(sizes.items())}
    for name, data in found.items():
        write(experiment, name, data)
    return found


def complete_state(target: Target) -> Published:
    """The newest state, of which nothing may be missing."""
    found = newest_state(target)
    if found.lacking:
        raise BitnetError(f"{target.place} is not complete: {', '.join(sorted(found.lacking))} is missing.")
    return found.published


def restored(place: Target, published: Published) -> dict[str, bytes]:
    """Every file of a state, put together from its objects as `cat` would."""
    found = {}
    for one in published.manifest.files:
        keys = [key for key, size in one.objects() if size is not None]
        found[one.name] = b"".join(place.get(key) for key in keys)
    return found


class Watcher:
    """Looks at a place all the time, in a thread: nothing there may be half, at any moment.

    `contents` has for each file every content that it has had.
    """

    def __init__(self, place: Target, contents: Mapping[str, list[bytes]]) -> None:
        self.faults: list[str] = []
        self.looks = 0
        self._place = place
        self._contents = contents
        self._whole: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.look()
        assert not self.faults, self.faults[:5]

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.look()

    def look(self) -> None:
        try:
            states = [manifests.read(self._place, key) for key in manifests.keys(self._place)]
            listed = {one.key: one.size for one in self._place.list("")}
            for state in states:
                for key, size in state.manifest.objects().items():
                    if key not in listed or size not in (None, listed[key]):
                        self.faults.append(f"{state.key} names {key}, which is not there")
            for key in listed:
                if not key.startswith((TEMPORARY, manifests.FOLDER)):
                    self._look_at(key, listed[key])
        except NoSuchObject:  # removed since it was listed, as is allowed
            pass
        except BitnetError as error:
            self.faults.append(str(error))
        self.looks += 1

    def _look_at(self, key: str, size: int) -> None:
        found = _OBJECT.fullmatch(key)
        assert found is not None
        name, part = found.groups()
        if part == "index.json" or name not in self._contents:
            return
        possible = [_part(data, part, self._place) for data in self._contents[name]]
        if size not in {len(data) for data in possible}:
            self.faults.append(f"{key} has {size} bytes")
        elif key not in self._whole:
            if self._place.get(key) not in possible:
                self.faults.append(f"{key} has other content")
            self._whole.add(key)


def _part(data: bytes, part: str | None, place: Target) -> bytes:
    if part is None:
        return data
    size = part_bytes(len(data), place.limits)
    return data[int(part) * size : (int(part) + 1) * size]
