"""The guide offers what other experiments here use: their storage target and their own server."""

from dataclasses import replace
from pathlib import Path

import pytest

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
_IS_KEPT = "first has its copy in runs at http://minio:9000 (S3 or compatible)."


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


def test_nothing_is_offered_that_would_replace_what_was_typed():
    address = Draft().having("VLLM_BASE_URL", "http://elsewhere:8000/v1")
    for typed in (address, address.having("TEACHER_PROVIDER", "vllm"), Draft().having("VLLM_MODEL", "other")):
        assert used.teacher(typed, [_FIRST]) is None
    same = Draft().having("TEACHER_PROVIDER", "vllm").having("VLLM_BASE_URL", _SETTINGS["VLLM_BASE_URL"])
    assert used.teacher(same, [_FIRST]) is _FIRST
    for name in ("S3_BUCKET", "S3_ENDPOINT_URL", "S3_PREFIX"):  # typed before another target was looked at
        assert used.target(Draft().having(name, "other"), [_FIRST]) is None


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"STORAGE_BACKEND": "s3", "S3_BUCKET": "runs"}, "runs (S3 or compatible)"),
        (_SETTINGS, "runs at http://minio:9000 (S3 or compatible)"),
        ({"STORAGE_BACKEND": "webdav", "WEBDAV_URL": "https://lab", "S3_BUCKET": "old"}, "https://lab (WebDAV)"),
        (
            {"STORAGE_BACKEND": "supabase", "SUPABASE_URL": "https://a.b", "SUPABASE_BUCKET": "runs"},
            "runs at https://a.b (Supabase)",
        ),
        ({"STORAGE_BACKEND": "dynamodb", "DYNAMO_ENDPOINT_URL": "http://db:8000"}, "http://db:8000 (DynamoDB)"),
        ({"STORAGE_BACKEND": "gdrive"}, "Google Drive"),
    ],
)
def test_a_target_is_told_with_the_server_that_the_keys_go_to(settings: dict[str, str], where: str):
    assert used.target_words(of_settings(settings, "first")) == f"first has its copy in {where}."


async def test_one_click_takes_over_what_another_experiment_uses(home: Path):
    env = experiment(home, "first").root / ".env"
    env.write_text("".join(f"{name}={text}\n" for name, text in _SETTINGS.items()))
    async with app(home).run_test(size=(100, 30)) as pilot:
        guide = await at(pilot, "storage")
        await until(pilot, lambda: _IS_KEPT in words(pilot))
        await choose(pilot, "webdav")
        assert "first has its copy" not in words(pilot) and "As in first" not in words(pilot)
        await choose(pilot, "here")
        await click_on(pilot, "As in first")
        await until(pilot, lambda: field_of(guide, "S3_BUCKET") is not None)
        assert field_of(guide, "S3_BUCKET").value == "runs"
        assert "As in first" not in words(pilot)
        await guide._come_to("teacher")
        await until(pilot, lambda: "first uses llama at http://lab:8000/v1 (vLLM)." in words(pilot))
        await settled(pilot)
        await click_on(pilot, "As in first")
        await until(pilot, lambda: guide.draft.values == _SETTINGS)
