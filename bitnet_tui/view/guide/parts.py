"""Which settings the labels of a note are: those of the teacher's form, of a target's, or of both."""

from collections.abc import Iterator, Mapping, Sequence

from bitnet_core.storage.catalog import KINDS
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.labels import label
from bitnet_tui.view.guide.draft import TEACHER, Draft, asks_address
from bitnet_tui.view.guide.vocabulary import TEACHERS, Told, forms, is_of, of_teacher, plain

_Form = tuple[str, Mapping[str, str]]
"""A target, empty for the teacher, and the words of its form with their settings."""
_Labels = Sequence[tuple[int, Told]]
"""The place of each line, and what its label says."""
_Part = tuple[str, dict[str, int]]
"""A target, empty for the teacher, and the places of its settings."""
_ENOUGH_FOR_A_TARGET = 2
"""How many of its settings choose a target in a step that is about something else."""
_MOST_IN_TWO = 40
"""A note of teacher and target has no more lines."""


def parts(labels: _Labels, draft: Draft, *, of_storage: bool) -> Iterator[_Part]:
    """The part of each form that the note is of."""
    all_forms = list(forms(draft, of_storage=of_storage))
    chosen = of_storage or draft.step == "storage" or any(one.owner in KINDS for _, one in labels)
    least = 1 if chosen else _ENOUGH_FOR_A_TARGET
    best = max(all_forms, key=lambda one: _likely(one, labels, draft, least))
    two = [] if of_storage or len(labels) > _MOST_IN_TWO else list(_in_two(labels, all_forms, draft))
    backend, part = best[0], _filled(best, labels)
    if two and _settings_in(most := max(two, key=_settings_in)) > len(part):
        yield from most
    elif not backend or len(part) >= least:
        yield backend, part


def models_in(labels: _Labels, taken: frozenset[int]) -> dict[str, int]:
    """The teacher and its model among lines that no form took: no target has such a label."""
    return {
        name: place
        for place, one in labels
        if (name := TEACHERS.get(one.word, "")) in (TEACHER, "TEACHER_MODEL") and place not in taken
    }


def provider_of(labels: _Labels, part: Mapping[str, int]) -> str:
    """The provider that the labels of the teacher's part name, if it can have this address; empty for none."""
    named = {one.owner for place, one in labels if place in part.values()} & PROVIDERS.keys()
    if len(named) != 1 or TEACHER in part:
        return ""
    (name,) = named
    return name if asks_address(PROVIDERS[name]) or "TEACHER_BASE_URL" not in part else ""


def _settings_in(some: Sequence[_Part]) -> int:
    return sum(len(part) for _, part in some)


def _in_two(labels: _Labels, all_forms: Sequence[_Form], draft: Draft) -> Iterator[list[_Part]]:
    """The note as the teacher's part and that of a target, which lacks nothing or is the chosen one.

    A label that names its owner is in the part of that wherever it stands.
    """
    teacher = next(one for one in all_forms if not one[0])
    named = any(one.owner for _, one in labels)
    for cut in range(len(labels) + 1) if named else range(2, len(labels) - 1):
        for first in (True, False):
            own = [one for place, one in enumerate(labels) if _is_teachers(one[1], (place < cut) == first)]
            other = [one for one in labels if one not in own]
            of_own = _filled(teacher, own)
            if not of_own.keys() & {"TEACHER_MODEL", "TEACHER_BASE_URL"} and not _names_owner(own):
                continue
            for form in all_forms:
                part = _filled(form, other) if form[0] else {}
                if part and (_names_owner(other) or _is_enough(form[0], part, draft)):
                    yield [("", of_own), (form[0], part)]


def _is_teachers(one: Told, otherwise: bool) -> bool:
    return of_teacher(one.owner) if one.owner else otherwise


def _names_owner(labels: _Labels) -> bool:
    return any(one.owner for _, one in labels)


def _is_enough(backend: str, part: Mapping[str, int], draft: Draft) -> bool:
    whole = backend == draft.backend or part.keys() >= set(KINDS[backend].needs)
    return whole and len(part) >= _ENOUGH_FOR_A_TARGET


def _filled(form: _Form, labels: _Labels) -> dict[str, int]:
    """The places of the settings that labels fill. The form's own label goes before another word for a setting."""
    backend, names = form
    own = [(place, one.word) for place, one in labels if one.word in names and is_of(one.owner, backend)]
    return {names[word]: place for place, word in sorted(own, key=lambda one: _is_label(names, one[1]))}


def _is_label(names: Mapping[str, str], word: str) -> bool:
    return word in names and plain(label(names[word])) == word


def _likely(form: _Form, labels: _Labels, draft: Draft, least: int) -> tuple[int, int]:
    """How well a form fits: by the settings that it fills, then by its labels.

    The chosen target counts as one setting more, if it fills at least that many.
    """
    backend, names = form
    filled = len(_filled(form, labels))
    chosen = filled >= least and backend != "" and backend == draft.backend
    return filled + chosen, sum(_is_label(names, word) for word in {one.word for _, one in labels})
