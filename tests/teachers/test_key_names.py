"""A refused key is called by the setting that it came from, not by another one that would change nothing."""

from pathlib import Path

import pytest

from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.opening import open_teacher
from bitnet_core.teachers.refusals import KeyRefused
from tests.builders import stage_context
from tests.teachers.server import Canned, serving

REFUSED = Canned({"error": {"message": "Invalid API key"}}, 401)
FIRST, SECOND = "sk-1111111111111111first", "sk-2222222222222222second"


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"OPENAI_API_KEY": FIRST}, "OPENAI_API_KEY"),
        ({"TEACHER_API_KEY": FIRST}, "TEACHER_API_KEY"),
        ({"TEACHER_API_KEY": FIRST, "OPENAI_API_KEY": SECOND}, "TEACHER_API_KEY"),
    ],
)
async def test_of_several_keys_the_one_that_was_sent_is_named(
    keys: dict[str, str], named: str, tmp_path: Path
) -> None:
    with serving(REFUSED) as server:
        settings = {"TEACHER_PROVIDER": "openai", "TEACHER_BASE_URL": server.base_url, "TEACHER_MODEL": "m"}
        ctx = stage_context(tmp_path / "e", "collect", settings, keys)
        async with open_teacher(ctx, TeacherOptions.of(ctx.settings), device=lambda: None, parallel=1) as teacher:
            with pytest.raises(KeyRefused) as caught:
                await teacher.chat(ChatRequest(({"role": "user", "content": "Hi"},), 4, 0.0, 1.0))
    assert f"the key in {named} (" in str(caught.value)
    assert f"`bitnet keys set {named}`" in str(caught.value)
    assert {asked.headers["Authorization"] for asked in server.asked} == {f"Bearer {keys[named]}"}
