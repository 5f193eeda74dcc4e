"""Prompts that the student's template or tokenizer refuses: found before any request, counted, never paid for."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from bitnet_core.errors import BitnetError
from bitnet_core.stages import collect
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import reproject
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.schema import TOKENIZER_FOLDER
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, asked_prompts, context
from tests.teachers.fake_teacher import FakeTeacher
from tests.teachers.server import ChatServer
from tests.tokenizer.test_refused import FAILING, panicking
from tests.traces.samples import TEMPLATE, small_tokenizer

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]

NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
)
PLAIN, WITH_SYSTEM = ["One?", "Two?", "Three?"], ["Four?", "Five?"]


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, str]:
    """Settings: a small student's tokenizer, and a file of 5 prompts, of which 1 and 3 have a system message."""
    small_tokenizer().save(tmp_path / "student")
    path = tmp_path / "prompts.jsonl"
    lines = [[{"role": "user", "content": text}] for text in PLAIN]
    for place, text in zip((1, 3), WITH_SYSTEM, strict=True):
        lines.insert(place, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}])
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in lines))
    return {"TOKENIZER_NAME": str(tmp_path / "student"), "KD_PROMPTS_FILE": str(path), "KD_NUM_PROMPTS": "5"}


def _rows(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / "data" / "sequences.parquet").to_pylist()


def _alerts(ctx: Any, code: str) -> list[dict[str, Any]]:
    return [one for one in emitted(ctx, "alert") if one["code"] == code]


def test_refused_prompts_are_counted_and_not_asked(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str]
) -> None:
    wanted |= {"TEMPLATE": NO_SYSTEM, "KD_SHARD_SEQUENCES": "1"}
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        ctx = context(tmp_path / "e", server, **wanted)
        summary = collect.run(ctx)
        assert sorted(asked_prompts(server)) == sorted(PLAIN)
        assert len(server.asked) == len(PLAIN) + PROBES
        again = collect.run(context(tmp_path / "e", server, **wanted))
        assert len(server.asked) == len(PLAIN) + PROBES
    assert summary["sequences"] == again["sequences"] == 3
    assert summary["rejected"] == again["rejected"] == {"refused_by_template": 2}
    assert summary["spent"]["requests"] == len(PLAIN) + PROBES
    rows = _rows(tmp_path / "e")
    assert [row["rejected"] for row in rows] == ["", "refused_by_template", "", "refused_by_template", ""]
    assert len(load_traces(tmp_path / "e" / "data", 5).sequences) == 3
    (alert,) = _alerts(ctx, "prompts_refused")
    assert (
        "refuses 2 of 5 prompts (the first is prompt 1: System role not supported); they are not asked"
        in alert["message"]
    )
    assert "TEMPLATE_SYSTEM=merge" in alert["advice"]
    (last,) = _alerts(ctx, "sequences_rejected")
    assert "2 refused by template" in last["message"]


@pytest.mark.parametrize("kept", [False, True])
def test_a_template_that_refuses_every_prompt_ends_the_run_before_it_spends(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str], kept: bool
) -> None:
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        if kept:
            collect.run(context(tmp_path / "e", server, **wanted))
        asked = len(server.asked)
        with pytest.raises(
            BitnetError, match=r"refuses every prompt \(prompt 0: no\); change these prompts, or TEMPLATE"
        ):
            collect.run(context(tmp_path / "e", server, **wanted, TEMPLATE="{{ raise_exception('no') }}"))
        assert len(server.asked) == asked


def test_merging_asks_for_every_prompt_and_trains_on_the_merged_message(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str]
) -> None:
    wanted |= {"TEMPLATE": NO_SYSTEM}
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        refused = collect.run(context(tmp_path / "e", server, **wanted))
        before = len(server.asked)
        merged = collect.run(context(tmp_path / "e", server, **wanted, TEMPLATE_SYSTEM="merge"))
        assert sorted(asked_prompts(server, before)) == sorted(WITH_SYSTEM)
        # The teacher is asked with the messages as they are.
        assert sum(asked.body["messages"][0]["role"] == "system" for asked in server.asked) == 2
    assert merged["rejected"] == {}
    assert merged["config_hash"] != refused["config_hash"]
    rows = _rows(tmp_path / "e")
    assert rows[1]["rendered_prompt"].startswith("<|im_start|>user\nBe brief.\n\nFour?<|im_end|>")
    saved = tmp_path / "e" / "data" / TOKENIZER_FOLDER
    theirs = PreTrainedTokenizerFast.from_pretrained(str(saved))
    for row in rows:
        messages = json.loads(row["messages_json"])
        assert (
            theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == row["rendered_prompt"]
        )
        assert load_tokenizer(saved).render_prompt(messages) == row["rendered_prompt"]


