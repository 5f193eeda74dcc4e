"""Experiments with what a training and an evaluation leave: held-out figures, a flip, tables with intervals."""

from pathlib import Path
from typing import Any

from bitnet_core.results.compare import Comparison, compare
from bitnet_core.results.finding import reader_of
from bitnet_core.runs.experiment import Experiment, Workspace
from bitnet_core.settings.resolve import resolve
from tests.tui.simulated import NOON, SimulatedRun

STEPS, TOKENS = 20, 1000


def made(home: Path, name: str, **settings: Any) -> Experiment:
    env = "".join(f"{key}={value}\n" for key, value in {"BUDGET_TOKENS": STEPS * TOKENS, **settings}.items())
    root = Workspace(home).create(name, env)
    exp = Experiment.from_settings(resolve({"BITNET_HOME": str(home)}, root=root).settings)
    exp.ensure()
    return exp


def trained(
    exp: Experiment,
    loss: float,
    *,
    at: float = NOON,
    first: int = 1,
    last: int = STEPS,
    tokens: int = 2113,
    state: str = "succeeded",
    alive: bool = False,
) -> SimulatedRun:
    """A training whose held-out loss ends at `loss`; it flips after 9 steps of 10."""
    run = SimulatedRun(exp, "train", at, alive=alive)
    for step in range(first, last + 1):
        seen, falling = step * TOKENS, 4 * (1 - step / STEPS)
        if step == STEPS * 9 // 10:
            run.emit("flip", 0, step=step, seen_tokens=seen, from_bits=8, to_bits=4)
        run.emit("metric", step=step, seen_tokens=seen, loss=loss + falling, kl=1.0, ce=4.0, tokens_per_s=700.0)
        if step % 5 == 0:
            heldout: dict[str, float] = {
                "heldout_loss": loss + falling,
                "heldout_kl": loss + falling - 1,
                "heldout_ce": 4.0,
            }
            heldout |= {"heldout_agreement": 0.2, "heldout_tokens": tokens}
            run.emit("metric", 0, step=step, seen_tokens=seen, **heldout)
    if not alive:
        run.finish(state, flip_shock=0.014)
        (exp.checkpoints / f"mini_bitnet_step_{last}.pt").write_bytes(b"x")
    return run


def evaluated(
    exp: Experiment,
    *,
    at: float = NOON + 400,
    qei: float = 1.3,
    half: float = 0.05,
    speed: float = 90.5,
    how: str = "llama.cpp",
) -> SimulatedRun:
    """An evaluation with these half-widths of KL and CE, and 4 % around the ratio of the qualities."""
    run = SimulatedRun(exp, "eval", at)
    rows = [
        ["quality", 0.2, 0.4, "measured", "items and text"],
        ["memory, bytes", 16_400_000, 138_000_000, "measured", "llama.cpp"],
        ["speed, tokens/s", speed, 21.0, "measured", how],
        ["QEI", qei, None, "measured", "(Q_s/Q_t)/(M_s/M_t)"],
        ["QEI_speed", qei * 2, None, "measured", "QEI·TPS_s/TPS_t"],
    ]
    run.emit("table", name="qei", columns=["quantity", "student", "teacher", "origin", "how"], rows=rows)
    quality = [["Q_s/Q_t", "both", 0.5, 0.48, 0.52, None, None]]
    columns = ["part", "of", "value", "95 % from", "95 % to", "weight", "items"]
    run.emit("table", name="quality", columns=columns, rows=quality)
    imitation = [
        ["coarse KL", "student A4", 3.0, 3.0 - half, 3.0 + half, "nats/token"],
        ["cross-entropy, all tokens", "student A4", 4.0, 4.0 - half, 4.0 + half, "nats/token"],
    ]
    columns = ["figure", "of", "value", "95 % from", "95 % to", "unit"]
    run.emit("table", name="imitation", columns=columns, rows=imitation)
    run.finish(qei=qei)
    (exp.reports / "mini_evaluation_report.json").write_text("{}")
    return run


def collected(exp: Experiment, *, at: float = NOON - 900, usd: float | None = 0.04) -> SimulatedRun:
    run = SimulatedRun(exp, "collect", at)
    run.finish(spent={"requests": 220, "tokens": 51_000, "usd": usd})
    (exp.data / "kd_shard_000.parquet").write_bytes(b"x")
    return run


def compared(home: Path, *names: str) -> Comparison:
    """The comparison of these experiments."""
    return compare([reader_of(name, home).read() for name in names])


def cells(found: Comparison, name: str) -> list[str]:
    """What a measure's row shows of each."""
    row = next(row for row in found.rows if row.measure.name == name)
    return [row.cell(place) for place in range(len(found.subjects))]


def whole(
    home: Path,
    name: str,
    loss: float,
    half: float = 0.05,
    tokens: int = 2113,
    *,
    collects: bool = True,
    **settings: object,
) -> Path:
    """An experiment that was trained and evaluated, with traces that it has collected or was given; its folder."""
    exp = made(home, name, **settings)
    if collects:
        collected(exp)
    trained(exp, loss, tokens=tokens)
    evaluated(exp, half=half)
    return exp.root
