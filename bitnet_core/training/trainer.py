"""The training loop: steps, the flip, evaluations and checkpoints. It needs no run folder and knows no stage.

One turn of the loop is one *completed* optimizer step. A step whose loss or gradient is not finite changes nothing
but a counter.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bitnet_core.errors import Stopped
from bitnet_core.files import is_file
from bitnet_core.model.precision import Precision, pick_device, pick_precision
from bitnet_core.model.student import Student
from bitnet_core.pretrained import half_made
from bitnet_core.runs.cadence import CHANGED, Cadence
from bitnet_core.runs.events import Event, Metric
from bitnet_core.runs.presence import Gone
from bitnet_core.runs.reporter import Reporter
from bitnet_core.runs.resuming import RANDOM_START, TRACES, recipe
from bitnet_core.settings.flip import decide
from bitnet_core.settings.values import DeviceOptions, TrainOptions
from bitnet_core.traces.dataset import TraceSet
from bitnet_core.traces.examples import Examples
from bitnet_core.training import budget, checkpoints, compiling, heldout, ramp, report
from bitnet_core.training.batches import Sampler
from bitnet_core.training.fit import require_fit
from bitnet_core.training.flip import flip_event, lowered, recovery_due
from bitnet_core.training.on_policy import author
from bitnet_core.training.online import OnlineTeacher
from bitnet_core.training.relations import Relations
from bitnet_core.training.schedule import Schedule
from bitnet_core.training.state import (
    FirstWeights,
    TrainState,
    capture,
    checkpoint_to_resume,
    keep_newer_aside,
    restore,
)
from bitnet_core.training.step import Stepper, StepResult

_REFUSALS_IN_A_ROW = 3
_CALIBRATIONS_IN_A_ROW = 24  # an fp16 loss scale starts at 2^16 and halves at each overflow


class Trainer:
    """Trains a student on traces: KD + CE + format loss, with the flip of activations from 8 to 4 bits.

    `Trainer(student, traces, TrainOptions(total_steps=200)).run(on_event=print)` is a whole training. `student` is
    trained in place and stays readable: `student`, `state` (steps, tokens, evaluations) and `options` are attributes.
    """

    def __init__(
        self,
        student: Student,
        traces: TraceSet,
        options: TrainOptions,
        *,
        folder: Path | None = None,
        device: torch.device | None = None,
        precision: Precision | None = None,
        first_weights: FirstWeights | None = None,
        teacher: OnlineTeacher | None = None,
        relations: Relations | None = None,
    ) -> None:
        """Checkpoints are kept in `folder`, where training resumes; without one, nothing is written.

        `first_weights` are those of a training that resumes nothing; by default the student's own. A `teacher` says
        its whole distribution of the traces' texts while training, and their candidates are not looked at.
        `device` and `precision` are by default this machine's best. Raises UsageError for a student whose vocabulary
        or context doesn't fit the traces, and BitnetError when there is nothing to train on.
        """
        require_fit(student.config, traces, options, online=teacher is not None)
        device = device or pick_device(DeviceOptions())
        self.options, self.folder = options, folder
        self.student = student.to(device).train()
        if not options.quantize:
            student.activation_bits = None
        train, held_out = traces.split()
        examples = self._examples = Examples(train, options.max_seq_len)
        self._first_weights = first_weights
        self._held_out_size = heldout.size(held_out)
        self._held_out = heldout.choose(Examples(held_out, options.max_seq_len))
        self._tokenizer_hash, self._chance = traces.tokenizer_hash, report.chance(traces)
        precision = precision or pick_precision(DeviceOptions(), device)
        capacity = options.max_seq_len if options.pack else None
        self.sampler = Sampler(examples, options.batch_size, options.seed, capacity, options.workers)
        options = self.options = compiling.prepared(options, device, self.sampler)
        self.stepper = Stepper(student, options, device, precision, teacher, relations)
        self._recipe = recipe(options) | {
            TRACES: self.sampler.fingerprint,
            "A4_POLICY": student.config.a4_policy,
            "TRAIN_ONLINE": teacher.identity if teacher else "",
            **(first_weights.settings if first_weights else RANDOM_START),
        }
        self._author = author(student, options, teacher)
        self.state = TrainState()
        self._flip_asked = options.flip
        self._decide_budget({})
        self.resumed_from: Path | None = None
        self.last_checkpoint: Path | None = None
        self._reporter = Reporter()
        self._progress_in_tokens = False
        self._turned = False
        """Whether it goes on under other settings than before."""

    def run(self, on_event: Callable[[Event], object] | Reporter = lambda _: None) -> dict[str, Any]:
        """Train to the end of the steps or of the token budget, and return the summary.

        With a folder, training first resumes from the newest checkpoint there. `on_event` is called with each event
        (metrics, flips, checkpoints, alerts, …); a Reporter takes them too. The summary has `steps`, `seen_tokens`,
        `activation_bits`, `first_loss`, `last_loss`, `heldout_*`, `flip_*`, `tokens_per_s`, `nonfinite`, `checkpoint`
        and `resumed_from`.

        Raises Stopped after `request_stop`, with a checkpoint of what was done; and BitnetError when the training
        diverges, when steps stay not finite, or when the folder holds checkpoints of another student.
        """
        self.resume(on_event)
        self._announce()
        try:
            self._train()
        except (Stopped, Gone):
            if self.state.step and not self._is_saved():
                self._save()
            raise
        return report.summary(self.state, self.student) | {
            "checkpoint": str(self.last_checkpoint) if self.last_checkpoint else None,
            "resumed_from": str(self.resumed_from) if self.resumed_from else None,
        }

    def request_stop(self) -> None:
        """Stop after the present step. May be called from another thread or from `on_event`."""
        self._reporter.request_stop()

    def resume(self, on_event: Callable[[Event], object] | Reporter = lambda _: None) -> None:
        """Go back to the newest checkpoint, or that of `resume_step`, if this training can go on from there."""
        self._reporter = on_event if isinstance(on_event, Reporter) else Reporter(on_event, name="training")
        asked, tokens = replace(self.options, flip=self._flip_asked), self.sampler.supervised
        student, folder = (self.student.config, self._tokenizer_hash), self.folder
        found = folder and checkpoint_to_resume(folder, student, self._recipe, asked, tokens, self._reporter)
        self._reporter.resumes = bool(found or self.state.step)  # else a stop loses what was done
        if not found:
            self._begin()
            return
        path, checkpoint = found
        self._decide_budget(budget.kept_in(path, checkpoint))
        self.state = restore(path, checkpoint, self.stepper, self.sampler, self._recipe, self._budget)
        self._forget_half_made()  # of a run that was killed between saving its start and this
        if self.finished:  # no step is to come that would have other settings
            self.state.changes = list(checkpoint.counters.get("changes", ()))
        self._turned = len(self.state.changes) > len(checkpoint.counters.get("changes", ()))
        self.resumed_from = self.last_checkpoint = path
        keep_newer_aside(path, checkpoint, self.state, self._reporter)

    def _decide_budget(self, kept: dict[str, Any]) -> None:
        found = self._budget = decide(self._flip_asked, self.sampler.supervised, kept)
        self.state.budget = found.record()
        self.options = options = replace(self.options, flip=replace(self._flip_asked, budget_tokens=found.tokens))
        a_step = options.accumulate * self.sampler.mean_supervised
        steps = math.ceil(found.tokens / a_step)
        self.schedule = Schedule(options.rate, options.total_steps or steps)
        steps = min(steps, self.schedule.total_steps)
        self._log_interval = options.log_interval or report.interval(steps)
        held_out = sum(one.supervised for one in self._held_out)
        self._cadence = Cadence.of(steps, options.checkpoint_interval, held_out, a_step) if held_out else Cadence()

    def _begin(self) -> None:
        self.student.quantized_share = ramp.quantized_share(self.options.flip, self.state.seen_tokens)
        if self._first_weights is None or self.state.origin:
            self._forget_half_made()  # of a start that is not wanted any more
            return
        self.state.origin = self._first_weights(self.student, self._examples, self._reporter, self.folder)
        report.announce_origin(self._reporter, self.state.origin)
        self._save()  # a start takes minutes to make, and whatever ends the run now must not lose it
        self._forget_half_made()

    def _forget_half_made(self) -> None:
        if self.folder is not None:
            half_made.remove(self.folder, made=not self._recipe.get("STUDENT_INIT_FIT_STEPS"))

    @property
    def finished(self) -> bool:
        state, most = self.state, self.options.total_steps
        return (most is not None and state.step >= most) or state.seen_tokens >= self.options.flip.budget

    # -- the loop ------------------------------------------------------------------------------------

    def _train(self) -> None:
        if self.state.unmeasured:
            self._evaluate(self.state.unmeasured)
        if not self.state.evaluations:
            self._evaluate("start")
        elif self._turned and self._held_out:
            self._evaluate(CHANGED)
        report.say_if_flipped_early(self._reporter, self.student, self.options.flip, self.state.seen_tokens)
        while not self.finished:
            self._reporter.check_stop()
            self._ramp_up()
            self._flip_if_due()
            self._step()
        report.say_if_budget_ended_it(self._reporter, self.options, self.state.step)
        self._ramp_up()
        if self.options.flip.threshold < self.options.flip.budget:
            self._flip_if_due()  # the last step may have crossed the threshold
        last = self.state.evaluations[-1]
        if (last["when"], last["step"]) != ("end", self.state.step):
            self._evaluate("end")
            self._save()
        report.warn_if_not_ternary(self._reporter, self.student)

    def _step(self) -> None:
        state = self.state
        started = time.perf_counter()
        rewrite = self._author.of_step(state.step) if self._author else None
        batches = [self.sampler.next(rewrite) for _ in range(self.options.accumulate)]
        rate = self.schedule.rate(state.step) * state.rate_scale
        result = self.stepper.step(batches, rate, decay=self.schedule.decays(state.step))
        if not result.finite:
            self._refuse(result)
            return
        state.step, state.refused_in_a_row = state.step + 1, 0
        self._reporter.resumes = True  # a stop saves the step
        state.seen_tokens += result.tokens
        state.meter.add(result, time.perf_counter() - started)
        self._report_progress()
        saving = state.step % self.options.checkpoint_interval == 0 and not self.finished
        if saving or self.finished or state.step == 1 or state.step % self._log_interval == 0:
            before, steps = state.last, state.meter.completed
            self._report_step(result, rate)
            self._stop_if_diverged(before, steps)
            if self._held_out and recovery_due(state.evaluations, state.step):
                self._evaluate("recovery")
        if saving:
            self._evaluate("checkpoint")
            if not state.divergence.suspected:
                self._save()
        elif not self.finished and (when := report.due(state, self._cadence)):
            self._evaluate(when)

    def _ramp_up(self) -> None:
        """Let the quantisers act as much as is due. A larger budget takes nothing back."""
        due = ramp.quantized_share(self.options.flip, self.state.seen_tokens)
        if due <= self.student.quantized_share:
            return
        self.student.quantized_share = due
        if due == 1:
            self._reporter.log(f"The student is ternary from {self.state.seen_tokens:,} tokens on.")
            self._evaluate("ternary")

    def _flip_if_due(self) -> None:
        """Lower the bits of the layers that are due."""
        state, before = self.state, self.student.layer_bits
        after = lowered(before, self.options.flip, state.seen_tokens)
        if before == after:
            return
        if state.step and before[0] != after[0] and state.evaluations[-1]["when"] != "before flip":
            self._evaluate("before flip")
        self.student.set_layer_bits(after)
        self._reporter.emit(flip_event(after, state.step, state.seen_tokens, self.student.config.a4_policy))
        if state.step:
            self._evaluate("after flip")

    # -- steps that are not finite, and losses that climb -----------------------------------------------

    def _refuse(self, result: StepResult) -> None:
        """Count a skipped step and say so; roll back or give up when too many follow each other."""
        state, scaler = self.state, self.stepper.scaler
        state.refused += 1
        state.refused_in_a_row += 1
        calibrating = scaler.is_enabled() and math.isfinite(float(result.parts_5[0])) and scaler.get_scale() > 1
        report.say_refused(self._reporter, state.step, result, scaler.get_scale() if calibrating else None)
        limit = _CALIBRATIONS_IN_A_ROW if calibrating else _REFUSALS_IN_A_ROW
        if state.refused_in_a_row < limit:
            return
        self._forget_removed()
        if self.last_checkpoint is not None and not state.rolled_back:
            self._roll_back(self.last_checkpoint)
            return
        raise report.not_finite(state, self.last_checkpoint)

    def _roll_back(self, path: Path) -> None:
        """Go back to the last good checkpoint, once, at half the learning rate."""
        refused, failed_at = self.state.refused, self.state.step
        self.state = restore(path, checkpoints.load(path), self.stepper, self.sampler, self._recipe, self._budget)
        self.state.refused, self.state.refused_in_a_row = refused, 0
        self.state.rolled_back, self.state.rate_scale = True, self.state.rate_scale / 2
        self._save()  # so that a run killed from here on is known to have rolled back
        report.say_rolled_back(self._reporter, failed_at, path)

    def _stop_if_diverged(self, before: dict[str, Any], steps: int) -> None:
        """End a training whose loss keeps climbing, before it overwrites a good checkpoint.

        Reports of steps before the student was ternary don't count: there the loss rises. `before` is the last one.
        """
        state = self.state
        if not (ramp.is_ternary(before) and ramp.is_ternary(state.last)):
            return
        if "ce" in state.last or self.options.on_policy.fraction == 1:  # the loss of own text alone is another one
            state.divergence.add(state.last["loss"], steps)
        if state.divergence.certain:
            raise report.diverged(state, self.last_checkpoint)

    # -- evaluations -----------------------------------------------------------------------------------

    def _evaluate(self, when: str) -> None:
        """Measure on the held-out traces, keep the result and emit it. Without held-out traces, only keep the row."""
        state = self.state
        state.unmeasured = when
        row: dict[str, Any] = {
            "when": when,
            "step": state.step,
            "seen_tokens": state.seen_tokens,
            **report.bits(self.student),
            **report.ramp_figures(self.student, self.options),
        }
        if self._held_out:
            figures, state.activations = heldout.measure(
                self.student,
                self._held_out,
                self.options.loss,
                self.options.batch_size,
                self._reporter,
                teacher=self.stepper.teacher,
            )
            row |= figures | state.activations | self._chance
            kept = when == "end" or (when == "checkpoint" and not state.divergence.suspected)
            if kept and ramp.is_ternary(row) and row["heldout_loss"] < state.best.get("heldout_loss", math.inf):
                state.best = {"step": state.step, "heldout_loss": row["heldout_loss"]}
            self._reporter.emit(Metric(**row))
        state.evaluations.append(row)
        state.unmeasured = None
        if self._held_out:
            checkpoints.tell_measured(self.last_checkpoint, row, self._reporter)
            report.warn_if_rising(self._reporter, state)

    # -- checkpoints -----------------------------------------------------------------------------------

    def _is_saved(self) -> bool:
        saved = self.folder and checkpoints.path_of(self.folder, self.state.step)
        return saved is not None and saved == self.last_checkpoint and checkpoints.health_of(saved).exists()

    def _forget_removed(self) -> None:
        """Neither go back to a checkpoint that is gone nor call it the best."""
        if self.last_checkpoint and report.say_if_removed(self._reporter, self.last_checkpoint):
            best = self.state.best.get("step", self.state.step)  # the present step is saved next
            if best != self.state.step and not is_file(checkpoints.path_of(self.last_checkpoint.parent, best)):
                self.state.best = {}
            self.last_checkpoint = None

    def _save(self) -> None:
        if self.folder is None:
            return
        self._forget_removed()
        state, stepper, tokenizer_hash = self.state, self.stepper, self._tokenizer_hash
        checkpoint = capture(state, stepper, self.sampler, self.schedule, tokenizer_hash, self._recipe)
        health = report.health(state, stepper, self.options, tokenizer_hash) | {"recipe": self._recipe}
        saved = checkpoints.save(self.folder, checkpoint, health)
        self.last_checkpoint = Path(saved.path)
        self._reporter.resumes = True
        self._reporter.emit(saved)
        self._reporter.artifact(checkpoints.health_of(self.last_checkpoint), "health")
        checkpoints.prune(self.folder, state.best.get("step"))

    # -- reports ---------------------------------------------------------------------------------------

    def _announce(self) -> None:
        options, state = self.options, self.state
        report.announce(self._reporter, self.stepper, options, self._examples, held_out=self._held_out_size)
        steps_left = math.inf if options.total_steps is None else options.total_steps - state.step
        reachable = state.seen_tokens + steps_left * options.accumulate * self.sampler.mean_supervised
        self._progress_in_tokens = reachable >= options.flip.budget
        bits = report.bits(self.student)
        budget.announce(self._reporter, self._budget, options.flip, state.seen_tokens, bits, self._cadence)
        if not self.finished:
            ramp.require_an_end(options, reachable)
            budget.warn_of_many_epochs(self._reporter, self._budget, reachable)
            report.say_what_ends_it_early(self._reporter, options, reachable)

    def _report_step(self, result: StepResult, rate: float) -> None:
        state = self.state
        state.last = report.step_figures(state, self.stepper, self.options, result)
        state.last |= {"lr": rate, "epoch": self.sampler.epoch}
        if state.first_loss is None:
            state.first_loss = state.last["loss"]
        self._reporter.emit(Metric(step=state.step, seen_tokens=state.seen_tokens, **state.last))

    def _report_progress(self) -> None:
        tokens, seen = self.options.flip.budget, self.state.seen_tokens
        if self._progress_in_tokens:
            self._reporter.progress(min(seen, tokens), tokens, "tokens", at=(self.state.step, seen))
        else:
            self._reporter.progress(self.state.step, self.options.total_steps, "steps", at=(self.state.step, seen))
