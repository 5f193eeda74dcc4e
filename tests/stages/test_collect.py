"""The collect stage against a quick teacher over real HTTP, and once against the embedded one."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.runs.context import StageContext
from bitnet_core.stages import collect
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import schema
from bitnet_core.traces.dataset import load_traces
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, context, parquet_files
from tests.teachers.fake_teacher import FakeTeacher, is_probe
from tests.teachers.server import Asked, Canned, ChatServer

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]


def test_both_layers_are_written_and_a_second_run_asks_nothing(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer, seconds=0.1)) as server:
        ctx = context(tmp_path, server, KD_CONCURRENCY="3")
        summary = collect.run(ctx)
        assert len(server.asked) == 12 + PROBES
        assert 1 < server.most_at_once <= 3
        made = parquet_files(tmp_path)
        again = collect.run(context(tmp_path, server))
        assert len(server.asked) == 12 + PROBES
    assert parquet_files(tmp_path) == made
    assert summary["sequences"] == again["sequences"] == 12
    assert summary["coverage"] == 1.0
    assert summary["rejected"] == {}
    assert summary["logprob_mode"] == "raw"
    traces = load_traces(tmp_path / "data", 5)
    assert len(traces.sequences) == 12
    assert traces.tokenizer_hash == load_tokenizer(tmp_path / "data" / "_tokenizer").hash
    for one in traces.sequences:
        assert tokenizer.decode(one.completion_ids_C) == one.completion_text
        assert (one.completion_ids_C[-1] == tokenizer.eos_id) == (one.finish_reason == "stop")
    found = emitted(ctx, "trace")
    assert sorted(event["prompt_idx"] for event in found) == list(range(12))
    assert all(event["kept"] == event["tokens"] and event["dropped"] == {} for event in found)
    assert summary["tokens"] == sum(event["tokens"] for event in found)
    assert emitted(ctx, "progress")
    assert emitted(ctx, "metric")[-1]["tokens_per_s"] > 0


def test_asking_for_more_answers_keeps_the_old_ones(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="5"))
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="9"))
        assert len(server.asked) == 9 + 2 * PROBES
    assert len(load_traces(tmp_path / "data", 5).sequences) == 9
    assert not (tmp_path / "data.superseded").exists()


def test_what_was_really_sent_is_in_the_traces_metadata(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        named = next((name for name in ("min_p", "temperature") if name in asked.body), None)
        return Canned({"error": {"message": f"{named} is not supported"}}, 400) if named else None

    plain = {"KD_TEACHER_TEMPERATURE": "1", "KD_TEACHER_TOP_P": "1"}
    for root, fake, values, sent, codes in (
        ("plain", FakeTeacher(tokenizer), {}, {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "min_p": 0.0}, []),
        (
            "fixed",
            FakeTeacher(tokenizer, twist),
            plain,
            {"temperature": None, "top_p": 1, "top_k": 0, "min_p": None},
            ["scale_unmeasured", "sampling_fixed"],
        ),
    ):
        with ChatServer(fake) as server:
            ctx = context(tmp_path / root, server, **values)
            collect.run(ctx)
            collect.run(ctx)  # asks nothing, and still knows it
        for path in (tmp_path / root / "data").glob("*.parquet"):
            metadata = json.loads(pq.read_metadata(path).metadata[b"bitnet"])
            assert metadata["sampling_sent"] == sent
            assert metadata["sampling"]["temperature"] == float(values.get("KD_TEACHER_TEMPERATURE", 0.8))
        assert [event["code"] for event in emitted(ctx, "alert")] == codes
    rows = pq.read_table(tmp_path / "fixed" / "data" / schema.SEQUENCES_FILE).to_pylist()
    assert {(row["logprob_mode"], row["logprob_temperature"]) for row in rows} == {("unmeasured", None)}
    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        with pytest.raises(BitnetError, match=r"accepts no temperature.* KD_TEACHER_TEMPERATURE=1"):
            collect.run(context(tmp_path / "refused", server))
        assert all(map(is_probe, server.asked))  # nothing is paid for before it is told


def test_more_answers_than_prompts_ask_again_with_other_seeds(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    prompts = tmp_path / "two.txt"
    prompts.write_text("One?\nTwo?\n")
    root = tmp_path / "sampled"
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(root, server, KD_PROMPTS_FILE=str(prompts), KD_NUM_PROMPTS="6"))
        seeds = [asked.body["seed"] for asked in server.asked if not is_probe(asked)]
        greedy = collect.run(
            context(
                tmp_path / "greedy",
                server,
                KD_PROMPTS_FILE=str(prompts),
                KD_NUM_PROMPTS="6",
                KD_TEACHER_TEMPERATURE="0",
            )
        )
    assert len(set(seeds)) == 6
    assert greedy["sequences"] == 2


def test_other_settings_move_the_old_traces_and_going_back_is_free(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        first = parquet_files(tmp_path)
        ctx = context(tmp_path, server, KD_TEACHER_TEMPERATURE="0.5")
        collect.run(ctx)
        (folder,) = (tmp_path / "data.superseded").iterdir()
        assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == first
        assert [event["code"] for event in emitted(ctx, "alert")] == ["traces_superseded"]
        asked = len(server.asked)
        collect.run(context(tmp_path, server))
        assert len(server.asked) == asked
    assert parquet_files(tmp_path) == first


def test_an_unusable_teacher_leaves_the_old_traces_in_place(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
    first = parquet_files(tmp_path)
    with ChatServer(lambda *_: Canned({"error": "who are you"}, 401)) as server, pytest.raises(BitnetError):
        collect.run(context(tmp_path, server, KD_TEACHER_TEMPERATURE="0.5"))
    assert parquet_files(tmp_path) == first


def test_a_stop_keeps_what_was_answered_and_asks_only_for_the_rest(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    stopping: list[StageContext] = []

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> None:
        if number == 7 + PROBES:
            stopping[0].request_stop()
        time.sleep(0.05)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server, KD_CONCURRENCY="2", KD_NUM_PROMPTS="30")
        stopping.append(ctx)
        with pytest.raises(Stopped):
            collect.run(ctx)
        before = len(server.asked)
        assert before < 30
        summary = collect.run(context(tmp_path, server, KD_CONCURRENCY="2", KD_NUM_PROMPTS="30"))
        # Two were in flight, and the new run probes again.
        assert len(server.asked) <= 30 + 2 * PROBES + 2
    assert summary["sequences"] == 30
    assert summary["requests_resent"] <= 2


@pytest.mark.parametrize("preface", [0, 700])
@pytest.mark.parametrize(
    ("limit", "value", "name"),
    [("KD_MAX_REQUESTS", "9", "requests"), ("KD_MAX_TOKENS_TOTAL", "4000", "tokens"), ("KD_MAX_USD", "0.005", "usd")],
)
def test_a_limit_ends_the_asking_and_the_answers_so_far_are_used(
    tmp_path: Path, tokenizer: StudentTokenizer, limit: str, value: str, name: str, preface: int
) -> None:
    """Judged by the server's bill: it adds a preface, some answers can't be used, some requests fail first."""
    prices = tmp_path / "prices.toml"
    prices.write_text('[llamacpp."m"]\ninput = 1.0\noutput = 2.0\n')
    values = {limit: value, "KD_NUM_PROMPTS": "200", "KD_PRICES_FILE": str(prices), "KD_CONCURRENCY": "4"}
    billed = {"tokens": 0.0, "usd": 0.0}
    lock = threading.Lock()

    def twist(number: int, asked: Asked, body: dict[str, Any]) -> Canned | None:
        if number % 5 == 4:
            return Canned({"error": "busy"}, 503, {"Retry-After": "0"})
        usage = body["usage"]
        usage["prompt_tokens"] += preface
        with lock:
            billed["tokens"] += usage["prompt_tokens"] + usage["completion_tokens"]
            billed["usd"] += (usage["prompt_tokens"] * 1.0 + usage["completion_tokens"] * 2.0) / 1e6
        if number % 7 == 6 and not is_probe(asked):
            body["choices"][0]["logprobs"] = None
        return None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path / "e", server, **values)
        summary = collect.run(ctx)
        again = collect.run(context(tmp_path / "e", server, **values))
    assert summary["limit_reached"] == limit
    assert 0 < summary["sequences"] < 200
    assert again["sequences"] >= summary["sequences"]
    assert "limit_reached" in [event["code"] for event in emitted(ctx, "alert")]
    assert again["spent"][name] <= float(value)
    if name == "requests":
        assert len(server.asked) <= 9
    else:
        assert billed[name] <= float(value)
        assert billed[name] <= again["spent"][name] * (1 + 1e-9)
    assert len(load_traces(tmp_path / "e" / "data", 5).sequences) == again["sequences"]


def test_a_spent_quota_stops_at_once_and_resumes(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    spent = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned(spent, 429) if number >= PROBES + 6 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match=r"quota .* is spent"):
        collect.run(context(tmp_path, server, KD_CONCURRENCY="2"))
    assert len(server.asked) <= PROBES + 6 + 2
    with ChatServer(FakeTeacher(tokenizer)) as server:
        # Another address makes it another teacher: everything is asked anew.
        summary = collect.run(context(tmp_path, server))
    assert summary["sequences"] == 12


def test_a_hiccup_is_asked_again_and_a_long_prompt_is_counted(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if number == PROBES + 2:
            return Canned({"choices": []})
        if "JSON" in asked.body["messages"][-1]["content"] and not is_probe(asked):
            return Canned({"error": {"message": "the request exceeds the context size"}}, 400)
        return None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(context(tmp_path, server, KD_NUM_PROMPTS="30"))
    assert set(summary["rejected"]) == {"context_exceeded"}
    assert summary["sequences"] + summary["rejected"]["context_exceeded"] == 30


def no_logprobs(_number: int, _asked: Asked, body: dict[str, Any]) -> None:
    body["choices"][0]["logprobs"] = None


def scaled(_number: int, asked: Asked, body: dict[str, Any]) -> None:
    for sampled in body["choices"][0]["logprobs"]["content"]:
        for token in (sampled, *sampled["top_logprobs"]):
            token["logprob"] = token["logprob"] / asked.body["temperature"] - 3


def later_none(number: int, asked: Asked, body: dict[str, Any]) -> None:
    if not is_probe(asked):
        no_logprobs(number, asked, body)


@pytest.mark.parametrize(
    ("twist", "said", "requests"),
    [
        # It is asked again: half a character, sampled by chance, has none either.
        (no_logprobs, "gives no logprobs for m.*TEACHER_PROVIDER that has them: embedded", 3),
        (scaled, "KD_TEACHER_TEMPERATURE=1", PROBES),
        (later_none, "None of the first 11 answers", PROBES + 11 + 2 * 4),
    ],
)
def test_nothing_more_is_spent_on_an_unusable_teacher(
    tmp_path: Path, tokenizer: StudentTokenizer, twist: Any, said: str, requests: int
) -> None:
    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match=said):
        collect.run(context(tmp_path, server, KD_CONCURRENCY="4", KD_NUM_PROMPTS="40"))
    assert len(server.asked) <= requests
    assert parquet_files(tmp_path) == {}


def test_fewer_candidates_than_asked_for_raise_an_alert(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(_number: int, _asked: Asked, body: dict[str, Any]) -> None:
        for token in body["choices"][0]["logprobs"]["content"]:
            del token["top_logprobs"][3:]

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server)
        collect.run(ctx)
    assert [event["code"] for event in emitted(ctx, "alert")] == ["fewer_candidates"]
    assert load_traces(tmp_path / "data", 5).sequences


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "m"},
            "no key for openai: store it with `bitnet keys set OPENAI_API_KEY`",
        ),
        ({"TEACHER_PROVIDER": "openai"}, "No model is set for openai"),
        ({"TEACHER_PROVIDER": "custom", "TEACHER_MODEL": "m"}, "set CUSTOM_BASE_URL"),
        ({"TOKENIZER_NAME": "/nowhere/tokenizer.json"}, "leave it empty"),
        ({"KD_PROMPTS_FILE": "/nowhere/prompts.txt"}, "/nowhere/prompts.txt does not exist"),
        ({"TEMPLATE": "{% if %}"}, "not valid Jinja"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_traces(tmp_path: Path, values: dict[str, str], said: str) -> None:
    with pytest.raises(BitnetError, match=said):
        collect.run(context(tmp_path, **values))
    assert parquet_files(tmp_path) == {}


def test_the_embedded_teacher_end_to_end(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    ctx = context(tmp_path, KD_NUM_PROMPTS="4", TEACHER_TOP_LOGPROBS="20", KD_CONCURRENCY="2")
    summary = collect.run(ctx)
    assert summary["sequences"] == 4
    assert summary["logprob_mode"] == "raw"
    assert 0 < summary["other_mass_mean"] < 0.5
    assert summary["tokens_per_s"] > 0
    traces = load_traces(tmp_path / "data", 20)
    assert traces.vocab_size == 49152
    for one in traces.sequences:
        assert tokenizer.decode(one.completion_ids_C) == one.completion_text
        assert one.kd_valid_C.mean() > 0.9
        assert one.prompt_ids_P.tolist() == tokenizer.encode(one.prompt_text)
    steps = pq.read_table(tmp_path / "data" / "teacher_shard_000.parquet").to_pylist()
    rows = pq.read_table(tmp_path / "data" / "kd_shard_000.parquet").to_pylist()
    by_step = {(step["prompt_idx"], step["step_idx"]): step for step in steps}
    assert len(rows) > 0.9 * len(steps)  # the teacher may spell a word in more tokens than the student does
    for row in rows:
        step = by_step[row["prompt_idx"], row["step_idx"]]
        if row["teacher_sample_id"] == step["token_id"] and not step["mass_clamped"]:
            assert [tokenizer.text_bytes(index) for index in row["topk_ids"]] == step["top_bytes"]
            assert row["topk_logprobs"] == step["top_logprobs"]
