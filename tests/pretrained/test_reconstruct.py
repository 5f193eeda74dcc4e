"""Layers fitted to their source: its states against transformers' own, what fitting gains, and stops."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from bitnet_core.errors import Stopped
from bitnet_core.model.student import Student
from bitnet_core.pretrained.choose import Wanted, open_source
from bitnet_core.pretrained.reconstruct import Text, reconstruct, source_states
from bitnet_core.pretrained.rotate import rotate, turned
from bitnet_core.pretrained.source import Source
from bitnet_core.pretrained.start import load, warm_shape
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import StudentOptions

KEPT = (0, 2)


@pytest.fixture(scope="module")
def source(folder: Path) -> Source:
    return open_source(Wanted(str(folder), ""))


def student_of(source: Source, *, turn: bool = True) -> Student:
    options = StudentOptions(hadamard=False, a4_policy="hybrid")
    student = Student(warm_shape(source.shape, len(KEPT), options, source.shape.vocab_size, 32))
    load(student, source, KEPT)
    if turn:
        rotate(student)
    return student


def text(student: Student, rows: int = 12, tokens: int = 24) -> Text:
    """Rows of random tokens, each of another length."""
    generator = torch.Generator().manual_seed(1)
    ids_RT = torch.randint(student.config.vocab_size, (rows, tokens), generator=generator)
    lengths_R1 = torch.randint(4, tokens + 1, (rows, 1), generator=generator)
    places_T = torch.arange(tokens)
    return Text(ids_RT, places_T < lengths_R1, student.rotation(places_T[None], torch.float32))


def states(source: Source, student: Student, some: Text) -> list[torch.Tensor]:
    return [turned(one) for one in source_states(source, KEPT, some, Reporter())]


@pytest.mark.parametrize("kept", [(0, 2), (1, 3), (3,), (0, 1, 2, 3)])
def test_the_states_are_those_of_transformers(source: Source, llama: LlamaForCausalLM, kept: tuple[int, ...]) -> None:
    some = text(student_of(source))
    with torch.no_grad():
        theirs = llama(some.ids_RT, output_hidden_states=True).hidden_states
        last = {}
        llama.model.norm.register_forward_pre_hook(lambda _, inputs: last.update(state=inputs[0])).remove()
        handle = llama.model.norm.register_forward_pre_hook(lambda _, inputs: last.update(state=inputs[0]))
        llama(some.ids_RT)
        handle.remove()
    wanted = [theirs[layer] for layer in kept[1:]] + [last["state"]]
    found = list(source_states(source, kept, some, Reporter()))
    assert len(found) == len(kept)
    for ours, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)


def error(student: Student, some: Text, wanted: list[torch.Tensor]) -> float:
    """The mean error of all layers, written out token by token."""
    total, count = 0.0, 0
    with torch.no_grad():
        state = student.model.embed_tokens(some.ids_RT)
        for layer, target in zip(student.model.layers, wanted, strict=True):
            state = layer(state, some.rotation, None, None)
            for row, position in some.real_RT.nonzero().tolist():
                off = state[row, position] - target[row, position]
                total += float(off.dot(off) / target[row, position].dot(target[row, position]))
                count += 1
    return total / count


def test_fitting_brings_every_student_nearer_to_its_source_and_gives_the_same_bits_again(source: Source) -> None:
    fitted = []
    for _ in range(2):
        student = student_of(source)
        some = text(student)
        wanted = states(source, student, some)
        before, embedding = error(student, some, wanted), student.output_weight.detach().clone()
        found = reconstruct(student, iter(wanted), some, 40, Reporter())
        assert error(student, some, wanted) < 0.8 * before
        assert found.after < 0.8 * found.before
        assert torch.equal(student.output_weight, embedding)
        assert all(one.grad is None for one in student.parameters())
        fitted.append(student.state_dict())
    assert all(torch.equal(one, fitted[1][name]) for name, one in fitted[0].items())


def test_a_stop_is_heard_while_the_source_is_read_and_while_layers_are_fitted(source: Source) -> None:
    student = student_of(source)
    some = text(student)
    asked = Reporter()
    asked.request_stop()
    with pytest.raises(Stopped):
        list(source_states(source, KEPT, some, asked))
    with pytest.raises(Stopped):
        reconstruct(student, iter(states(source, student, some)), some, 3, asked)


def test_progress_counts_the_steps_of_all_layers(source: Source) -> None:
    told = []
    student = student_of(source)
    some = text(student)
    reconstruct(student, iter(states(source, student, some)), some, 3, Reporter(told.append))
    assert (told[-1].done, told[-1].total, told[-1].unit) == (6, 6, "steps")
