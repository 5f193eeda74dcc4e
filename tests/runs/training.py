"""The events of a training, as its health is judged by them."""

from bitnet_core.runs import health as limits
from bitnet_core.runs.health import Machine, train_health
from bitnet_core.runs.vitals import Plan, VitalSigns
from tests.builders import event

PLAN = Plan.of({"BUDGET_TOKENS": 1000, "FLIP_FRACTION": 0.8, "FLIP_POLICY": "hard", "FLIP_RAMP_FRACTION": 0.05,
                "TOTAL_STEPS": 100})  # fmt: skip


class Training:
    """Events of a training of 10 tokens and 1 s a step; `falls` is what the held-out loss loses a step."""

    def __init__(self, falls: float = 0.01) -> None:
        self.signs, self.step, self._falls = VitalSigns(), 0, falls

    def emit(self, kind: str, **fields) -> "Training":
        self.signs.feed(event(kind, t=1000.0 + self.step, **fields))
        return self

    def steps(self, number: int, **fields) -> "Training":
        for _ in range(number):
            self.step += 1
            figures = {"loss": 2.0, "grad_norm": 1.0, "tokens_per_s": 10.0, "nonfinite": 0, "activation_bits": 8}
            self.emit("metric", step=self.step, seen_tokens=self.step * 10, **{**figures, **fields})
        self.emit("progress", done=self.step * 10, total=1000, unit="tokens", eta_s=100.0 - self.step)
        return self

    def evaluate(self, loss: float | None = None, when: str = "checkpoint") -> "Training":
        loss = 6 - self._falls * self.step if loss is None else loss
        return self.emit("metric", step=self.step, seen_tokens=self.step * 10, when=when, heldout_loss=loss)

    def said(self, machine: Machine = limits.UNKNOWN_MACHINE, silent: float = 0.0, plan: Plan = PLAN):
        return train_health(self.signs.view(), plan, machine, silent)


def falling(steps: int = 40) -> Training:
    training = Training()
    for _ in range(steps // 10):
        training.steps(10).evaluate()
    return training
