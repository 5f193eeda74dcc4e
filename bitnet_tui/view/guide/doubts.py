"""What lets an experiment be made, but will stop it later: keys that are nowhere, a test that failed."""

from collections.abc import Collection, Iterator, Mapping

from bitnet_core.settings import rates
from bitnet_core.settings.kinds import as_written
from bitnet_core.storage.catalog import KINDS
from bitnet_tui.labels import label, within
from bitnet_tui.services.starts import Start
from bitnet_tui.view.guide import teachers
from bitnet_tui.view.guide.draft import (
    LENGTH,
    LONGEST_ANSWER,
    START,
    Draft,
    Fault,
    default,
    length_for,
    settings,
    step_of,
    wrong,
)
from bitnet_tui.view.guide.keylike import begins_as_a_key, may_be_shown
from bitnet_tui.view.guide.teachers import Found

LAST_RATE = "SCHEDULER_ETA_MIN"
_ENDPOINT = "S3_ENDPOINT_URL"
_OF_A_NAME = ("_BUCKET", "_REGION", "_PREFIX")
"""The ends of settings that are names, and never addresses."""
_AWS = (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),)
_ENOUGH: Mapping[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("s3", "amplify", "dynamodb"), _AWS),
    "dropbox": (("DROPBOX_REFRESH_TOKEN",), ("DROPBOX_ACCESS_TOKEN",)),
    "box": (("BOX_REFRESH_TOKEN",), ("BOX_DEVELOPER_TOKEN",)),
    "supabase": (("SUPABASE_SERVICE_ROLE_KEY",), ("SUPABASE_ANON_KEY",)),
}
"""For each target, the sets of keys one of which it needs; where there is no row, its login or its first key."""


def doubts(
    draft: Draft, found: Collection[str] | None, failed: Mapping[str, str], *, kept: bool
) -> tuple[Fault, ...]:
    """What to say above Create, the most likely cause first.

    `found` are the keys that were typed or are kept, None while that is being asked; `failed` says of a step why its
    last test failed, or that one is running; `kept`: whether this draft was left and opened again, so that keys may
    have been typed before.
    """
    return tuple(_doubts(draft, found, failed, kept=kept))


def unset(draft: Draft, tested: Found) -> tuple[Fault, ...]:
    """What a test of the teacher asked to change, and has not been changed; its step has the button that does it."""
    again = teachers.answer(tested.report, draft) if tested.report is not None else tested
    return (Fault("teacher", "", within(again.offer), subject="the test says"),) if again.values else ()


def untested(why: Mapping[str, str]) -> tuple[Fault, ...]:
    """The steps that were tested with another choice than the one that counts, each with why that tells nothing."""
    return tuple(Fault(step, "", words, subject="not tested", stops=False) for step, words in why.items())


def of_start(known: Start) -> tuple[Fault, ...]:
    """That the student can't start from what is named."""
    return (Fault("student", START, known.words, default(START)),) if known.wrong else ()


def warned(draft: Draft) -> tuple[Fault, ...]:
    """What was said of the student and can still be mended: training runs so, but it is most likely a mistake."""
    found = list(misplaced(draft))
    if high := rate_too_high(draft):
        found.append(Fault("student", "LR", high, default("LR"), stops=False))
    if last := rate_to_end_at(draft):
        found.append(Fault("student", LAST_RATE, "not below the learning rate", last, stops=False))
    if longer := length_that_fits(draft):
        found.append(Fault("student", LENGTH, "cuts off longer answers", longer, stops=False))
    return tuple(found)


def _doubts(draft: Draft, found: Collection[str] | None, failed: Mapping[str, str], *, kept: bool) -> Iterator[Fault]:
    teacher = draft.teacher
    lacks = found is not None and not set(teacher.key_settings(own=True)) & set(found)
    if lacks and (teacher.needs_key or teacher.key_setting in draft.had_keys):
        why = "a draft keeps none; type it again" if kept else "none yet; type it"
        yield Fault("teacher", teacher.key_setting, why, subject="key")
    elif "teacher" in failed:
        yield _failed_test("teacher", failed["teacher"])
    missing = missing_keys(draft, found) if found is not None else ()
    if missing:
        why = "a draft keeps none; type them again" if kept else "none yet; type them"
        yield Fault("storage", missing[0], f"{why}, or go on without a copy", subject="keys")
    elif "storage" in failed:
        yield _failed_test("storage", failed["storage"])


def _failed_test(step: str, why: str) -> Fault:
    return Fault(step, "", why, subject="its test" if why == teachers.RUNNING else "the last test failed")


def misplaced(draft: Draft) -> Iterator[Fault]:
    """What is most likely meant for another field: an address in place of a name, and a key where all can read it."""
    for name, value in settings(draft).items():
        if "://" in value and name.endswith(_OF_A_NAME):
            place = f"; it belongs in “{label(_ENDPOINT)}”" if draft.backend == "s3" else ""
            yield Fault(step_of(name), name, f"this is an address{place}", stops=False)
        elif begins_as_a_key(value) or not may_be_shown(name, value):
            yield Fault(step_of(name), name, "this looks like a key; all who read the .env would see it", stops=False)


def rate_too_high(draft: Draft) -> str:
    """That training will probably diverge at this learning rate; empty if not."""
    rate = draft.get("LR")
    return "" if wrong("LR", rate) else rates.too_high(float(rate))


def rate_to_end_at(draft: Draft) -> str:
    """A last learning rate, a tenth of the first one, where the draft's does not fall; empty where it does."""
    peak, last = (draft.get(name) for name in ("LR", LAST_RATE))
    if wrong("LR", peak) or wrong(LAST_RATE, last) or float(peak) > float(last):
        return ""
    return as_written(float(f"{float(peak) / 10:.2g}"))


def length_that_fits(draft: Draft) -> str:
    """A sequence length with room for the longest answer and its prompt; empty where it fits or no length does."""
    length, answer = (draft.get(name) for name in (LENGTH, LONGEST_ANSWER))
    if wrong(LENGTH, length) or wrong(LONGEST_ANSWER, answer):
        return ""
    return length_for(answer) if int(length.replace("_", "")) <= int(answer.replace("_", "")) else ""


def missing_keys(draft: Draft, found: Collection[str]) -> tuple[str, ...]:
    """The keys that the target lacks; none if it can do with those that were found."""
    if not draft.backend:
        return ()
    kind = KINDS[draft.backend]
    usual = (kind.login or kind.keys[0],) if kind.keys else ()
    if kind.backend == "webdav" and not draft.get("WEBDAV_USERNAME"):  # some ask for no password
        usual = ()
    lacking = [tuple(name for name in one if name not in found) for one in _ENOUGH.get(kind.backend, (usual,))]
    return min(lacking, key=len)
