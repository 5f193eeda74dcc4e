"""The training loop: steps, the flip, evaluations, checkpoints, and what is said about them. Stages build it.

One loop turn is one *completed* optimizer step; a step whose loss or gradient is not finite changes nothing but
its counter. All that decides what comes next (cursor, seen tokens, bits, optimizer, RNG) is in the checkpoint,
so a resumed run is the uninterrupted one, bit for bit on a CPU.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.model.precision import INDUCTOR_CACHE, Precision
from bitnet_core.model.student import Student
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.events import CheckpointSaved, Flip, Metric
from bitnet_core.traces.examples import Example, collate
from bitnet_core.training import checkpoints, heldout
from bitnet_core.training.batches import Sampler
from bitnet_core.training.checkpoints import Checkpoint
from bitnet_core.training.flip import BITS_AFTER, BITS_BEFORE, flip_report
from bitnet_core.training.heldout import HeldOut
from bitnet_core.training.monitor import Divergence, Meter, Stopwatch, TernaryWatch, a4_health, memory
from bitnet_core.training.options import TrainOptions
from bitnet_core.training.step import Stepper, StepResult

_REFUSALS_IN_A_ROW = 3
_CALIBRATIONS_IN_A_ROW = 24  # an fp16 loss scale starts at 2^16 and halves at each overflow


class Trainer:
    """Trains one student on one set of examples; `run` returns the summary of the stage."""

    def __init__(
        self,
        ctx: StageContext,
        student: Student,
        train: Sequence[Example],
        held_out: Sequence[Example],
        options: TrainOptions,
        *,
        device: torch.device,
        precision: Precision,
        tokenizer_hash: str,
    ) -> None:
        self.ctx, self.options, self.device = ctx, options, device
        self.student = student.to(device).train()
        if not options.quantize:
            self.student.activation_bits = None
        self.tokenizer_hash = tokenizer_hash
        self.held_out = heldout.choose(held_out)
        self.stepper = Stepper(self.student, options, device, precision)
        capacity = options.max_seq_len if options.pack else None
        shape = (options.batch_size, options.max_seq_len) if options.compiled else None
        self.sampler = Sampler(train, options.batch_size, options.seed, capacity, options.workers, shape)
        self.recipe = options.recipe() | {"traces": self.sampler.fingerprint}
        self.meter = Meter()
        self.divergence = Divergence()
        self.ternary = TernaryWatch()
        self.activations: dict[str, float] = {}
        self.rate_scale = 1.0
        self.rolled_back = False
        self.step = 0
        self.seen_tokens = 0
        self.refused = 0
        self.refused_in_a_row = 0
        self.first_loss: float | None = None
        self.evaluations: list[dict[str, Any]] = []
        self.unmeasured: str | None = None
        """The evaluation that a stop cut short; it is made up for when training goes on."""
        self.best: dict[str, Any] = {}
        self.resumed_from: Path | None = None
        self.last_checkpoint: Path | None = None
        self.last: dict[str, Any] = {}
        self._unit = "steps"

    @property
    def finished(self) -> bool:
        return self.step >= self.options.total_steps or self.seen_tokens >= self.options.flip.budget_tokens

    def resume(self) -> None:
        """Go on from the newest complete checkpoint, if there is one; refuse one of another student.

        One of another recipe is set aside: mixed into this one, it would be certified under settings it never saw.
        """
        folder = self.ctx.experiment.checkpoints
        path = checkpoints.latest(folder)
        for newer in checkpoints.found(folder):
            if newer == path:
                break
            self.ctx.alert(
                "warning", "checkpoint_incomplete", f"{newer} is incomplete and is passed over.", "Move it away."
            )
        if path is None:
            return
        checkpoint = checkpoints.load(path)
        checkpoints.require_same_student(path, checkpoint, self.student.config, self.tokenizer_hash)
        changed = [name for name, value in self.recipe.items() if checkpoint.recipe.get(name) != value]
        if changed:
            aside = checkpoints.set_aside(folder)
            self.ctx.alert(
                "warning",
                "training_superseded",
                f"{', '.join(changed)} changed since {path.name}: training starts anew, "
                f"and the old checkpoints are kept in {aside}.",
                "To go on with them instead, move them back and set the old values again.",
            )
            return
        self._restore(checkpoint)
        self.resumed_from = self.last_checkpoint = path
        self.ctx.log(f"Going on from {path.name}: step {self.step}, {self.seen_tokens} tokens seen.")

    def run(self) -> dict[str, Any]:
        """Train to the end of the steps or the budget; a stop leaves a checkpoint and goes on up."""
        self._announce()
        try:
            if self.unmeasured:
                self._evaluate(self.unmeasured)
            if not self.evaluations:
                self._evaluate("start")
            while not self.finished:
                self.ctx.check_stop()
                self._flip_if_due()
                self._step()
            if self.options.flip.threshold < self.options.flip.budget_tokens:
                self._flip_if_due()  # the last step may have crossed the threshold
            if self.evaluations[-1]["when"] != "end" or self.evaluations[-1]["step"] != self.step:
                self._evaluate("end")
                self._save()
        except Stopped:
            if self.step and self.last_checkpoint != checkpoints.path_of(self.ctx.experiment.checkpoints, self.step):
                self._save()
            raise
        return self._summary()

    def _step(self) -> None:
        clock = Stopwatch()
        batches = [self.sampler.next() for _ in range(self.options.accumulate)]
        rate = self.options.schedule.rate(self.step) * self.rate_scale
        result = self.stepper.step(batches, rate, decay=self.options.schedule.decays(self.step))
        if not result.finite:
            self._refuse(result)
            return
        self.refused_in_a_row = 0
        self.step += 1
        self.seen_tokens += result.tokens
        self.meter.add(result.parts_5, result.tokens, clock.seconds())
        self._progress()
        saving = self.step % self.options.checkpoint_interval == 0 and not self.finished
        if saving or self.finished or self.step == 1 or self.step % self.options.log_interval == 0:
            self._report(result, rate)
            self._require_progress()
            self._follow_recovery()
        if saving:
            self._evaluate("checkpoint")
            if not self.divergence.suspected:
                self._save()

    def _refuse(self, result: StepResult) -> None:
        """A step that was not taken: count it, say it, and give up when it is no accident."""
        self.refused += 1
        self.refused_in_a_row += 1
        loss, norm = float(result.parts_5[0]), float(result.grad_norm)
        scaler = self.stepper.scaler
        if scaler.is_enabled() and math.isfinite(loss) and scaler.get_scale() > 1:
            limit = _CALIBRATIONS_IN_A_ROW
            self.ctx.log(f"The loss scale was too high after step {self.step}; it is {scaler.get_scale():g} now.")
        else:
            limit = _REFUSALS_IN_A_ROW
            what = "loss" if not math.isfinite(loss) else "gradient"
            self.ctx.alert(
                "warning",
                "nonfinite",
                f"The {what} after step {self.step} was not finite (loss {loss:g}, gradient norm {norm:g}); "
                "the step was skipped.",
                "A lower LR or GRAD_CLIP_NORM helps when it happens again.",
            )
        if self.refused_in_a_row < limit:
            return
        if self.last_checkpoint is not None and not self.rolled_back:
            self._roll_back(self.last_checkpoint)
            return
        again = ", again after going back to it at half the learning rate" if self.rolled_back else ""
        kept = self.last_checkpoint.name if self.last_checkpoint else "none yet"
        raise BitnetError(
            f"Loss or gradient was not finite {self.refused_in_a_row} times in a row after step {self.step}{again} "
            f"(last good checkpoint: {kept}); lower LR or GRAD_CLIP_NORM, or set TORCH_DTYPE=fp32."
        )

    def _roll_back(self, path: Path) -> None:
        """Go back to the last good checkpoint, once, at half the learning rate."""
        refused, failed_at = self.refused, self.step
        self._restore(checkpoints.load(path))
        self.refused, self.refused_in_a_row = refused, 0
        self.rolled_back, self.rate_scale = True, self.rate_scale / 2
        self._save()  # so that a run killed from here on knows of it
        self.ctx.alert(
            "warning",
            "rolled_back",
            f"Nothing was finite any more after step {failed_at}: training goes on from {path.name} "
            "at half the learning rate.",
            "It stops when that happens again; a lower LR from the start is better then.",
        )

    def _require_progress(self) -> None:
        """Stop a training whose loss climbs away; what was good is on the disk, and nothing is written over it."""
        self.divergence.add(self.last["loss"])
        if self.divergence.certain:
            kept = self.last_checkpoint.name if self.last_checkpoint else "none yet"
            raise BitnetError(
                f"Training diverged: the loss rose from {self.divergence.lowest:.3g} to {self.last['loss']:.3g} "
                f"by step {self.step} (last good checkpoint: {kept}); lower LR, or raise GRAD_ACCUM_STEPS."
            )

    def _flip_if_due(self) -> None:
        """Lower the bits of the layers whose turn it is. None goes back: a raised budget moves the others."""
        before = self.student.layer_bits
        due = self.options.flip.layer_bits(self.seen_tokens, len(before))
        after = tuple(old if old is None else min(old, new) for old, new in zip(before, due, strict=True))
        if before != after:
            if self.step and before[0] != after[0] and self.evaluations[-1]["when"] != "before flip":
                self._evaluate("before flip")
            self.student.set_layer_bits(after)
            self.ctx.emit(
                Flip(
                    step=self.step,
                    seen_tokens=self.seen_tokens,
                    from_bits=BITS_BEFORE,
                    to_bits=BITS_AFTER,
                    layers_flipped=after.count(BITS_AFTER),
                    layers_total=len(after),
                )
            )
            if self.step:
                self._evaluate("after flip")

    def _follow_recovery(self) -> None:
        """Measure at every report after a flip until the held-out loss is back where it was."""
        if self.held_out and flip_report(self.evaluations).get("flip_recovered_after_tokens", 0) is None:
            self._evaluate("recovery")

    def _evaluate(self, when: str) -> None:
        """Measure on the held-out traces, remember it, and emit it as a metric; without any, only remember."""
        self.unmeasured = when
        row: dict[str, Any] = {
            "when": when,
            "step": self.step,
            "seen_tokens": self.seen_tokens,
            "activation_bits": self.student.activation_bits,
        }
        if self.held_out:
            found = self._measure()
            self.activations = self._watch_activations()
            row |= found.metrics() | self.activations
            kept = when == "end" or (when == "checkpoint" and not self.divergence.suspected)
            if kept and found.loss < self.best.get("heldout_loss", math.inf):
                self.best = {"step": self.step, "heldout_loss": found.loss}
            self.ctx.emit(Metric(**row))
        self.evaluations.append(row)
        self.unmeasured = None

    def _measure(self) -> HeldOut:
        self.student.eval()
        try:
            return heldout.evaluate(
                self.student, self.held_out, self.options.loss, self.options.batch_size, self.ctx.check_stop
            )
        finally:
            self.student.train()

    def _watch_activations(self) -> dict[str, float]:
        batch = collate(self.held_out[:1]).to(self.device)
        self.student.eval()
        try:
            return a4_health(self.student, batch.ids_BT)
        finally:
            self.student.train()

    def _report(self, result: StepResult, rate: float) -> None:
        norm = float(result.grad_norm)
        self.last = self.meter.read() | {
            "lr": rate,
            "grad_norm": norm,
            "grad_norm_clipped": min(norm, self.options.clip_norm),
            "activation_bits": self.student.activation_bits,
            "layers_at_4_bits": self.student.layer_bits.count(BITS_AFTER),
            **(self.ternary.read(self.student) if self.options.quantize else {}),
            **self.activations,
            "nonfinite": self.refused,
            "epoch": self.sampler.epoch,
            **memory(self.device),
        }
        if self.first_loss is None:
            self.first_loss = self.last["loss"]
        self.ctx.emit(Metric(step=self.step, seen_tokens=self.seen_tokens, **self.last))

    def _save(self) -> None:
        folder = self.ctx.experiment.checkpoints
        saved = checkpoints.save(folder, self._checkpoint(), self._health())
        self.last_checkpoint = saved.path
        self.ctx.emit(CheckpointSaved(step=self.step, path=str(saved.path), bytes=saved.bytes, sha256=saved.sha256))
        self.ctx.artifact(checkpoints.health_of(saved.path), "health")
        checkpoints.prune(folder, self.best.get("step"))

    def _checkpoint(self) -> Checkpoint:
        rng: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        return Checkpoint(
            step=self.step,
            seen_tokens=self.seen_tokens,
            activation_bits=self.student.activation_bits,
            config=self.student.config,
            tokenizer_hash=self.tokenizer_hash,
            model=self.student.state_dict(),
            **self.stepper.state(),
            scheduler={"step": self.step, "next_lr": self.options.schedule.rate(self.step)},
            rng=rng,
            sampler=self.sampler.state(),
            counters={
                "layer_bits": list(self.student.layer_bits),
                "unmeasured": self.unmeasured,
                "refused": self.refused,
                "refused_in_a_row": self.refused_in_a_row,
                "first_loss": self.first_loss,
                "last": self.last,
                "meter": self.meter.state(),
                "divergence": self.divergence.state(),
                "ternary": self.ternary.state(),
                "activations": self.activations,
                "rate_scale": self.rate_scale,
                "rolled_back": self.rolled_back,
            },
            evaluations=self.evaluations,
            best=self.best,
            recipe=self.recipe,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        try:
            self.student.load_state_dict(checkpoint.model)
            self.stepper.restore(checkpoint.optimizer, checkpoint.scaler)
        except (RuntimeError, ValueError, KeyError) as error:
            raise BitnetError(
                f"The checkpoint of step {checkpoint.step} does not fit the student that it describes; "
                "move it away to go on from the one before it."
            ) from error
        self.student.activation_bits = checkpoint.activation_bits
        if layer_bits := checkpoint.counters.get("layer_bits"):
            self.student.set_layer_bits(layer_bits)
        self.unmeasured = checkpoint.counters.get("unmeasured")
        self.step, self.seen_tokens = checkpoint.step, checkpoint.seen_tokens
        self.refused = checkpoint.counters["refused"]
        self.refused_in_a_row = checkpoint.counters["refused_in_a_row"]
        self.first_loss, self.last = checkpoint.counters["first_loss"], checkpoint.counters["last"]
        self.meter = Meter.from_state(checkpoint.counters["meter"])
        self.divergence = Divergence(**checkpoint.counters.get("divergence", {}))
        self.ternary.restore(checkpoint.counters.get("ternary"))
        self.activations = checkpoint.counters.get("activations", {})
        self.rate_scale = checkpoint.counters.get("rate_scale", 1.0)
        self.rolled_back = checkpoint.counters.get("rolled_back", False)
        self.evaluations, self.best = list(checkpoint.evaluations), dict(checkpoint.best)
        torch.set_rng_state(checkpoint.rng["cpu"])
        if self.device.type == "cuda" and "cuda" in checkpoint.rng:
            torch.cuda.set_rng_state(checkpoint.rng["cuda"], self.device)
        self.sampler.restore(checkpoint.sampler)

    def _health(self) -> dict[str, Any]:
        named = {key: value for key, value in self.last.items() if key not in ("activation_bits", "nonfinite")}
        return {
            "step": self.step,
            "seen_tokens": self.seen_tokens,
            "budget_tokens": self.options.flip.budget_tokens,
            "flip_at_tokens": self.options.flip.threshold,
            "activation_bits": self.student.activation_bits,
            "layers_at_4_bits": self.student.layer_bits.count(BITS_AFTER),
            "nonfinite": self.refused,
            "dtype": self.stepper.precision.name,
            "device": str(self.device),
            "rolled_back": self.rolled_back,
            # Of these very weights, which may be past the last report.
            **(TernaryWatch().read(self.student) if self.options.quantize else {}),
            "training": _finite(named),
            "heldout": _finite(self.evaluations[-1]) if self.held_out and self.evaluations else None,
            "best": _finite(self.best),
            **_finite(flip_report(self.evaluations)),
            "config": self.student.config.to_dict(),
            "tokenizer_hash": self.tokenizer_hash,
        }

    def _announce(self) -> None:
        """Log what will compute, and warn where the settings never reach the flip."""
        options, precision = self.options, self.stepper.precision
        self.ctx.log(
            f"Training {self.student.config.parameters():,} parameters on {self.device} in {precision.name} "
            f"({precision.reason}), masters in fp32, {torch.get_num_threads()} threads."
        )
        if options.compiled:
            cache = os.environ.get(INDUCTOR_CACHE, "the compiler's cache")
            self.ctx.log(
                "Compiling the student: the first step waits for the compiler, a minute or more, and so does the "
                f"first one after the flip; later runs find the result in {cache}."
            )
        steps_left = options.total_steps - self.step
        reachable = self.seen_tokens + steps_left * options.accumulate * self.sampler.mean_supervised
        self._unit = "tokens" if reachable >= options.flip.budget_tokens else "steps"
        if not self.finished and reachable < options.flip.threshold:
            self.ctx.alert(
                "warning",
                "no_flip",
                f"TOTAL_STEPS={options.total_steps} end at about {reachable:,.0f} tokens, before the flip to 4 bits "
                f"at {options.flip.threshold:,}.",
                f"Set BUDGET_TOKENS to about {reachable:.0f}, or raise TOTAL_STEPS.",
            )

    def _progress(self) -> None:
        if self._unit == "tokens":
            self.ctx.progress(
                min(self.seen_tokens, self.options.flip.budget_tokens), self.options.flip.budget_tokens, "tokens"
            )
        else:
            self.ctx.progress(self.step, self.options.total_steps, "steps")

    def _summary(self) -> dict[str, Any]:
        end = self.evaluations[-1]
        return {
            "steps": self.step,
            "seen_tokens": self.seen_tokens,
            "activation_bits": self.student.activation_bits,
            "first_loss": self.first_loss,
            "last_loss": self.last.get("loss"),
            **{key: value for key, value in end.items() if key.startswith("heldout")},
            "tokens_per_s": self.last.get("tokens_per_s"),
            **flip_report(self.evaluations),
            "nonfinite": self.refused,
            "checkpoint": str(self.last_checkpoint) if self.last_checkpoint else None,
            "resumed_from": str(self.resumed_from) if self.resumed_from else None,
        }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a figure that is not finite becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
