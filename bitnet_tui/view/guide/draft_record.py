"""The draft as it is kept in a file: a record without secrets, which may come back torn or from another version."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.text import is_utf8
from bitnet_tui.view.guide.draft import BACKEND, LONGEST_NAME, STEPS, Draft, default, fitted_last
from bitnet_tui.view.guide.keylike import may_be_shown, may_hold_a_key

_MOST_VALUES, _LONGEST_VALUE = 500, 30_000


def to_record(draft: Draft, typed: Mapping[str, str] = MappingProxyType({})) -> dict[str, object]:
    """The draft as JSON. Left out is what JSON can't hold, and what has one of the `typed` keys or may have another.

    Of the keys it holds only the names of their settings.
    """

    def may_be_kept(text: str) -> bool:
        return is_utf8(text) and not any(key in text for key in typed.values() if key)

    values = {
        name: value
        for name, value in draft.values.items()
        if name not in SECRET_NAMES and may_be_kept(value) and may_be_shown(name, value)
    }
    name, source = (text if may_be_kept(text) else "" for text in (draft.name, draft.source))
    name = "" if may_hold_a_key(name) else name
    return {
        "version": 1,
        "name": name,
        "step": draft.step,
        "source": source,
        "traces": draft.traces,
        "start": draft.start,
        "had_keys": sorted(draft.had_keys | {name for name, key in typed.items() if key}),
        "values": values,
    }


def from_record(record: object) -> Draft | None:
    """The draft of a record; None for what is none. Names that are not settings, or secrets, are left out."""
    if not isinstance(record, dict) or not isinstance(record.get("values"), dict):
        return None
    values = {
        name: value
        for name, value in list(record["values"].items())[:_MOST_VALUES]
        if name in REGISTRY and name not in SECRET_NAMES and isinstance(value, str) and len(value) < _LONGEST_VALUE
    }
    values = {name: value for name, value in values.items() if may_be_shown(name, value)}
    draft = Draft(source=source) if isinstance(source := record.get("source"), str) else Draft()
    for name, value in fitted_last(values):
        if (not REGISTRY[name].choices and name != BACKEND) or value in (*REGISTRY[name].choices, default(name)):
            draft = draft.having(name, value)
    texts = {key: record[key] for key in ("name", "source", "start") if isinstance(record.get(key), str)}
    step, traces, had = record.get("step"), record.get("traces"), record.get("had_keys")
    kept = {key: text[:LONGEST_NAME] for key, text in texts.items()}
    return replace(
        draft,
        step=step if isinstance(step, str) and step in STEPS else "machine",
        traces=traces if isinstance(traces, bool) else None,
        had_keys=SECRET_NAMES & {one for one in had if isinstance(one, str)}
        if isinstance(had, list)
        else frozenset(),
        **kept,
    )
