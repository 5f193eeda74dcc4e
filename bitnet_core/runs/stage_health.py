"""How a run of any stage is doing, in words. A training's line is made in `health.py`; the others' here."""

from collections.abc import Iterator

from bitnet_core.runs.catalog import PIPELINE, UPLOAD, stage
from bitnet_core.runs.finding import Finding, Level
from bitnet_core.runs.health import UNKNOWN_MACHINE, Machine, machine_findings, now_words, silence, train_health
from bitnet_core.runs.learning import finished, learnt_little, left_off
from bitnet_core.runs.record import ACTIVE, RunRecord
from bitnet_core.runs.vitals import Plan, Vitals
from bitnet_core.settings.presets import TRAINED
from bitnet_core.text import (
    count,
    dollars,
    finite,
    flat,
    number,
    percent,
    progress_words,
    rejection,
    share,
    significant,
    size,
)

REJECTED = 0.2
"""More rejected answers than this share are a reason to look at the teacher."""
JUDGED = 8
"""With fewer answers, that share tells nothing."""
OTHER = 0.2
"""With more of the teacher's probability outside its candidates, the student learns much less than it could."""
NEARLY_SPENT = 0.9
"""From this share of a limit on, collecting is about to end at it."""
_MOST_REASONS = 3
_MORE_CANDIDATES = "A larger TEACHER_TOP_LOGPROBS gives the student more of it."
_FOR_LARGER = frozenset({"JSON validity", "Q_s/Q_t", "QEI"})
"""The gates that ask for more quality than so small a student has."""
_UNMET = {"fail": "failed", "not measurable": "not measurable"}
_VERDICTS = ("pass", *_UNMET)


def health(
    name: str,
    state: str,
    vitals: Vitals,
    plan: Plan,
    machine: Machine = UNKNOWN_MACHINE,
    silent: float = 0.0,
    *,
    diverged: bool = False,
) -> tuple[Finding, ...]:
    """How a run of the stage `name` is doing, the worst first; empty where its state and its error say all.

    `silent` is for how many seconds an active run has reported nothing, and `diverged` as `has_diverged`.
    """
    if state not in ACTIVE and state != "succeeded":
        return left_off(vitals) if name == "train" and not diverged else ()
    if state not in ACTIVE:
        done = finished(vitals) if name == "train" else _collected(vitals) if name == "collect" else ()
        return (*done, *_judged(vitals, plan))
    if name == "train":
        found = list(train_health(vitals, plan, machine, silent))
        if little := tuple(learnt_little(vitals, plan)):  # then it is not called healthy
            return (*(one for one in found if one.level in ("bad", "warn")), *little)
        return tuple(found)
    found = [*silence(vitals, silent, resumes=stage(name).resumes), *machine_findings(vitals, machine)]
    if name == "collect":
        found += _collect_faults(vitals, plan)
    if name == UPLOAD.name:
        found += upload_faults(vitals)
    return (*found, _now(name, vitals, plan))


def unreadable(record: RunRecord, state: str, vitals: Vitals) -> tuple[Finding, ...]:
    """That nothing can be read of a training that has ended, and what its record has of it.

    One whose process is gone may have told nothing.
    """
    if record.stage != "train" or vitals.told or state in (*ACTIVE, "interrupted"):
        return ()
    loss, step = (finite(record.summary.get(name)) for name in ("heldout_loss", "steps"))
    at = "" if step is None else f" at step {number(step)}"
    found = "" if loss is None else f" By its record, held-out was {significant(loss)}{at} in the end."
    return (
        Finding("warn", f"This run's events can't be read.{found}", "Restore its events.jsonl, if there is a copy."),
    )


def _judged(vitals: Vitals, plan: Plan) -> Iterator[Finding]:
    """Whether the gates are met, and which are not."""
    if not vitals.gates:
        return
    of = {verdict: [flat(name) for name, found in vitals.gates if found == verdict] for verdict in _VERDICTS}
    words = f"{len(of['pass'])} of {len(vitals.gates)} gates met"
    words += "".join(f"; {label}: {', '.join(of[verdict])}" for verdict, label in _UNMET.items() if of[verdict])
    if plan.smallest and of["fail"] and _FOR_LARGER.issuperset(of["fail"]):
        why = f"A student of the smallest preset, {TRAINED[0]}, is not expected to meet these; a larger one may."
        yield Finding("calm", f"{words}.", why, code="gates")
    elif of["fail"]:
        yield Finding("warn", f"{words}.", code="gates")
    else:
        yield Finding("calm" if of["not measurable"] else "good", f"{words}.", code="gates")


def _now(name: str, vitals: Vitals, plan: Plan) -> Finding:
    """What the stage does now."""
    if name == "collect" and vitals.collected is not None and _is_asking(vitals):
        level: Level = "calm" if misses_much(vitals) or _rejects_much(vitals) else "good"
        return Finding(level, f"Collecting: {', '.join(_collecting(vitals, plan))}.")
    if name == UPLOAD.name:
        return Finding("calm", sending(vitals))
    if name == PIPELINE.name and vitals.progress is not None:
        at = vitals.progress
        done = progress_words(at.done, at.total, flat(at.unit) or "stages")
        return Finding("calm", f"{done} done; now: {flat(at.label)}.")
    found = now_words(vitals)
    return found if vitals.progress else Finding("calm", f"{stage(name).title} is starting.")


# -- collecting ------------------------------------------------------------------------------------------------------


