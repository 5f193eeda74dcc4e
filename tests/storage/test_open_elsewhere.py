"""Training goes on after `bitnet open`, on a machine that has nothing but the target, to the last bit."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.cli.main import main
from tests.e2e.test_kill_and_resume import experiment, last_checkpoint, metrics, require_equal, start, wait
from tests.storage.stand import Stand, all_stands, webdav

pytestmark = pytest.mark.timeout(600)
THROUGH = (
    "s3 on seaweedfs",
    "local",
    webdav(),
    "firebase",
    "rclone to s3",
    "dynamodb on ministack",
    "mongodb",
)
STANDS = sorted((one for one in all_stands() if one.name in THROUGH), key=lambda one: THROUGH.index(one.name))
QUICK = next(one for one in STANDS if not one.missing())
TARGETS = [pytest.param(one, id=one.name, marks=[] if one is QUICK else pytest.mark.storage_long) for one in STANDS]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[Any, Any]]:
    """A training that was never stopped: its folder and its metrics."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        root = experiment(tmp_path_factory.mktemp("whole") / "whole")
        run = start(root)
        wait(run, kill_at=None)
        return root, metrics([run])


@pytest.mark.parametrize("stand", TARGETS)
def test_training_resumes_elsewhere_as_if_it_had_never_stopped(
    stand: Stand,
    uninterrupted: tuple[Path, Mapping[Any, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if why := stand.missing():
        pytest.skip(f"{stand.name}: {why}")
    whole, expected = uninterrupted
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "server").mkdir()
    with stand.start(tmp_path / "server") as running:
        for name, value in {**running.environment, **running.keys}.items():
            monkeypatch.setenv(name, value)
        target = [word for name, value in running.settings.items() for word in ("--set", f"{name}={value}")]
        first = experiment(tmp_path / "first")
        begun = start(first)
        wait(begun, kill_at=10)
        before = metrics([begun])
        assert main(["--root", str(first), "store", "push", *target]) == 0
        assert main(["--root", str(first), "store", "verify", *target]) == 0
        shutil.rmtree(first)

        home = tmp_path / "another-home"
        home.mkdir()
        for name, folder in {"HOME": "", "XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache"}.items():
            monkeypatch.setenv(name, str(home / folder))
        monkeypatch.chdir(home)
        assert main(["open", f"{running.settings['STORAGE_BACKEND']}:first", "elsewhere", *target]) == 0
        opened = home / "elsewhere"
        capsys.readouterr()
        assert main(["--root", str(opened), "store", "push", "--json", *target]) == 0
        assert json.loads(capsys.readouterr().out)["sent_files"] == 0
        assert main(["--root", str(opened), "runs", "--json"]) == 0
        assert [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["interrupted"]

        with (opened / ".env").open("a") as env:
            env.write("STORAGE_SYNC=off\n")
        resumed = start(opened)
        wait(resumed, kill_at=None)
        assert resumed.state() == "succeeded"
        after = metrics([resumed])
        assert min(step for step, *_ in after) > 1, "it did not begin anew"
        assert before | after == expected
        names, states = zip(*(last_checkpoint(root) for root in (whole, opened)), strict=True)
        assert names[0] == names[1]
        for part in ("model", "optimizer", "rng", "sampler", "step", "seen_tokens", "activation_bits", "recipe"):
            require_equal(states[0][part], states[1][part], part)
        capsys.readouterr()
        assert main(["--root", str(opened), "store", "push", "--json", *target]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] > 1
        assert main(["--root", str(opened), "store", "verify", *target]) == 0
