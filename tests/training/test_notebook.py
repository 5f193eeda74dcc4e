"""The trainer without a run folder, as a notebook uses it: options made by hand, events to a function."""

from pathlib import Path

import pytest
import torch

from bitnet_core.errors import Stopped, UsageError
from bitnet_core.model.precision import Precision
from bitnet_core.model.presets import preset
from bitnet_core.model.student import Student
from bitnet_core.runs.events import CheckpointSaved, Event, Metric, Progress
from bitnet_core.settings.values import FlipOptions, RateOptions, TrainOptions
from bitnet_core.traces.dataset import TraceSequence, TraceSet
from bitnet_core.training.trainer import Trainer
from tests.training.conftest import TOP_K, VOCAB

OPTIONS = TrainOptions(
    total_steps=6,
    batch_size=4,
    max_seq_len=48,
    rate=RateOptions(peak=3e-3),
    flip=FlipOptions(budget_tokens=600, fraction=0.5),
    log_interval=2,
)


@pytest.fixture
def traces(sequences: list[TraceSequence]) -> TraceSet:
    return TraceSet(sequences, VOCAB, TOP_K, "t" * 64, "p" * 64, "teacher")


def fresh(traces: TraceSet, folder: Path | None = None) -> Trainer:
    torch.manual_seed(0)
    student = Student(preset("nano", traces.vocab_size, layers=1))
    return Trainer(
        student,
        traces,
        OPTIONS,
        folder=folder,
        device=torch.device("cpu"),
        precision=Precision(torch.float32, "test"),
    )


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return dict(trainer.student.state_dict())


def test_three_lines_train_a_student(traces: TraceSet, isolated: Path) -> None:
    student = Student(preset("nano", traces.vocab_size, layers=1))
    events: list[Event] = []
    trainer = Trainer(student, traces, OPTIONS)
    summary = trainer.run(on_event=events.append)
    assert trainer.student is student
    assert student.activation_bits == summary["activation_bits"] == 4
    assert summary["seen_tokens"] == trainer.state.seen_tokens >= 600
    assert summary["checkpoint"] is None
    kinds = {type(event) for event in events}
    assert {Metric, Progress} < kinds
    assert CheckpointSaved not in kinds
    assert list(isolated.iterdir()) == [], "nothing is written"


def test_a_folder_changes_nothing_but_the_files(traces: TraceSet, tmp_path: Path) -> None:
    without, within = fresh(traces), fresh(traces, tmp_path)
    assert without.run()["last_loss"] == within.run()["last_loss"]
    kept = weights_of(within)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights_of(without).items())
    assert within.last_checkpoint is not None
    assert without.last_checkpoint is None
    again = fresh(traces, tmp_path)
    assert again.run()["resumed_from"] == str(within.last_checkpoint)


def test_a_stopped_training_goes_on_from_memory(traces: TraceSet) -> None:
    whole, cut = fresh(traces), fresh(traces)
    whole.run()

    def stop_at_step_2(event: Event) -> None:
        if isinstance(event, Metric) and event.step == 2:
            cut.request_stop()

    with pytest.raises(Stopped, match="training was stopped"):
        cut.run(stop_at_step_2)
    assert cut.state.step == 2
    cut.run()
    assert cut.state.step == whole.state.step
    kept = weights_of(whole)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights_of(cut).items())


def test_a_student_of_other_sizes_is_refused(traces: TraceSet) -> None:
    with pytest.raises(UsageError, match="500 tokens and the traces have 512"):
        Trainer(Student(preset("nano", 500, layers=1)), traces, OPTIONS)
    with pytest.raises(UsageError, match="reads 32 positions"):
        Trainer(Student(preset("nano", VOCAB, layers=1, max_positions=32)), traces, OPTIONS)