def _collected(vitals: Vitals) -> Iterator[Finding]:
    """What came of it. A run that goes on with an earlier one tells of its own answers alone what they are."""
    own = vitals.answers
    every = max(own, (finite(vitals.collected.answers) if vitals.collected else None) or 0)
    if not every:
        return
    said = [f"{number(every)} answer{'' if every == 1 else 's'}"]
    if every == own:
        said += _coverage(vitals)
        said.append(_rejects(vitals) or "none rejected")
    else:
        said.append(f"{number(own)} of them from this run")
    words, outside = f"Done: {', '.join(said)}.", misses_much(vitals)
    if outside:
        words += f" {_outside(vitals)}"
    yield Finding("warn" if outside or _rejects_much(vitals) else "good", words, _MORE_CANDIDATES if outside else "")


def _coverage(vitals: Vitals) -> list[str]:
    return [f"coverage {percent(vitals.kept, vitals.tokens)} of tokens"] if vitals.tokens else []


def misses_much(vitals: Vitals) -> bool:
    """Whether much of the teacher's probability is outside its candidates. Coverage does not tell that."""
    return vitals.answers >= JUDGED and (vitals.other or 0) > OTHER


def _outside(vitals: Vitals) -> str:
    return f"On average {share(vitals.other)} of the teacher's probability is outside its candidates."


def _rejected(vitals: Vitals) -> int:
    return sum(vitals.rejected.values())


def _rejects_much(vitals: Vitals) -> bool:
    return vitals.answers >= JUDGED and _rejected(vitals) > REJECTED * vitals.answers


def _is_asking(vitals: Vitals) -> bool:
    return vitals.progress is None or vitals.progress.unit == "sequences"


def _collecting(vitals: Vitals, plan: Plan) -> Iterator[str]:
    """Answers, coverage, rejects, requests at once, what is spent and what is waited for."""
    progress, now = vitals.progress, vitals.collected
    if progress is not None:
        yield progress_words(progress.done, progress.total, "answers").replace("/", " of ")
    yield from _coverage(vitals)
    yield _rejects(vitals) or "none rejected"
    if now is None:
        return
    at_once, waits = finite(now.requests_at_once), now.waits_for
    if at_once:
        yield f"{number(at_once)} {'request' if at_once == 1 else 'requests'} at once"
    yield from spent_words(vitals, plan)
    if isinstance(waits, str) and waits:
        yield f"waiting: {flat(waits)}"


def _rejects(vitals: Vitals) -> str:
    """`3 rejected (2 no logprobs, 1 mass)`, `2 rejected (mass)`."""
    reasons = sorted(vitals.rejected.items(), key=lambda one: (-one[1], one[0]))
    if not reasons:
        return ""
    many = len(reasons) > 1
    named = [f"{f'{number(n)} ' if many else ''}{rejection(flat(why))}" for why, n in reasons[:_MOST_REASONS]]
    return f"{number(_rejected(vitals))} rejected ({', '.join(named)})"


def spent_words(vitals: Vitals, plan: Plan) -> Iterator[str]:
    """What is spent of each limit; money even without one."""
    now = vitals.collected
    if now is None:
        return
    usd, tokens, sent = (finite(value) for value in (now.spent_usd, now.spent_tokens, now.requests))
    limits = plan.limits
    if usd is not None:
        yield dollars(round(usd, 4)) + (f" of {dollars(limits.usd)}" if limits.usd is not None else "")
    if limits.tokens is not None and tokens is not None:
        yield f"{count(tokens)} of {count(limits.tokens)} tokens"
    if limits.requests is not None and sent is not None:
        yield f"{number(sent)} of {number(limits.requests)} requests"


def _collect_faults(vitals: Vitals, plan: Plan) -> Iterator[Finding]:
    if misses_much(vitals):
        yield Finding("warn", _outside(vitals), _MORE_CANDIDATES)
    if _rejects_much(vitals):
        yield Finding(
            "warn",
            f"{share(_rejected(vitals) / vitals.answers)} of the answers can't be used: {_rejects(vitals)}.",
            "If it goes on, stop and choose another teacher; the answers so far are kept.",
        )
    now, limits = vitals.collected, plan.limits
    if now is None:
        return
    for name, limit, spent in (
        ("KD_MAX_USD", limits.usd, finite(now.spent_usd)),
        ("KD_MAX_TOKENS_TOTAL", limits.tokens, finite(now.spent_tokens)),
        ("KD_MAX_REQUESTS", limits.requests, finite(now.requests)),
    ):
        if limit and spent is not None and spent >= NEARLY_SPENT * limit and _short(vitals):
            yield Finding(
                "warn",
                f"{name} is nearly used up ({percent(spent, limit)}); collecting ends there.",
                f"Raise {name} to collect all answers; those that it has are kept.",
            )


def _short(vitals: Vitals) -> bool:
    """Whether the rest of a limit may not be enough for all that is still to be asked."""
    progress = vitals.progress
    return progress is not None and bool(progress.total) and progress.done < NEARLY_SPENT * (progress.total or 0)


# -- the copy --------------------------------------------------------------------------------------------------------


def sending(vitals: Vitals) -> str:
    """What an upload sends now."""
    now = vitals.upload
    if now is None:
        return "Looking what is to be sent."
    name = flat(now.path)
    if now.state == "done":
        return f"Sent {name}, {size(now.bytes)}."
    return f"Sending {name}, {size(now.done)} of {size(now.bytes)}."


def upload_faults(vitals: Vitals) -> Iterator[Finding]:
    """Alerts about the copy, unless a file has arrived since."""
    arrived = vitals.upload.t if vitals.upload is not None else 0.0
    for code, (alert, _) in vitals.alerts.items():
        if code == "storage_behind" or (code.startswith("storage_") and alert.t > arrived):
            yield Finding("warn", alert.message, alert.advice, code)
