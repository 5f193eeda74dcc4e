"""What other experiments of the workspace use already, so that a new one can be given the same in one choice."""

from collections.abc import Iterable

from bitnet_core.text import listed
from bitnet_tui.view.guide import storing
from bitnet_tui.view.guide.addresses import is_address
from bitnet_tui.view.guide.draft import BACKEND, EMBEDDED, TEACHER, Draft, asks_address
from bitnet_tui.view.guide.teachers import short_name

_PLACES = ("STORAGE_LOCAL_DIR", "S3_BUCKET", "SUPABASE_BUCKET")
"""What names the place at a target best, where it has one."""


def target(draft: Draft, others: Iterable[Draft]) -> Draft | None:
    """The first of the others whose target the draft may want: it has none, or one of that kind, but empty.

    None whose settings would replace what was typed.
    """
    own = draft.backend
    if own and any(name in draft.values for name in storing.fields(own)):
        return None
    whole = (one for one in others if one.backend and own in ("", one.backend) and storing.is_whole(one))
    return next((one for one in whole if _loses_nothing(draft, with_target(draft, one))), None)


def target_words(one: Draft) -> str:
    """The target of another experiment in a sentence: its place, and its own server, which the keys go to."""
    names = storing.fields(one.backend)
    places = [one.values[name] for name in _PLACES if name in names and name in one.values][:1]
    servers = [one.values[name] for name in names if is_address(name) and name in one.values]
    where = " at ".join((*places, *([listed(servers)] if servers else ())))
    kind = storing.title_of(one.backend)
    return f"{one.source} has its copy in {f'{where} ({kind})' if where else kind}."


def with_target(draft: Draft, one: Draft) -> Draft:
    """The draft with the target of another experiment."""
    return _with(draft, one, (BACKEND, *storing.fields(one.backend)))


def teacher(draft: Draft, others: Iterable[Draft]) -> Draft | None:
    """The first of the others with an own server that the draft may want: it has chosen none, or one without a model.

    None whose settings would replace what was typed.
    """
    own = draft.teacher
    if own.name != EMBEDDED and (draft.model or not asks_address(own)):
        return None
    servers = (one for one in others if asks_address(one.teacher) and one.model)
    wanted = (one for one in servers if own.name in (EMBEDDED, one.teacher.name))
    return next((one for one in wanted if _loses_nothing(draft, with_teacher(draft, one))), None)


def teacher_words(one: Draft) -> str:
    """The teacher of another experiment in a sentence."""
    address = one.address or one.teacher.base_url
    return f"{one.source} uses {one.model} at {address} ({short_name(one.teacher)})."


def with_teacher(draft: Draft, one: Draft) -> Draft:
    """The draft with the teacher of another experiment."""
    provider = one.teacher
    return _with(draft, one, (TEACHER, provider.base_url_setting, provider.model_setting))


def _loses_nothing(draft: Draft, with_other: Draft) -> bool:
    """Whether all that was chosen or typed stays as it is."""
    return draft.values.items() <= with_other.values.items()


def _with(draft: Draft, one: Draft, names: Iterable[str]) -> Draft:
    for name in names:
        draft = draft.having(name, one.values.get(name, ""))
    return draft
