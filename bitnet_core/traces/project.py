"""Teacher space -> student space for a student that shares the teacher's vocabulary (DESIGN §6).

The student reads the whole completion as its own tokenizer cuts it. Where a student token starts with a
teacher token it carries that step's candidates; where both cuts agree, bit for bit. Pure: knows no files
and no providers. Another vocabulary is refused here until its projection exists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bitnet_core.errors import BitnetError
from bitnet_core.traces.align import Aligned, align
from bitnet_core.traces.steps import TeacherStep, fault, log_sum_exp, settle_mass
from bitnet_core.traces.struct import structural_bytes, structural_tokens
from bitnet_core.traces.tokenizer import StudentTokenizer


class Rejected(Exception):
    """The sequence can't be used; `reason` is a short code that is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class KDRow:
    """What supervises `completion_ids[stream_pos]`; candidates most likely first."""

    stream_pos: int
    step_idx: int
    topk_ids: tuple[int, ...]
    topk_logprobs: tuple[float, ...]
    other_logprob: float
    sample_text: str


@dataclass(frozen=True)
class Projection:
    completion_ids: list[int]
    is_struct: list[bool]
    rows: list[KDRow]
    clamped: int
    """Steps whose mass was above 1 - 1e-6 and was scaled down."""
    recut: int
    """Rows whose student token is not the teacher's."""
    unmapped: int
    """Candidates without an id in the vocabulary; their mass is in Other."""
    unreported: int
    """Bytes that belong to tokens the server did not report; the student's positions there carry CE alone."""


@dataclass(frozen=True)
class _Step:
    """A teacher step in ids of the shared vocabulary. Without candidates: bytes of unreported tokens."""

    index: int
    token_id: int
    data: bytes
    logprob: float
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    other: float
    clamped: bool
    unmapped: int


def require_empty_tokenizer_name(tokenizer_name: str) -> None:
    if tokenizer_name:
        raise BitnetError(
            f"TOKENIZER_NAME={tokenizer_name} is not supported yet: the student reads with the teacher's own "
            "tokenizer so far; leave TOKENIZER_NAME empty."
        )


def project(steps: Sequence[TeacherStep], finish_reason: str, tokenizer: StudentTokenizer) -> Projection:
    """Project one completion. `finish_reason` "stop" means that the teacher chose to end.

    Raises Rejected with a code for steps that can't be used; never leaves a step out.
    """
    resolved = [part for index, step in enumerate(steps) for part in _resolve(index, step, tokenizer)]
    ending = resolved.pop() if resolved and not resolved[-1].data else None
    if any(not step.data for step in resolved):
        raise Rejected("control_token")
    data = b"".join(step.data for step in resolved)
    if not data:
        raise Rejected("empty_completion")
    ids = tokenizer.encode_bytes(data)
    lengths = [len(tokenizer.token_bytes(index)) for index in ids]
    rows: list[KDRow] = []
    recut = 0
    for position, place in enumerate(align(lengths, [len(step.data) for step in resolved])):
        if place is None or not all(step.ids for step in resolved[place.first : place.last + 1]):
            continue
        candidates = _candidates(resolved, place, ids[position], tokenizer)
        recut += ids[position] != resolved[place.first].token_id
        rows.append(_row(position, candidates, resolved[place.first]))
    struct = structural_tokens(structural_bytes(data), lengths)
    if ending is not None or finish_reason == "stop":
        if ending is not None:
            rows.append(_row(len(ids), _ending(ending, tokenizer.eos_id), ending))
        ids.append(tokenizer.eos_id)
        struct.append(False)
    every = resolved if ending is None else [*resolved, ending]
    return Projection(
        completion_ids=ids,
        is_struct=struct,
        rows=rows,
        clamped=sum(step.clamped for step in every),
        recut=recut,
        unmapped=sum(step.unmapped for step in every),
        unreported=sum(len(step.data) for step in every if not step.ids),
    )


