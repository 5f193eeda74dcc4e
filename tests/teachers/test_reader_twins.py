"""The reader against a slow twin that takes one candidate at a time, and its two conversions against each other."""

import itertools
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.teachers.answers.repair import repaired
from bitnet_core.teachers.answers.reported import Reported, ReportedToken, compared, lenient_token
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from tests.teachers.server import chat_body, read_payload, steps_of

_NAMES = st.sampled_from(["a", " the", "é", "東", "\ufffd", "", "Ġx", "<|end|>", "▁b"])
_ENTRY = st.fixed_dictionaries(
    {"token": _NAMES, "logprob": st.one_of(st.floats(-9, 0), st.none(), st.just(-9999.0), st.just(-1.0))},
    optional={
        "id": st.one_of(st.integers(-1, 3), st.none()),
        "bytes": st.one_of(st.none(), st.binary(max_size=4).map(list), st.just([65]), st.just([239, 191, 189])),
    },
)


def _step(sampled: dict[str, Any], tops: list[dict[str, Any]], *, agreeing: bool) -> dict[str, Any]:
    """A step; most servers give the sampled token the same logprob among the candidates."""
    for top in tops if agreeing else ():
        if top["token"] == sampled["token"]:
            top["logprob"] = sampled["logprob"]
    return {**sampled, "top_logprobs": tops}


_CONTENT = st.lists(
    st.builds(_step, _ENTRY, st.lists(_ENTRY, max_size=4), agreeing=st.sampled_from([True, True, True, False])),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300)
@given(_CONTENT, st.sampled_from(["stop", "length"]))
def test_columns_equal_the_slow_twin(content: list[dict[str, Any]], finish: str) -> None:
    text = b"".join(token(one)[1] for one in content).decode(errors="replace")
    expected = slow_steps(content, text, finish)
    sampled = [lenient(one) for one in content]
    reported = Reported(sampled, [[lenient(top) for top in one["top_logprobs"]] for one in content])
    table = TokenTable()
    for _ in range(2):  # the second time, every token was seen before
        try:
            steps = repaired(compared(reported, table)[0], text, finish).steps
            assert steps is not None
            found: Any = [sorted_step(steps.step(row)) for row in range(len(steps))]
        except BadReply as error:
            found = error.reason
        assert found == (expected if isinstance(expected, str) else [sorted_step(one) for one in expected])


@settings(max_examples=300)
@given(_CONTENT, st.sampled_from(["a", " the", "é東", "AA", "", None]), st.sampled_from(["stop", "length", "eos"]))
def test_the_typed_and_the_lenient_conversion_give_the_same_answer(
    content: list[dict[str, Any]], text: str | None, finish: str
) -> None:
    if text is None:
        text = b"".join(token(one)[1] for one in content).decode(errors="replace")
    body = chat_body(text, content, finish_reason=finish)
    typed, lenient_table = TokenTable(), TokenTable()
    for _ in range(2):  # the second time, every token was seen before
        # NaN does not fit the typed decoder.
        assert outcome(body, typed) == outcome({**body, "unknown": math.nan}, lenient_table)


def outcome(body: Any, table: TokenTable) -> object:
    try:
        result = read_payload(body, table)
    except BadReply as error:
        return error.reason
    steps = [sorted_step(step) for step in steps_of(result)]
    return result.text, result.text_matches_bytes, result.repairs, result.finish_reason, steps


def lenient(one: dict[str, Any]) -> ReportedToken:
    return lenient_token(one["logprob"], one.get("id"), one["token"], one.get("bytes"))


def token(one: dict[str, Any]) -> tuple[int, bytes, float]:
    """One entry, read on its own."""
    index, data, value = one.get("id"), one.get("bytes"), one["logprob"]
    return (
        -1 if index is None else index,
        one["token"].encode() if data is None or (not data and one["token"]) else bytes(data),
        math.nan if value is None else float(value),
    )


