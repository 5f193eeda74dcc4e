"""A recorded step gives the logits of a growing cache, and holds nothing that a replay would not do again.

No test has a GPU. Here a step is recorded as a list of tensor operations. As in a CUDA graph, they are repeated on
the same memory, with every number of the host as it was.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bitnet_core.model import decoding, next_logits, rows
from bitnet_core.model.cache import KVCache
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.next_logits import RecordedStep
from bitnet_core.model.packing import pack_student
from bitnet_core.model.rows import decode_rows
from bitnet_core.model.sampling import Decoding
from bitnet_core.model.student import Student

PROMPTS = [[5, 17, 200, 3], [9], list(range(40)), [300, 2, 2, 7, 11, 250]]
SAMPLED = Decoding(max_tokens=10, temperature=1.0, top_k=40, top_p=0.9, min_p=0.01, repetition_penalty=1.1)


def strong(config: StudentConfig, **changes: Any) -> Student:
    """Its answers depend on the context. In fp64, so that kernels for other shapes choose the same levels."""
    made = Student(dataclasses.replace(config, **changes))
    for linear in made.bit_linears():
        torch.nn.init.normal_(linear.weight, 0.0, 0.3)
    return made.double().requires_grad_(False)


@pytest.fixture(params=["packed", "held", "hadamard", "hybrid"])
def student(request: pytest.FixtureRequest, config: StudentConfig) -> Iterator[Student]:
    changes = {"hadamard": {"hadamard": True}, "hybrid": {"a4_policy": "hybrid"}}
    made = strong(config, **changes.get(request.param, {}))
    if request.param == "packed":
        yield pack_student(made).double()
    else:
        with torch.no_grad(), made.held_weights():
            yield made


class _Operations(TorchDispatchMode):
    """Notes each operation with its arguments and what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, out))
        return out


def as_operations(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What `next_logits.recorded` gives, by other means: to record is to compute once, so the place is put back."""
    step = getattr(compute, "__self__")  # noqa: B009
    assert isinstance(step, RecordedStep)
    before = step._whole._next_1.clone()
    with _Operations() as operations:
        result = compute()
    step._whole._next_1.copy_(before)

    def replay() -> Tensor:
        for func, args, kwargs, out in operations.done:
            again = func(*args, **kwargs)
            for then, now in zip(tree_leaves(out), tree_leaves(again), strict=True):
                # Views, and what was changed in place, have their numbers already.
                if isinstance(then, Tensor) and then.data_ptr() != now.data_ptr():
                    then.copy_(now)
        return result

    return replay


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Decode as on a GPU; the list grows with each recording."""
    made: list[None] = []

    def record(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        made.append(None)
        return as_operations(compute)

    for module in (decoding, rows):
        monkeypatch.setattr(module, "replays", lambda _device: True)
    monkeypatch.setattr(next_logits, "recorded", record)
    return made


@pytest.mark.parametrize(
    ("bits", "decoding_"), [(8, Decoding(max_tokens=10)), (4, SAMPLED)], ids=["greedy", "sampled"]
)
def test_one_answer_is_the_same(
    student: Student, bits: int, decoding_: Decoding, request: pytest.FixtureRequest
) -> None:
    student.activation_bits = bits

    def answers() -> list[list[int]]:
        return [
            generate_ids(student, ids, decoding_, generator=torch.Generator().manual_seed(7)).ids
            for ids in PROMPTS[:2]
        ]

    expected = answers()
    recordings = request.getfixturevalue("recordings")
    assert answers() == expected
    assert len(recordings) == 2
    assert min(len(set(ids)) for ids in expected) > 3, "a constant answer would prove nothing"


@pytest.mark.parametrize(
    ("bits", "decoding_"), [(4, Decoding(max_tokens=30)), (8, SAMPLED)], ids=["greedy", "sampled"]
)
def test_rows_are_the_same(student: Student, bits: int, decoding_: Decoding, request: pytest.FixtureRequest) -> None:
    """Up to the context's end, with an end token, and each after the others have left."""
    student.activation_bits = bits

    def answers(eos_id: int | None) -> list[list[int]]:
        return decode_rows(student, PROMPTS, decoding_, seeds=[1, 2, 3, 4], eos_id=eos_id)

    free = answers(None)
    ended = answers(free[0][5])
    assert ended != free
    recordings = request.getfixturevalue("recordings")
    assert answers(None) == free
    assert answers(free[0][5]) == ended
    assert len(recordings) > 2


def test_logits_that_were_given_stay(config: StudentConfig, recordings: list[None]) -> None:
    given: list[tuple[Tensor, Tensor]] = []

    def on_id(_row: int, _id: int, logits_V: Tensor) -> bool:
        given.append((logits_V, logits_V.clone()))
        return True

    student = pack_student(strong(config)).double()
    decode_rows(student, PROMPTS[:2], Decoding(max_tokens=9), seeds=[1, 2], on_id=on_id)
    assert len(recordings) == 1
    assert all(torch.equal(now, then) for now, then in given)


def test_short_answers_are_not_recorded(config: StudentConfig, recordings: list[None]) -> None:
    student = pack_student(strong(config)).double()
    assert len(generate_ids(student, [5, 17], Decoding(max_tokens=3)).ids) == 3
    assert not recordings


def test_a_step_that_cannot_be_recorded_is_computed(
    config: StudentConfig, recordings: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = pack_student(strong(config)).double()
    expected = generate_ids(student, [5, 17], Decoding(max_tokens=9)).ids
    assert len(recordings) == 1

    def refuse(_compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(next_logits, "recorded", refuse)
    assert generate_ids(student, [5, 17], Decoding(max_tokens=9)).ids == expected


def test_no_step_goes_past_the_cache(config: StudentConfig) -> None:
    student = pack_student(strong(config)).double()
    cache = KVCache(student.config, max_len=2, dtype=torch.float64)
    step = RecordedStep(student, cache, torch.zeros(1, dtype=torch.int64))
    with torch.inference_mode():
        step(torch.tensor([5]))
        step(torch.tensor([6]))
        with pytest.raises(ValueError, match="holds 2 positions; 3 are needed"):
            step(torch.tensor([7]))


class _Watched(TorchDispatchMode):
    """Notes what a GPU can't record: values that the host reads, and copies between it and the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        devices = {value.device.type for value in (*args, out) if isinstance(value, Tensor) and value.dim()}
        if devices == {"cpu", "meta"} or func is torch.ops.aten._local_scalar_dense.default:
            self.waits.append(str(func))
        return out


@pytest.mark.parametrize("kind", ["packed", "held", "hadamard"])
def test_the_host_waits_for_nothing(config: StudentConfig, kind: str) -> None:
    """On a device whose tensors have no values: nobody can read them there."""
    made = Student(dataclasses.replace(config, hadamard=kind == "hadamard")).requires_grad_(False)
    student = (made if kind == "held" else pack_student(made)).to("meta")
    cache = KVCache(student.config, 2, 16, device="meta")
    step = RecordedStep(student, cache, torch.zeros(2, dtype=torch.int64, device="meta"))
    with torch.inference_mode(), student.held_weights():
        step._compute()  # constants are made at the first time
        with _Watched() as watched:
            logits_BV = step._compute()
        with _Watched() as copying:
            logits_BV + torch.zeros(2, 320).to("meta")
    assert watched.waits == []
    assert copying.waits != [], "a copy between the two would be seen"
    assert (logits_BV.device.type, logits_BV.shape) == ("meta", (2, 320))