def _resolve(place: int, step: TeacherStep, tokenizer: StudentTokenizer) -> list[_Step]:
    """Check a step and find its ids: the provider's own where it gives them, else by their bytes.

    llama.cpp holds a token back while the text ends inside a character, and reports the last token of the
    character with all its bytes and no step for those before. They become a step without candidates.
    """
    reason = fault(step)
    if reason is not None:
        raise Rejected(reason)
    data = step.data
    if 0 <= step.token_id < tokenizer.vocab_size and step.token_id not in tokenizer.special_ids:
        last = tokenizer.token_bytes(step.token_id)
        if len(last) < len(data) and data.endswith(last):
            data = last
    token_id = _identify(step.token_id, data, tokenizer)
    if token_id is None:
        raise Rejected("unknown_token")
    held_back = step.data[: len(step.data) - len(data)]
    unreported = _Step(place, -1, held_back, 0.0, (), (), 0.0, clamped=False, unmapped=0)
    mass = settle_mass(step.top_logprobs)
    found: dict[int, float] = {}
    unmapped = 0
    for index, spelling, logprob in zip(step.top_ids, step.top_bytes, mass.logprobs, strict=True):
        candidate = _identify(index, spelling, tokenizer)
        if candidate is None:
            unmapped += 1
        else:
            found[candidate] = logprob if candidate not in found else log_sum_exp((found[candidate], logprob))
    ordered = sorted(found.items(), key=lambda item: -item[1])
    other = mass.other if not unmapped else settle_mass([logprob for _, logprob in ordered]).other
    if not ordered:
        raise Rejected("unknown_candidates")
    found_step = _Step(
        index=place,
        token_id=token_id,
        data=data,
        # Rounding may leave it a hair above 0; a probability is at most 1.
        logprob=min(step.logprob, 0.0),
        ids=tuple(index for index, _ in ordered),
        logprobs=tuple(logprob for _, logprob in ordered),
        other=other,
        clamped=mass.clamped,
        unmapped=unmapped,
    )
    return [unreported, found_step] if held_back else [found_step]


def _identify(index: int, data: bytes, tokenizer: StudentTokenizer) -> int | None:
    """The id of a candidate. Raises Rejected when the provider's id means other bytes here."""
    if index < 0:
        # Providers without ids write the end of the text as an entry without bytes, or leave it out.
        return tokenizer.ids_by_bytes.get(data) if data else tokenizer.eos_id
    if index >= tokenizer.vocab_size or (data and tokenizer.token_bytes(index) != data):
        raise Rejected("other_vocabulary")
    if not data and index not in tokenizer.special_ids:
        raise Rejected("other_vocabulary")
    return index


def _candidates(
    steps: Sequence[_Step], place: Aligned, token_id: int, tokenizer: StudentTokenizer
) -> tuple[dict[int, float], float]:
    """Candidates by id, and Other, for a student token that starts with teacher step `place.first`.

    The observed candidate becomes the stream's real token. Shorter than the teacher's token, it is that
    token's first sub-token and takes its whole mass; longer, it takes the product over the steps it spans,
    and what the first token had beyond that goes to Other.
    """
    step = steps[place.first]
    found = dict(zip(step.ids, step.logprobs, strict=True))
    if token_id == step.token_id:
        return found, step.other
    observed = found.pop(step.token_id, None)
    if observed is None:
        # Sampled outside the top list: its mass is a part of Other until it gets a place of its own.
        observed = min(step.logprob, step.other)
    mass = observed
    if place.last > place.first:
        mass += sum(steps[index].logprob for index in range(place.first + 1, place.last))
        mass += _covering(steps[place.last], place.tail, tokenizer)
    found[token_id] = log_sum_exp((found[token_id], mass)) if token_id in found else mass
    settled = settle_mass(list(found.values()))
    return dict(zip(found, settled.logprobs, strict=True)), settled.other


def _covering(step: _Step, tail: int, tokenizer: StudentTokenizer) -> float:
    """Log-probability that a step says the `tail` first bytes it said: its token's own when they are all of
    it, else that of every candidate that begins with them."""
    if tail == len(step.data):
        return step.logprob
    said = step.data[:tail]
    found = {step.token_id: step.logprob, **dict(zip(step.ids, step.logprobs, strict=True))}
    fitting = [logprob for index, logprob in found.items() if tokenizer.token_bytes(index).startswith(said)]
    return min(0.0, log_sum_exp(fitting))


def _ending(step: _Step, eos_id: int) -> tuple[dict[int, float], float]:
    """Candidates where the teacher stopped; whichever end token it took is the student's one end token."""
    found = dict(zip(step.ids, step.logprobs, strict=True))
    if step.token_id != eos_id and step.token_id in found:
        ended = found.pop(step.token_id)
        found[eos_id] = log_sum_exp((found[eos_id], ended)) if eos_id in found else ended
    return found, step.other


def _row(position: int, candidates: tuple[dict[int, float], float], step: _Step) -> KDRow:
    found, other = candidates
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return KDRow(
        stream_pos=position,
        step_idx=step.index,
        topk_ids=tuple(index for index, _ in ordered),
        topk_logprobs=tuple(logprob for _, logprob in ordered),
        other_logprob=other,
        sample_text=step.data.decode("utf-8", errors="replace"),
    )
