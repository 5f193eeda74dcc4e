"""What goes along from one own server's card to another: settings, and a key with the address that it is for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bitnet_core.teachers.profiles import PROVIDERS, Provider
from bitnet_tui.view.guide.draft import Draft, asks_address


@dataclass(frozen=True)
class Carried:
    """What a card got from another one: settings with their values, and a key, if there was one, with its address."""

    values: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    address: str = ""


def carried(
    draft: Draft, keys: Mapping[str, str], name: str, before: Mapping[str, Carried]
) -> tuple[dict[str, str], dict[str, str], Carried]:
    """What changes when a card is chosen: settings, typed keys (empty = forgotten), and what the new card got.

    Only an own server gives to another one, a hosted provider never: a key must not reach another party. A card that
    has something of its own keeps it. A card that was only passed, with what it got and nothing else, is empty again.
    `before` has what each card got.
    """
    ours, theirs = draft.teacher, PROVIDERS[name]
    got = before.get(name, Carried())
    if not (asks_address(ours) and asks_address(theirs)):
        return {}, {}, got
    here, there = _card(draft, ours), _card(draft, theirs)
    typed, address = keys.get(ours.key_setting, ""), here.get(ours.base_url_setting, "")
    values, forgotten = _only_passed(draft, keys, before)
    if strayed(draft, keys, before):
        typed, forgotten = "", {ours.key_setting: ""}
    if keys.get(theirs.key_setting):
        return values, forgotten, got
    moved = {ours.base_url_setting: theirs.base_url_setting, ours.model_setting: theirs.model_setting}
    given = {} if there else {moved[one]: value for one, value in here.items()}
    its_address = {**there, **given}.get(theirs.base_url_setting, "")
    key = typed if address and _server(its_address) == _server(address) else ""
    gets = {theirs.key_setting: key} if key else {}
    return {**values, **given}, {**forgotten, **gets}, Carried(given, key, address)


def strayed(draft: Draft, keys: Mapping[str, str], before: Mapping[str, Carried]) -> bool:
    """Whether the key of the chosen card came with the address of another server than the card has now."""
    ours = draft.teacher
    got = before.get(ours.name, Carried())
    has_it = got.key != "" and keys.get(ours.key_setting) == got.key
    return has_it and _server(draft.values.get(ours.base_url_setting, "")) != _server(got.address)


def _only_passed(
    draft: Draft, keys: Mapping[str, str], before: Mapping[str, Carried]
) -> tuple[dict[str, str], dict[str, str]]:
    """The settings and the key of the chosen card, each empty, if it has nothing but what it got."""
    ours, typed = draft.teacher, keys.get(draft.teacher.key_setting, "")
    here, got = _card(draft, ours), before.get(ours.name, Carried())
    if not here or (here, typed) != (got.values, got.key):
        return {}, {}
    return dict.fromkeys(here, ""), {ours.key_setting: ""} if typed else {}


def _card(draft: Draft, provider: Provider) -> dict[str, str]:
    names = (provider.base_url_setting, provider.model_setting)
    return {name: draft.values[name] for name in names if name in draft.values}


def _server(address: str) -> str:
    """Host and port; empty for none."""
    try:
        return urlsplit(address if "://" in address else f"//{address}").netloc.lower()
    except ValueError:
        return address
