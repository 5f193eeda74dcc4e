"""The tables of docs/RESULTS.md say what the runs' events say."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bitnet_core.settings.registry import REGISTRY


@pytest.fixture(scope="module")
def results() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "results.py"
    spec = importlib.util.spec_from_file_location("results", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results"] = module
    spec.loader.exec_module(module)
    return module


def row(when: str, kl: float, ce: float) -> dict[str, Any]:
    figures = {"heldout_kl": kl, "heldout_ce": ce, "heldout_loss": kl + ce}
    return {"kind": "metric", "when": when, "peak_rss_bytes": 1_000_000_000} | figures


def run(ce: float, *, state: str = "succeeded", flips: tuple[float, ...] = ()) -> list[dict[str, Any]]:
    summary = {
        "heldout_ce": ce,
        "heldout_kl": ce - 1,
        "heldout_agreement": 0.2,
        "heldout_tokens": 2867,
        "tokens_per_s": 800.0,
        "nonfinite": 0,
        "flip_recovered_after_tokens": 1234,
    }
    measured = [row("before flip", 2.0, 3.0)] if flips else []
    measured += [row("after flip", 2.0 + shock, 3.0 + 2 * shock) for shock in flips]
    return [{"kind": "metric", "step": 1}, *measured, {"kind": "run_finished", "state": state, "summary": summary}]


def test_only_a_run_that_ended_well_counts(results: ModuleType) -> None:
    assert results.outcome(run(3.0, state="failed")) is None
    assert results.outcome(run(3.0)[:-1]) is None
    one = results.outcome(run(3.0))
    assert one.summary["heldout_ce"] == 3.0
    assert one.shock("heldout_kl") is None


def test_the_shock_of_a_ramp_is_its_worst(results: ModuleType) -> None:
    one = results.outcome(run(3.0, flips=(0.01, 0.04, 0.02)))
    assert one.shock("heldout_kl") == pytest.approx(0.04)
    assert one.shock("heldout_ce") == pytest.approx(0.08)
    assert one.peak_rss_bytes == 1_000_000_000


def test_differences_are_paired_by_seed_and_what_is_missing_is_said(results: ModuleType) -> None:
    found: dict[str, dict[int, Any]] = {arm: {} for arm in results.ARMS}
    for seed, (kd, ce) in {1: (3.0, 3.5), 2: (4.0, 4.25)}.items():
        found["kd"][seed] = results.outcome(run(kd, flips=(0.01,)))
        found["ce"][seed] = results.outcome(run(ce))
    found["full"][1] = results.outcome(run(2.0))
    text = results.report(found, [1, 2], 1000)
    assert "-0.375 (-0.500 … -0.250): -0.500, -0.250" in text
    assert "full-seed2, a8-seed1, a8-seed2, ramp-seed1, ramp-seed2" in text
    assert "| kd |" in text and "3.500 (3.000 … 4.000)" in text
    assert "| 0.010 (0.010 … 0.010) | 0.020 (0.020 … 0.020) | 0.030 (0.030 … 0.030) | 1,234, 1,234 | 0 |" in text


def test_the_commands_name_settings_that_exist(results: ModuleType) -> None:
    for arm in results.ARMS:
        values = results.settings(arm, 1, 400_000)
        assert values.keys() <= REGISTRY.keys()
        argv = results.command(Path("r"), Path("t"), values)
        assert argv[:4] == ["bitnet", "--root", "r", "train"]
        assert "KD_DATA_PATH=t" in argv


def test_tables_go_between_the_markers_and_nowhere_else(results: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text(f"above\n{results.BEGIN}\nold\n{results.END}\nbelow\n")
    results.write_between(page, "new")
    results.write_between(page, "newer")
    assert page.read_text() == f"above\n{results.BEGIN}\n\nnewer\n\n{results.END}\nbelow\n"
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="lacks the lines"):
        results.write_between(page, "new")
