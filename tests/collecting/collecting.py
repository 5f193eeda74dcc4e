"""What the tests of collecting share: a context for the stage, and what it left behind."""

from pathlib import Path
from typing import Any

from bitnet_core.runs.context import StageContext
from tests.builders import events_of, stage_context
from tests.collecting.fake_teacher import is_probe
from tests.teachers.server import ChatServer

PROBES = 2


def context(root: Path, server: ChatServer | None = None, **values: str) -> StageContext:
    wanted = {"KD_NUM_PROMPTS": "12", "KD_MAX_TOKENS_PER_PROMPT": "16", "TEACHER_TOP_LOGPROBS": "5"}
    if server is not None:
        wanted |= {"TEACHER_PROVIDER": "llamacpp", "TEACHER_MODEL": "m", "TEACHER_BASE_URL": server.base_url}
    return stage_context(root, stage="collect", values=wanted | values)


def one_by_one(root: Path, server: ChatServer, **values: str) -> StageContext:
    """The same with one request after the other, unless told otherwise."""
    return context(root, server, **{"KD_CONCURRENCY": "1"} | values)


def events(ctx: StageContext, kind: str) -> list[dict[str, Any]]:
    return [event for event in events_of(ctx.run_dir / "events.jsonl") if event["kind"] == kind]


def parquet(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "data").glob("*.parquet"))}


def asked_prompts(server: ChatServer, since: int = 0) -> list[str]:
    return [asked.body["messages"][-1]["content"] for asked in server.asked[since:] if not is_probe(asked)]