def test_keeping_is_the_default_and_changes_no_hash(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str]
) -> None:
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        plain, kept = (
            collect.run(context(tmp_path / "e", server, **wanted, **more))
            for more in ({}, {"TEMPLATE_SYSTEM": "keep"})
        )
        assert len(server.asked) == 5 + PROBES
    assert plain["config_hash"] == kept["config_hash"]


def test_an_answer_that_is_kept_outlives_a_template_that_refuses_its_prompt(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str]
) -> None:
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        first = collect.run(context(tmp_path / "e", server, **wanted))
        asked = len(server.asked)
        ctx = context(tmp_path / "e", server, **wanted, TEMPLATE=NO_SYSTEM)
        assert collect.run(ctx)["rejected"] == {"refused_by_template": 2}
        assert collect.run(context(tmp_path / "e", server, **wanted))["sequences"] == first["sequences"] == 5
        assert len(server.asked) == asked


def test_prompts_that_are_asked_again_are_refused_again_and_rendered_once(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []
    render = StudentTokenizer.render_prompt
    monkeypatch.setattr(
        StudentTokenizer,
        "render_prompt",
        lambda self, messages: rendered.append(messages[-1]["content"]) or render(self, messages),
    )
    wanted |= {"KD_NUM_PROMPTS": "12", "TEMPLATE": NO_SYSTEM}
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        summary = collect.run(context(tmp_path / "e", server, **wanted))
        assert set(asked_prompts(server)) == set(PLAIN)
    assert summary["rejected"] == {"refused_by_template": 5}
    assert summary["sequences"] == 7
    # Once in the survey and once for each row that is written.
    assert rendered.count("Four?") == 1 + 3


def test_a_projection_leaves_out_what_its_template_refuses(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str]
) -> None:
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        collect.run(context(tmp_path / "e", server, **wanted))
    data = tmp_path / "e" / "data"
    source = str(data / TOKENIZER_FOLDER)
    assert reproject.reproject(data, source, NO_SYSTEM)["rejected"] == {"refused_by_template": 2}
    merged = reproject.reproject(data, source, NO_SYSTEM, merge_system=True)
    assert (merged["sequences"], merged["rejected"]) == (5, {})
    said = r"/_tokenizer can read none .*5 refused by template; prompt 0: no\); [^=]* or set --template\.$"
    with pytest.raises(BitnetError, match=said):
        reproject.reproject(data, source, "{{ raise_exception('no') }}")


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{% if 'Two' not in messages[-1].content %}{{ messages[-1].content }}{% endif %}", "Two?"),
        ("{% if messages | length > 1 %}{{ messages[-1].content }}{% endif %}", "One?"),
        ("{{ messages[-1].content if messages | length > 1 else 'constant' }}", "One?"),
    ],
)
def test_a_prompt_that_becomes_no_text_is_left_out_of_the_traces(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str], template: str, rendered: str
) -> None:
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        first = collect.run(context(tmp_path / "all", server, **wanted))
        summary = collect.run(context(tmp_path / "e", server, **wanted, TEMPLATE=template))
        assert rendered not in asked_prompts(server, first["spent"]["requests"])
    refused = summary["rejected"]["refused_by_template"]
    assert summary["sequences"] == 5 - refused > 0
    assert len(load_traces(tmp_path / "e" / "data", 5).sequences) == 5 - refused
    # Answers that are kept are projected without that prompt, too.
    data = tmp_path / "all" / "data"
    found = reproject.reproject(data, str(data / TOKENIZER_FOLDER), template)
    assert (found["sequences"], found["rejected"]) == (5 - refused, {"refused_by_template": refused})
    assert len(load_traces(Path(found["folder"]), 5).sequences) == 5 - refused


def test_a_prompt_on_which_the_tokenizer_panics_is_counted_and_not_asked(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, wanted: dict[str, str]
) -> None:
    panicking().save(tmp_path / "student")
    prompts = tmp_path / "plain.txt"
    prompts.write_text(f"One?\n{FAILING}\nThree?\n")
    wanted |= {"KD_PROMPTS_FILE": str(prompts), "KD_NUM_PROMPTS": "3"}
    with ChatServer(FakeTeacher(teacher_tokenizer)) as server:
        ctx = context(tmp_path / "e", server, **wanted)
        assert collect.run(ctx)["rejected"] == {"refused_by_tokenizer": 1}
        assert sorted(asked_prompts(server)) == ["One?", "Three?"]
        (alert,) = _alerts(ctx, "prompts_refused")
        assert alert["message"].startswith("The tokenizer of changed refuses 1 of 3 prompts (the first is prompt 1: ")
        assert alert["advice"] == "Change these prompts, or TOKENIZER_NAME."
        prompts.write_text(f"{FAILING}\n")
        with pytest.raises(BitnetError, match=r"^The tokenizer of changed refuses every prompt \(prompt 0: it fails"):
            collect.run(context(tmp_path / "f", server, **wanted))
    assert len(load_traces(tmp_path / "e" / "data", 5).sequences) == 2
