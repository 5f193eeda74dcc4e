"""An experiment, and a folder as its storage target."""

import json
from pathlib import Path

import pytest

from tests.cli.stored import CANARY, write


@pytest.fixture
def target(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = isolated / "target"
    folder.mkdir()
    monkeypatch.setenv("STORAGE_LOCAL_DIR", str(folder))
    return folder


@pytest.fixture
def exp(target: Path, isolated: Path) -> Path:
    """An experiment with a file of every kind; keys are in its `.env` and in the environment."""
    root = isolated / "exp"
    (isolated / "prompts.jsonl").write_text('{"prompt": "hello"}\n')
    write(root / ".env", f"LR=1e-4\nKD_PROMPTS_FILE={isolated}/prompts.jsonl\nOPENAI_API_KEY={CANARY}\n")
    write(root / "reports/report.json", '{"qei": 1}\n')
    for step, best in ((10, 10), (20, 10)):
        write(root / f"checkpoints/mini_bitnet_step_{step:08d}.pt", f"weights {step}")
        health = {"step": step, "best": {"step": best, "heldout_loss": 1.0}}
        write(root / f"checkpoints/mini_bitnet_step_{step:08d}_health.json", json.dumps(health))
    write(root / "data/kd_shard_000.parquet", "traces")
    write(root / "data.journal/answers.bin", "answers")
    write(root / "logs/train-1/output.log", "hello\n")
    return root
