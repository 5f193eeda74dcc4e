"""What several test files make: events, and the events that a run has left."""

from pathlib import Path
from typing import Any

import msgspec

from bitnet_core.runs.events import KINDS, Event, read_events, to_dict
from bitnet_core.runs.record import Run

_BY_KIND = {kind.__struct_config__.tag: kind for kind in KINDS}
_EMPTY: dict[Any, Any] = {str: "", int: 0, float: 0.0, list[str]: [], list[list[Any]]: []}


def event(kind: str, **fields: Any) -> Event:
    """An event of a kind; required fields that are left out are empty or 0. Not the record's first."""
    made = _BY_KIND[kind]
    missing = [one for one in msgspec.structs.fields(made) if one.required and one.name not in fields]
    empty = {one.name: _EMPTY.get(one.type) for one in missing}
    return made(**{"seq": 1, **empty, **fields})


def events_of(path: Path, kind: str = "") -> list[dict[str, Any]]:
    """The events in a run's record as JSON objects, of one kind or of all."""
    return [to_dict(one) for one in read_events(path) if kind in ("", one.kind)]


def followed(run: Run) -> list[dict[str, Any]]:
    """The events of a run from the first to its end, as JSON objects."""
    return [to_dict(one) for one in run.follow()]
