"""The teacher stage after a stop or a failure: which answers it goes on with."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.evaluation import kept_answers
from bitnet_core.runs.context import StageContext
from bitnet_core.stages import teacher
from tests.builders import emitted
from tests.stages.test_teacher import ASKED, context, report, solve
from tests.teachers.server import Asked, Canned, ChatServer

SLOW = 0.3
REFUSED = Canned({"error": {"message": "Invalid API key", "code": "invalid_api_key"}}, 401)


class Server:
    """Answers all requests, unless `reply` gives another answer to the one with that number in this run."""

    def __init__(self) -> None:
        self.begun = 0
        self.reply: Callable[[int], Canned | None] = lambda _number: None
        self.http = ChatServer(self._answer)

    def _answer(self, number: int, asked: Asked) -> Canned:
        return self.reply(number - self.begun) or solve(asked)

    def run(self, root: Path, at: int | None = None, **values: str) -> StageContext:
        """Run the stage; ask it to stop at that request."""
        ctx = context(root, self.http, **{**ASKED, "KD_CONCURRENCY": "1", **values})
        self.begun = len(self.http.asked)

        def stop(number: int) -> None:
            if number == at:
                ctx.request_stop()
                time.sleep(SLOW)

        if at is not None:
            self.reply = stop
        teacher.run(ctx)
        return ctx

    @property
    def asked(self) -> int:
        """How often it was asked in this run."""
        return len(self.http.asked) - self.begun


def _kept(root: Path) -> Path:
    return root / "reports" / kept_answers.FILE


def test_a_stopped_baseline_goes_on_with_the_answers_it_has(tmp_path: Path) -> None:
    server = Server()
    with server.http:
        warm, prompts, twice, items = 1, 3, 3, 8
        with pytest.raises(Stopped, match="starting it again continues it"):
            server.run(tmp_path, at=warm + 2)
        with pytest.raises(Stopped):
            server.run(tmp_path, at=warm + (prompts - 2) + twice + 5)
        ctx = server.run(tmp_path)
        assert server.asked == warm + twice + (items - 5)
        assert any("8 answers are there from an earlier run" in one["message"] for one in emitted(ctx, "log"))
    found = report(tmp_path)
    assert found["answered"] == prompts
    assert found["usage"] == {"prompt_tokens": 7 * prompts, "completion_tokens": 4 * prompts}
    assert found["checks"]["total"]["answered"] == items
    assert found["checks"]["usage"] == {"prompt_tokens": 7 * items, "completion_tokens": 4 * items}
    assert not _kept(tmp_path).exists()


def test_a_failed_baseline_goes_on_and_each_answer_keeps_its_latency(tmp_path: Path) -> None:
    server = Server()

    def slow_then_refuse(number: int) -> Canned | None:
        time.sleep(SLOW if number == 1 else 0)
        return REFUSED if number >= 2 else None

    server.reply = slow_then_refuse
    with server.http:
        with pytest.raises(BitnetError, match="GROQ_API_KEY"):
            server.run(tmp_path)
        server.reply = lambda _number: None
        server.run(tmp_path)
    found = report(tmp_path)
    assert found["generations"][0]["seconds"] >= SLOW
    assert found["wall_s"] >= SLOW


@pytest.mark.parametrize("other", [{"TEACHER_BASELINE_MAX_TOKENS": "9"}, {"SEED": "5"}, {"GROQ_MODEL": "other"}])
def test_answers_of_other_settings_or_teachers_are_not_taken_over(tmp_path: Path, other: dict[str, str]) -> None:
    server = Server()
    with server.http:
        with pytest.raises(Stopped):
            server.run(tmp_path, at=3)
        server.run(tmp_path, **other)
        assert server.asked == 1 + 3 + 3 + 8


def test_what_cannot_be_read_of_the_answers_is_asked_for_again(tmp_path: Path) -> None:
    server = Server()
    with server.http:
        with pytest.raises(Stopped):
            server.run(tmp_path, at=3)
        first, second = [line for line in _kept(tmp_path).read_bytes().split(b"\n") if line]
        deep = b'{"same":"s","z":' + b"[" * 200_000
        odd = b'{"same": 1}\n[]\n\xff\n' + deep + b"\n" + first.replace(b'"seconds":', b'"seconds":-')
        _kept(tmp_path).write_bytes(odd + b"\n" + second + b'\n{"same": "cut')
        server.run(tmp_path)
        assert server.asked == 1 + (3 - 1) + 3 + 8


@pytest.mark.parametrize(
    ("in_the_way", "why"),
    [
        (lambda path: path.symlink_to("/dev/full"), "(No space left on device); free space"),
        (Path.mkdir, "(Is a directory); move the folder away"),
    ],
)
def test_answers_that_can_not_be_kept_are_one_alert(
    tmp_path: Path, in_the_way: Callable[[Path], None], why: str
) -> None:
    (tmp_path / "reports").mkdir()
    in_the_way(_kept(tmp_path))
    server = Server()
    with server.http:
        ctx = server.run(tmp_path)
    assert report(tmp_path)["answered"] == 3
    told = [one["message"] for one in emitted(ctx, "alert") if one["code"] == "answers_not_kept"]
    assert len(told) == 1
    assert f"{_kept(tmp_path)} can't be written {why}" in told[0]
