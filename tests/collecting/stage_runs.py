"""What tests of the collect stage share: its context, and what a run asked for and left behind."""

from pathlib import Path

from bitnet_core.runs.context import StageContext
from tests.builders import stage_context
from tests.teachers.fake_teacher import is_probe
from tests.teachers.server import ChatServer

PROBES = 2
"""Requests with which a run probes its teacher."""


def context(root: Path, server: ChatServer | None = None, **values: str) -> StageContext:
    """A small collection; without a server its teacher is the embedded one."""
    wanted = {"KD_NUM_PROMPTS": "12", "KD_MAX_TOKENS_PER_PROMPT": "16", "TEACHER_TOP_LOGPROBS": "5"}
    if server is not None:
        wanted |= {"TEACHER_PROVIDER": "llamacpp", "TEACHER_MODEL": "m", "TEACHER_BASE_URL": server.base_url}
    return stage_context(root, stage="collect", values=wanted | values)


def sequential_context(root: Path, server: ChatServer, **values: str) -> StageContext:
    """As `context`, asking one request after another unless KD_CONCURRENCY says otherwise."""
    return context(root, server, **{"KD_CONCURRENCY": "1"} | values)


def parquet_files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "data").glob("*.parquet"))}


def asked_prompts(server: ChatServer, since: int = 0) -> list[str]:
    return [asked.body["messages"][-1]["content"] for asked in server.asked[since:] if not is_probe(asked)]
