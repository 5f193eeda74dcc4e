"""A student fitted to its source: its last state against transformers' own, what fitting gains, and stops."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from bitnet_core.errors import Stopped
from bitnet_core.model.student import Student
from bitnet_core.pretrained.choose import open_source
from bitnet_core.pretrained.peaks import inputs_of_down, unevenness
from bitnet_core.pretrained.reconstruct import Text, divergence, reconstruct, source_state
from bitnet_core.pretrained.rotate import rotate, turned
from bitnet_core.pretrained.source import Source
from bitnet_core.pretrained.start import load, warm_shape
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.runs.events import Event, Progress
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import StudentOptions

KEPT = (0, 2)


@pytest.fixture(scope="module")
def source(folder: Path) -> Source:
    return open_source(Wanted(str(folder), ""))


def student_of(source: Source) -> Student:
    options = StudentOptions(hadamard=False, a4_policy="hybrid")
    student = Student(warm_shape(source.shape, len(KEPT), options, source.shape.vocab_size, 32))
    load(student, source, KEPT)
    rotate(student)
    return student


def text(student: Student, rows: int = 12, tokens: int = 24) -> Text:
    """Rows of random tokens, each with a prompt and an answer of other lengths."""
    generator = torch.Generator().manual_seed(1)
    ids_RT = torch.randint(student.config.vocab_size, (rows, tokens), generator=generator)
    prompts_R1 = torch.randint(0, 4, (rows, 1), generator=generator)
    lengths_R1 = torch.randint(4, tokens + 1, (rows, 1), generator=generator)
    places_T = torch.arange(tokens)
    asked_RT = (places_T >= prompts_R1) & (places_T < lengths_R1)
    return Text(ids_RT, asked_RT, student.rotation(places_T[None], torch.float32))


def wanted(source: Source, some: Text) -> torch.Tensor:
    return turned(source_state(source, some, Reporter()))


def test_the_last_state_is_that_of_transformers(source: Source, llama: LlamaForCausalLM) -> None:
    some = text(student_of(source))
    last = {}
    handle = llama.model.norm.register_forward_pre_hook(lambda _, inputs: last.update(state=inputs[0]))
    with torch.no_grad():
        llama(some.ids_RT)
    handle.remove()
    read_RT = some.asked_RT.flip(1).cumsum(1).flip(1) > 0
    told: list[Event] = []
    found_ND = source_state(source, some, Reporter(told.append))[read_RT]
    torch.testing.assert_close(found_ND, last["state"][read_RT], rtol=1e-4, atol=1e-4)
    assert isinstance(told[0], Progress), "reading takes as long as fitting, and says what it does"
    assert (told[0].label, told[0].total) == (
        "reading the answers with the model it starts from",
        source.shape.num_hidden_layers,
    )


def test_the_divergence_is_that_of_the_probabilities() -> None:
    torch.manual_seed(2)
    out_ND, wanted_ND, head_WD = torch.randn(5, 8), torch.randn(5, 8), torch.randn(7, 8)
    total = 0.0
    for out, state in zip(out_ND.tolist(), wanted_ND.tolist(), strict=True):
        said, real = (
            [math.exp(sum(a * b for a, b in zip(one, row, strict=True))) for row in head_WD.tolist()]
            for one in (out, state)
        )
        total += sum(
            p / sum(real) * math.log(p / sum(real) / (q / sum(said))) for p, q in zip(real, said, strict=True)
        )
    assert math.isclose(float(divergence(out_ND, wanted_ND, head_WD)), total / 5, rel_tol=1e-4)
    assert abs(float(divergence(wanted_ND, wanted_ND, head_WD))) < 1e-6


def apart(student: Student, some: Text, said_RTD: torch.Tensor, used_WD: torch.Tensor) -> float:
    with torch.no_grad():
        return float(divergence(student(some.ids_RT)[some.asked_RT], said_RTD[some.asked_RT], used_WD))


def test_fitting_brings_every_student_nearer_to_its_source_and_gives_the_same_bits_again(source: Source) -> None:
    fitted = []
    for _ in range(2):
        student = student_of(source)
        some = text(student)
        target_RTD, embedding_VD = wanted(source, some), student.output_weight.detach().clone()
        used_WD = embedding_VD[sorted(set(some.ids_RT[some.asked_RT].tolist()))]
        said_RTD = student.model.norm(target_RTD).detach()
        before = apart(student, some, said_RTD, used_WD)
        found = reconstruct(student, target_RTD, some, 80, Reporter())
        assert apart(student, some, said_RTD, used_WD) < 0.8 * before
        assert found.after < 0.8 * found.before
        assert torch.equal(student.output_weight, embedding_VD)
        assert all(one.grad is None and one.requires_grad for one in student.parameters())
        fitted.append(student.state_dict())
    assert all(torch.equal(one, fitted[1][name]) for name, one in fitted[0].items())


def test_fitting_lowers_the_peaks_of_what_down_reads(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def after(weight: float) -> float:
        monkeypatch.setattr("bitnet_core.pretrained.reconstruct._PEAK_WEIGHT", weight)
        student = student_of(source)
        with torch.no_grad():
            for layer in student.model.layers:
                layer.mlp.ffn_sub_norm.weight[3] *= 30
        some = text(student)
        reconstruct(student, wanted(source, some), some, 40, Reporter())
        with torch.no_grad(), inputs_of_down(student) as inputs:
            student(some.ids_RT)
        assert len(inputs) == len(student.model.layers)
        return float(unevenness(inputs))

    assert after(4.0) < 0.5 * after(0.0)


def test_what_the_source_says_of_a_prompt_and_what_follows_an_answer_change_nothing(source: Source) -> None:
    fitted = []
    for spoilt in (False, True):
        student = student_of(source)
        some = text(student)
        target_RTD = wanted(source, some)
        if spoilt:
            behind_RT = ~some.asked_RT & (some.asked_RT.cumsum(1) > 0)
            target_RTD[~some.asked_RT] = math.nan
            some = replace(some, ids_RT=some.ids_RT.masked_fill(behind_RT, 1))
        reconstruct(student, target_RTD, some, 20, Reporter())
        fitted.append(student.state_dict())
    assert all(torch.equal(one, fitted[1][name]) for name, one in fitted[0].items())


def test_each_row_is_read_once_before_any_is_read_again(source: Source) -> None:
    student = student_of(source)
    some = text(student, rows=7)
    target_RTD, read = wanted(source, some), []
    student.register_forward_pre_hook(lambda _, inputs: read.append(tuple(inputs[0][0].tolist())))
    reconstruct(student, target_RTD, some, 21, Reporter())
    passes = [set(read[begin : begin + 7]) for begin in (0, 7, 14)]
    assert len(read) == 21
    assert [len(one) for one in passes] == [7, 7, 7]
    assert passes[0] == passes[1] == passes[2]


def test_a_stop_is_heard_while_the_source_is_read_and_while_the_student_is_fitted(source: Source) -> None:
    student = student_of(source)
    some = text(student)
    asked = Reporter()
    asked.request_stop()
    with pytest.raises(Stopped):
        source_state(source, some, asked)
    with pytest.raises(Stopped):
        reconstruct(student, wanted(source, some), some, 3, asked)
    assert student.output_weight.requires_grad


def test_progress_counts_the_steps(source: Source) -> None:
    told = []
    student = student_of(source)
    some = text(student)
    reconstruct(student, wanted(source, some), some, 3, Reporter(told.append))
    assert (told[-1].done, told[-1].total, told[-1].unit) == (3, 3, "steps")
