"""Training goes on after `bitnet open`, on a machine that has nothing but the target, to the last bit."""

import json
import shutil
import time
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from tests.e2e.test_kill_and_resume import experiment, last_checkpoint, metrics, require_equal, start, wait

pytestmark = pytest.mark.timeout(300)


def test_training_resumes_elsewhere_as_if_it_had_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole, first = experiment(tmp_path / "whole"), experiment(tmp_path / "first")
    run = start(whole)
    wait(run, kill_at=None)
    uninterrupted = metrics([run])
    begun = start(first)
    wait(begun, kill_at=20)
    before = metrics([begun])
    target = f"STORAGE_LOCAL_DIR={tmp_path / 'target'}"
    assert main(["--root", str(first), "store", "push", "--set", target]) == 0
    assert main(["--root", str(first), "store", "verify", "--set", target]) == 0
    shutil.rmtree(first)

    home = tmp_path / "another-home"
    home.mkdir()
    for name, folder in {"HOME": "", "XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache"}.items():
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.chdir(home)
    assert main(["open", "local:first", "elsewhere", "--set", target]) == 0
    opened = home / "elsewhere"
    capsys.readouterr()
    assert main(["--root", str(opened), "store", "push", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sent_files"] == 0
    assert main(["--root", str(opened), "runs", "--json"]) == 0
    assert [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["interrupted"]

    resumed = start(opened)
    wait(resumed, kill_at=None)
    assert resumed.state() == "succeeded"
    after = metrics([resumed])
    assert min(step for step, *_ in after) > 1, "it did not begin anew"
    assert before | after == uninterrupted
    names, states = zip(*(last_checkpoint(root) for root in (whole, opened)), strict=True)
    assert names[0] == names[1]
    for part in ("model", "optimizer", "rng", "sampler", "step", "seen_tokens", "activation_bits", "recipe"):
        require_equal(states[0][part], states[1][part], part)
    while History.read(Experiment.open(opened)).active("upload"):  # the copy goes on by itself
        time.sleep(0.1)
    capsys.readouterr()
    assert main(["--root", str(opened), "store", "push", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] > 1
    assert main(["--root", str(opened), "store", "verify"]) == 0
