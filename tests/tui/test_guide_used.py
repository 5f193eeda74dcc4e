"""The guide offers what other experiments here use: their storage target and their own server."""

from dataclasses import replace
from pathlib import Path

from bitnet_tui.view.guide import used
from bitnet_tui.view.guide.draft import Draft, of_settings
from tests.tui.guides import app, at, choose, field_of
from tests.tui.pilots import click_on, settled, until, words
from tests.tui.simulated import experiment

_SETTINGS = {
    "STORAGE_BACKEND": "s3", "S3_BUCKET": "runs", "S3_ENDPOINT_URL": "http://minio:9000",
    "TEACHER_PROVIDER": "vllm", "VLLM_BASE_URL": "http://lab:8000/v1", "VLLM_MODEL": "llama",
}  # fmt: skip
_FIRST = of_settings(_SETTINGS, "first")


def test_a_target_and_a_server_are_offered_where_nothing_was_chosen():
    plain = of_settings({}, "plain")
    new = Draft()
    assert used.target(new, [plain, _FIRST]) is _FIRST is used.teacher(new, [plain, _FIRST])
    assert used.target(new, [plain]) is None is used.teacher(new, [plain])
    with_both = used.with_teacher(used.with_target(new, _FIRST), _FIRST)
    assert with_both.values == _SETTINGS
    assert used.target(with_both, [_FIRST]) is None is used.teacher(with_both, [_FIRST])
    of_that_kind = new.having("STORAGE_BACKEND", "s3").having("TEACHER_PROVIDER", "vllm")
    assert used.target(of_that_kind, [_FIRST]) is _FIRST is used.teacher(of_that_kind, [_FIRST])
    of_another = new.having("STORAGE_BACKEND", "webdav").having("TEACHER_PROVIDER", "openai")
    assert used.target(of_another, [_FIRST]) is None is used.teacher(of_another, [_FIRST])
    unfinished = replace(_FIRST, values={"STORAGE_BACKEND": "s3", "TEACHER_PROVIDER": "vllm"})
    assert used.target(new, [unfinished]) is None is used.teacher(new, [unfinished])


async def test_one_click_takes_over_what_another_experiment_uses(home: Path):
    env = experiment(home, "first").root / ".env"
    env.write_text("".join(f"{name}={text}\n" for name, text in _SETTINGS.items()))
    async with app(home).run_test(size=(100, 30)) as pilot:
        guide = await at(pilot, "storage")
        await until(pilot, lambda: "first is also kept in S3 or compatible, runs." in words(pilot))
        await choose(pilot, "webdav")
        assert "first is also" not in words(pilot) and "As in first" not in words(pilot)
        await choose(pilot, "here")
        await click_on(pilot, "As in first")
        await until(pilot, lambda: field_of(guide, "S3_BUCKET") is not None)
        assert field_of(guide, "S3_BUCKET").value == "runs"
        assert "As in first" not in words(pilot)
        await guide._come_to("teacher")
        await until(pilot, lambda: "first asks llama of vLLM at http://lab:8000/v1." in words(pilot))
        await settled(pilot)
        await click_on(pilot, "As in first")
        await until(pilot, lambda: guide.draft.values == _SETTINGS)
