"""Experiments with simulated runs: records and events as a stage writes them, at fixed times."""

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from bitnet_core import process
from bitnet_core.runs import event_files
from bitnet_core.runs.event_files import EventWriter
from bitnet_core.runs.experiment import Experiment, Workspace
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.settings.resolve import resolve
from tests.builders import event

NOON = 1_790_000_000.0
ENV = "BUDGET_TOKENS=150000\nFLIP_FRACTION=0.9\nTOTAL_STEPS=200\n"
QEI = (
    ["quantity", "student", "teacher", "origin", "how"],
    [
        ["quality", 0.3821, 1.0, "measured", "top-1 agreement with the teacher over held-out traces"],
        ["memory (GB)", 0.0164, 0.3125, "measured", "resident while it generates"],
        ["QEI", 7.281, None, "measured", "(Q_s/Q_t)/(M_s/M_t)"],
    ],
)


def experiment(home: Path, name: str) -> Experiment:
    root = Workspace(home).create(name, ENV)
    made = Experiment.from_settings(resolve({"BITNET_HOME": str(home)}, root=root).settings)
    made.ensure()
    return made


LEAVES = {
    "teacher": "reports/teacher_baseline.json",
    "collect": "data/kd_shard_000.parquet",
    "train": "checkpoints/mini_bitnet_step_00000001.pt",
}
"""What a stage leaves that another one reads, as far as a start looks."""


def ready(root: Path) -> Path:
    """The experiment, now with what its stages read, so that each may start."""
    for left in LEAVES.values():
        (root / left).parent.mkdir(exist_ok=True)
        (root / left).touch()
    return root


def leave_traces(exp: Experiment) -> None:
    """As far as a start looks: without traces a training is refused."""
    (exp.root / LEAVES["collect"]).touch()


def save_checkpoint(exp: Experiment, step: int, bits: int = 8, **health: object) -> Path:
    """A file of that name with its health file; `health` has what that says besides or otherwise."""
    path = exp.checkpoints / f"mini_bitnet_step_{step:08d}.pt"
    path.write_bytes(b"x" * (1000 + step))
    found = {
        "bytes": 1000 + step, "sha256": "0", "step": step, "seen_tokens": step * 700, "budget_tokens": 150_000,
        "activation_bits": bits, "layers_at_4_bits": 0 if bits == 8 else 4, "device": "cpu", "best": {"step": 100},
        "heldout": {"step": step, "heldout_loss": 5 + step / 1000, "heldout_agreement": 0.1},
    }  # fmt: skip
    path.with_name(f"{path.stem}_health.json").write_text(json.dumps(found | health))
    os.utime(path, (NOON + step, NOON + step))
    return path


def start_process(*, deaf: bool = False) -> "subprocess.Popen[bytes]":
    """One that waits until it is killed."""
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
    command = [sys.executable, "-c", code + "print(flush=True); input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child


class SimulatedRun:
    """One run of a stage. `alive` gives it a real process, which the caller ends with `end_process`.

    A `deaf` one also ignores SIGTERM, like a stage that hangs. `by` is the pipeline that started it.
    """

    def __init__(
        self,
        exp: Experiment,
        stage: str,
        created: float = NOON,
        *,
        alive: bool = False,
        deaf: bool = False,
        by: "SimulatedRun | None" = None,
    ) -> None:
        self.run = Run(exp.logs / f"{stage}-{created:.0f}-test")
        self.run.path.mkdir(parents=True)
        self._now = created
        self.child = start_process(deaf=deaf) if alive or deaf else None
        identity = process.identify(self.child.pid) if self.child else None
        self.run.write(
            RunRecord(
                id=self.run.id,
                stage=stage,
                state="running",
                settings=exp.settings.to_record(),
                origins={},
                argv=[f"pipeline {by.run.id}"] if by else ["test"],
                created=created,
                host=socket.gethostname(),
                boot_id=process.boot_id(),
                fingerprint=History.read(exp).fingerprint(stage),
                pid=identity.pid if identity else None,
                process_start=identity.start if identity else None,
                started=created,
            )
        )
        self._writer = EventWriter(self.run.events_path)
        self.emit("run_started", stage=stage, run=self.run.id, pid=4242, host="box", device="cpu", versions={})

    def emit(self, kind: str, after: float = 1.0, **fields: Any) -> None:
        self._now += after
        with mock.patch.object(event_files.time, "time", lambda: self._now):
            self._writer.emit(event(kind, **fields))

    def train(self, first: int, last: int, *, bad_at: int | None = None) -> None:
        """The events of these steps, with the flip at step 182 and a loss that is not finite at `bad_at`."""
        for step in range(first, last + 1):
            seen, falling = step * 745, math.exp(-step / 55)
            if step == 182:
                self.emit("flip", 0, step=step, seen_tokens=seen, from_bits=8, to_bits=4)
            self.emit(
                "metric",
                step=step,
                seen_tokens=seen,
                loss=math.nan if step == bad_at else 5 * falling + 1.5,
                kl=4 * falling + 1,
                ce=7 * falling + 2,
                format=3 * falling + 0.5,
                lr=4e-4,
                grad_norm=0.84,
                tokens_per_s=690.0,
                activation_bits=4 if step >= 182 else 8,
                nonfinite=int(bad_at is not None and step >= bad_at),
            )
            if step == bad_at:
                self.emit("alert", 0, severity="warning", code="nonfinite", message="The loss was not finite.",
                          advice="Lower LR.")  # fmt: skip
            if step and step % 100 == 0:
                self.emit(
                    "checkpoint", 0, step=step, path=f"mini_bitnet_step_{step}.pt", bytes=190_000_000, sha256="0"
                )
        self.emit("progress", 0, done=last, total=200, unit="steps", rate=0.9, eta_s=(200 - last) / 0.9, label="")

    def finish(self, state: str = "succeeded", error: str | None = None, **summary: Any) -> "SimulatedRun":
        self.emit("run_finished", state=state, exit_code=0, error=error, summary=summary)
        self.run.write(
            dataclasses.replace(
                self.run.record(), state=state, ended=self._now, exit_code=0, error=error, summary=summary
            )
        )
        return self

    def end_process(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.communicate()


def finished_experiment(home: Path, name: str = "demo") -> Experiment:
    """An experiment trained past the flip and evaluated, with a QEI table."""
    exp = experiment(home, name)
    trained = SimulatedRun(exp, "train", NOON)
    trained.train(0, 200, bad_at=91)
    trained.emit("sample", prompt="What is the capital of France?", text="The capital of France.", source="student")
    trained.finish()
    evaluated = SimulatedRun(exp, "eval", NOON + 400)
    evaluated.emit("table", name="qei", columns=QEI[0], rows=QEI[1])
    evaluated.finish(qei=7.281)
    return exp