def slow_steps(content: list[dict[str, Any]], text: str, finish: str) -> list[TeacherStep] | str:
    """All steps, or the reason why they can't be used: the rules as written, one candidate at a time."""

    def lost(index: int, data: bytes) -> bool:
        return b"\xef\xbf\xbd" in data or (not data and index < 0)

    def identified(one: dict[str, Any]) -> tuple[int, bytes, float]:
        index, data, logprob = token(one)
        listed = [token(other)[:2] for other in one["top_logprobs"]]
        alike = [token(other) for other in one["top_logprobs"]]
        others = [other for other in alike if other[1] == data and (other[0] < 0) != (index < 0)]
        if not data or not others or (index, data) in listed:
            return index, data, logprob
        distances = [math.inf if math.isnan(other[2] - logprob) else abs(other[2] - logprob) for other in others]
        return (*others[distances.index(min(distances))][:2], logprob)

    sampled = [identified(one) for one in content]
    last_id, last, _ = sampled[-1]
    end: tuple[int, bytes] | None = None
    if not last:
        if finish == "length":
            return "bytes_missing" if last_id < 0 else "control_token"
        end = last_id, last
    elif last == b"<|end|>" and finish == "stop":
        end = last_id, last
    steps: list[TeacherStep] = []
    if any(lost(i, d) and not (i >= 0 and d) for i, d, _ in (sampled if end is None else sampled[:-1])):
        return "bytes_missing"
    text_steps = len(content) - (end is not None)
    for one, own in zip(content[:text_steps], sampled[:text_steps], strict=True):
        if exceeds([token(other) for other in one["top_logprobs"]], *own):
            return "contradictory_logprobs"
    agreed = []
    for one, own in zip(content, sampled, strict=True):
        tops = agreeing([token(other) for other in one["top_logprobs"]], *own)
        if tops is None:
            return "contradictory_logprobs"
        agreed.append(tops)
    for row, (index, data, logprob) in enumerate(sampled):
        final = end is not None and row == len(content) - 1
        tops = agreed[row]
        nameless = sum(i < 0 and not d for i, d, _ in tops)
        kept: dict[tuple[int, bytes], list[float]] = {}
        for i, d, p in tops:
            is_end = end is not None and d == end[1] and (i == end[0] or (i < 0 and d != b""))
            if not d and i < 0:
                if not is_end or nameless > 1:
                    continue
            elif (lost(i, d) or d == b"<|end|>") and not is_end and (i, d) != (index, data):
                continue
            if is_end and (final or (i, d) != (index, data)):
                i, d = (end or (-1, b""))[0], b""
            values = kept.setdefault((i, d), [])
            near = next((place for place, value in enumerate(values) if not abs(value - p) > 0.01), None)
            sampled_now = (end[0], b"") if final and end is not None and end[1] else (index, data)
            if near is not None and (i >= 0 or (i, d) == sampled_now):
                values[near] = math.nan if math.isnan(p + values[near]) else max(p, values[near])
            elif values and i >= 0:
                return "malformed_logprobs"
            else:
                values.append(p)
        steps.append(
            TeacherStep(
                index,
                b"" if final else data,
                logprob,
                tuple(i for i, _ in kept),
                tuple(d for _, d in kept),
                tuple(map(added, kept.values())),
            )
        )
    return steps


def exceeds(tops: list[tuple[int, bytes, float]], index: int, data: bytes, own: float) -> bool:
    """Whether the sampled token is not listed and its mass has no room."""
    same_id = [d for i, d, _ in tops if i == index >= 0]
    if not tops or (index, data) in [(i, d) for i, d, _ in tops] or any(one_token(data, d) for d in same_id):
        return False
    values = [own, *(value for _, _, value in tops)]
    return all(value > -9000 for value in values) and math.fsum(map(math.exp, values)) > 1.01


def one_token(first: bytes, second: bytes) -> bool:
    """Whether two spellings can be those of one id, for the texts above."""
    if first.strip() == second.strip():
        return True
    for data in (first, second):
        text = data.decode(errors="replace")
        if not text or "\ufffd" in text or (len(text) > 2 and text[0] + text[-1] in ("<>", "[]")):
            return True
    common = 0
    while common < min(len(first), len(second)) and first[-1 - common] == second[-1 - common]:
        common += 1
    return any(0x80 <= byte < 0xC0 for byte in first[len(first) - common :])


def agreeing(
    tops: list[tuple[int, bytes, float]], index: int, data: bytes, own: float
) -> list[tuple[int, bytes, float]] | None:
    """The candidates with the sampled token's own logprob, if it is certain; None if two values contradict."""
    places = [place for place, (i, d, _) in enumerate(tops) if (i, d) == (index, data)]
    apart = [place for place in places if own > -9000 and tops[place][2] > -9000 and abs(tops[place][2] - own) > 0.01]
    if not apart or len(apart) < len(places):
        return tops
    place = apart[0]
    corrected = [*tops[:place], (index, data, own), *tops[place + 1 :]]

    def plausible(listed: list[tuple[int, bytes, float]]) -> tuple[bool, bool]:
        values = [value for _, _, value in listed if not math.isnan(value)]
        in_order = all(later <= value + 0.01 for value, later in itertools.pairwise(values))
        return in_order, sum(map(math.exp, values)) <= 1.01

    sure = len(apart) == 1 and all(plausible(corrected)) and not all(plausible(tops))
    return corrected if sure else None


def added(values: list[float]) -> float:
    odd = [value for value in values if math.isnan(value) or value <= -9000]
    return odd[0] if odd else math.log(math.fsum(map(math.exp, values)))


def sorted_step(step: TeacherStep) -> tuple[object, ...]:
    tops = zip(step.top_ids, step.top_bytes, (f"{round(one, 9) + 0.0}" for one in step.top_logprobs), strict=True)
    # A candidate without a logprob rejects its sequence, however often it is listed.
    found = list(tops)
    sound = [one for one in found if one[2] != "nan"]
    return step.token_id, step.data, repr(step.logprob), sorted(sound) + sorted(set(found) - set(sound))
