"""`bitnet answer`: one model, opened once, answers the requests that come on stdin, and ends with stdin."""

import asyncio
import base64
import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from bitnet_core.cli import piped
from bitnet_core.cli.answering import Inbox, exact
from bitnet_core.cli.main import main
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.profiles import profile
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.training import checkpoints
from tests.cli.test_providers import KEY, hold_back, settings, sse
from tests.cli.test_serve import root, small_student
from tests.teachers.server import Asked, Canned, ChatServer, entry
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread", "root"]


def question(number: int, text: str = "the rain", **fields: Any) -> str:
    given = {"id": number, "messages": [{"role": "user", "content": text}], "max_tokens": 5, "temperature": 0}
    return json.dumps({**given, **fields})


def asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], *lines: str
) -> list[dict[str, Any]]:
    """The events. Stdin ends when the last request is over, because its end stops what is being answered."""
    over = threading.Event()
    last = json.loads(lines[-1])["id"]
    written = sys.stdout.write

    def write(text: str) -> int:
        count = written(text)
        if any(f'"event": "{kind}", "id": {last},' in text for kind in ("end", "error")):
            over.set()
        return count

    class Stdin(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            line = super().readline(-1 if size is None else size)
            assert line or over.wait(60)
            return line

    monkeypatch.setattr(sys, "stdin", Stdin("".join(line + "\n" for line in lines)))
    monkeypatch.setattr(sys.stdout, "write", write)
    assert main(["answer", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def of(events: list[dict[str, Any]], number: int, kind: str = "") -> list[dict[str, Any]]:
    return [one for one in events if one["id"] == number and kind in ("", one["event"])]


def text_of(events: list[dict[str, Any]], number: int) -> str:
    return "".join(one["text"] for one in of(events, number, "text"))


def expected(
    prompt: list[int], ids: list[int], bits: list[int | None], tokenizer: StudentTokenizer
) -> list[tuple[str, float, str]]:
    """Token, its probability and the likeliest one, from a pass without a cache for each place."""
    from bitnet_core.model.packing import pack_student

    student = pack_student(small_student())
    student.set_layer_bits(bits)
    found = []
    with torch.inference_mode():
        for place, index in enumerate(ids):
            hidden = student(torch.tensor([prompt + ids[:place]]))[0, -1]
            probs = torch.softmax(student.logits(hidden).double(), dim=-1)
            best = tokenizer.text_bytes(int(probs.argmax())).decode("utf-8", "surrogateescape")
            own = tokenizer.text_bytes(index).decode("utf-8", "surrogateescape")
            found.append((own, float(probs[index]), best))
    return found


def test_the_student_tells_text_tokens_and_candidates(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        question(1, top=3),
        "no json",
        question(2, max_tokens=0),
        question(3, top=2, bits=4),
        question(4, follow="then explain", top=2, bits=8),
        question(5, temperature=5.0, seed=3),
        question(6, temperature=5.0, seed=3),
        question(7, "word " * 300),
    ]
    events = asked(monkeypatch, capsys, ["student", "--root", str(root)], *lines)
    side = events[0]
    assert (side["event"], side["side"], side["bits"], side["hosted"]) == ("side", "student", 8, False)
    tokenizer = small_tokenizer()
    prompt = list(tokenizer.encode_prompt([{"role": "user", "content": "the rain"}]).ids)
    for number, bits in ((1, [8, 8]), (3, [4, 4])):
        tokens = [one for event in of(events, number, "tokens") for one in event["tokens"]]
        assert 1 <= len(tokens) <= 5
        assert text_of(events, number) == "".join(one["text"] for one in tokens)
        ids = [tokenizer.ids_by_bytes.get(one["text"].encode(), tokenizer.eos_id) for one in tokens]
        for one, (text, p, best) in zip(tokens, expected(prompt, ids, bits, tokenizer), strict=True):
            assert one["text"] == text == best == one["top"][0][0]
            assert one["p"] == pytest.approx(p, abs=1e-4)
            assert len(one["top"]) == (3 if number == 1 else 2)
    assert [(one["id"], one["problem"]) for one in events if one["event"] == "error"][:2] == [
        (None, "A line is not a JSON object; send one a line."),
        (2, "max_tokens must be a whole number from 1 to 1,048,576."),
    ]
    (followed,) = of(events, 4)
    assert followed["event"] == "followed"
    assert "".join(one["text"] for one in followed["tokens"]) == "then explain"
    ids = tokenizer.encode_plain("then explain")
    for one, (text, p, best) in zip(followed["tokens"], expected(prompt, ids, [8, 8], tokenizer), strict=True):
        assert (one["text"], one["top"][0][0]) == (text, best)
        assert one["p"] == pytest.approx(p, abs=1e-4)
    assert text_of(events, 5) == text_of(events, 6)
    (end,) = of(events, 6, "end")
    assert end["finish_reason"] in ("length", "stop")
    (long,) = of(events, 7)
    assert "shorten it" in long["problem"]


def test_a_student_in_the_middle_of_a_flip_answers_with_the_bits_of_its_layers(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoints.require_latest(root / "checkpoints")
    made = dataclasses.replace(checkpoints.load(path), activation_bits=4, counters={"layer_bits": [4, 8]})
    checkpoints.save(path.parent, made, {})
    lines = [
        question(1, follow="then explain", bits=8),
        question(2, follow="then explain"),
        question(3, max_tokens=1),
    ]
    events = asked(monkeypatch, capsys, ["student", "--root", str(root)], *lines)
    assert events[0]["bits"] == "4 in 1 of 2 layers, 8 in the other"
    tokenizer = small_tokenizer()
    prompt = list(tokenizer.encode_prompt([{"role": "user", "content": "the rain"}]).ids)
    ids = tokenizer.encode_plain("then explain")
    for number, bits in ((1, [8, 8]), (2, [4, 8])):
        told = [one["p"] for event in of(events, number, "followed") for one in event["tokens"]]
        assert told == pytest.approx([p for _, p, _ in expected(prompt, ids, bits, tokenizer)], abs=1e-4)


def test_a_stop_ends_one_answer_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [question(1, max_tokens=40), '{"stop": 1}', question(2, max_tokens=1)]
    events = asked(monkeypatch, capsys, ["student", "--root", str(root)], *lines)
    (first,), (second,) = of(events, 1, "end"), of(events, 2, "end")
    assert (first["finish_reason"], second["finish_reason"]) == ("stopped", "length")
    assert first["tokens"] < 40
    assert not [one for one in events if one["event"] == "error"]


def test_a_hostile_line_is_answered_with_an_error_and_the_next_ones_as_ever(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(piped, "MOST_CHARS", 3000)
    cut = exact("the räin".encode()[:6])  # as the teacher's tokens tell an answer that ended inside a character
    lines = [
        "\udcff" + question(9),
        question(9, "y" * 5000),
        question(7, "\ud800"),
        question(8, follow="\ud800"),
        question(2, follow=cut, top=1),
        question(3, temperature=1e-300),
        question(4, "the räin"),
    ]
    events = asked(monkeypatch, capsys, ["student", "--root", str(root)], *lines)
    problems = [one["problem"] for one in events if one["event"] == "error"]
    said = ["not UTF-8", "more than 3,000 characters", "half a character", "half a character"]
    assert all(words in problem for words, problem in zip(said, problems, strict=True)), problems
    # Who asked must not wait for an answer.
    assert [one["id"] for one in events if one["event"] == "error"] == [None, None, 7, 8]
    assert "".join(one["text"] for one in of(events, 2, "followed")[0]["tokens"]) == cut
    plain, near_zero = question(5), of(events, 3, "tokens")
    assert near_zero
    assert [one["tokens"][0]["text"] for one in near_zero] == [
        one["tokens"][0]["text"]
        for one in of(asked(monkeypatch, capsys, ["student", "--root", str(root)], plain), 5, "tokens")
    ]
    assert of(events, 4, "end")


def test_without_a_student_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["answer", "student", "--root", str(tmp_path)]) == 2
    assert "is not an experiment" in capsys.readouterr().err


def test_a_line_that_is_not_text_is_an_error_and_the_next_is_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = b"\xff\xfe\n" + question(1).encode() + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="ascii"))
    with Inbox() as inbox:
        assert [one.id for one in inbox.requests()] == [1]
    assert "is not UTF-8" in json.loads(capsys.readouterr().out)["problem"]


# -- the teacher ---------------------------------------------------------------------------------------------------


def piece(text: str, *, end: str | None = None, tops: bool = True) -> dict[str, Any]:
    tokens = [{**entry(text, -0.1), "top_logprobs": [entry(text, -0.1), entry("no", -3.0)]}] if tops else None
    return {"choices": [{"delta": {"content": text}, "finish_reason": end, "logprobs": tops and {"content": tokens}}]}


def teacher(server: ChatServer, **more: str) -> list[str]:
    given = {"TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "gpt-4o-mini", "TEACHER_BASE_URL": server.base_url}
    return ["teacher", *settings(**given, **more)]


def test_the_teacher_tells_text_tokens_and_costs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    usage = {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 2}}
    answer = sse(piece("Hel"), piece("lo", end="stop"), usage)
    with ChatServer(lambda *_: answer) as server:
        system = {"role": "system", "content": "Be brief."}
        first = question(1, messages=[system, {"role": "user", "content": "hi"}], top=5, temperature=0.5, seed=7)
        events = asked(monkeypatch, capsys, teacher(server), first)
        body = server.asked[0].body
    assert body["messages"][0] == system
    assert (body["temperature"], body["top_logprobs"], body["max_completion_tokens"]) == (0.5, 5, 5)
    assert (events[0]["hosted"], events[0]["price"]) == (True, {"input": 0.15, "output": 0.6})
    assert text_of(events, 1) == "Hello"
    (tokens,) = of(events, 1, "tokens")
    assert [one["text"] for one in tokens["tokens"]] == ["Hel", "lo"]
    assert tokens["tokens"][0]["top"] == [["Hel", pytest.approx(0.904837)], ["no", pytest.approx(0.049787)]]
    (end,) = of(events, 1, "end")
    assert (end["tokens"], end["finish_reason"]) == (2, "stop")
    assert end["usd"] == pytest.approx((1000 * 0.15 + 2 * 0.6) / 1e6)


def test_a_teacher_without_logprobs_answers_without_candidates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    told = {"error": {"message": "logprobs are not supported with this model", "param": "logprobs"}}

    def reply(_: int, request: Asked) -> Canned:
        if request.body.get("logprobs"):
            return Canned(told, 400)
        return sse(piece("Hi", end="stop", tops=False))

    with ChatServer(reply) as server:
        events = asked(monkeypatch, capsys, teacher(server), question(1, top=5))
    assert text_of(events, 1) == "Hi"
    assert not of(events, 1, "tokens")
    assert not of(events, 1, "error")


def test_without_a_key_one_sentence_says_so_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(question(1) + "\n"))
    with ChatServer(lambda *_: pytest.fail("it was asked")) as server:
        assert main(["answer", *teacher(server)]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["price"] == {"input": 0.15, "output": 0.6}
    assert "There is no key for openai" in captured.err
    assert captured.err.count("\n") == 1


def test_a_key_that_a_server_quotes_is_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    quoted = base64.b64encode(KEY.encode()).decode()
    refusal = Canned({"error": {"message": f"bad header {quoted} and key {KEY}"}}, 400)
    with ChatServer(lambda *_: refusal) as server:
        (error,) = of(asked(monkeypatch, capsys, teacher(server), question(1)), 1)
    assert "bad header" in error["problem"]
    assert KEY not in error["problem"]
    assert quoted not in error["problem"]


def test_enough_of_a_stream_is_an_answer() -> None:
    texts: list[str] = []
    answer = sse(piece("Hel"), piece("lo"), piece("!", end="stop"))

    async def ask(server: ChatServer) -> ChatResult:
        request = ChatRequest([{"role": "user", "content": "hi"}], 9, 0.0, 1.0, 2)
        async with OpenAIChat(profile("openai"), server.base_url, "m", KEY) as chat:
            return await chat.chat(request, on_text=texts.append, enough=lambda: len(texts) == 2)

    with ChatServer(lambda *_: answer) as server:
        result = asyncio.run(ask(server))
    assert (result.text, texts) == ("Hello", ["Hel", "lo"])
    assert result.steps is not None
    assert result.steps.text() == b"Hello"


@pytest.mark.parametrize("end", ["stop", "close"])
def test_a_server_that_hangs_holds_up_neither_a_stop_nor_the_end(end: str) -> None:
    """A process of its own, as the app starts it: it must be gone soon after its stdin."""
    over = threading.Event()
    with ChatServer(lambda *_: sse(piece("Hel"))) as server:
        hold_back(server, over)
        process = subprocess.Popen(
            [sys.executable, "-m", "bitnet_core", "answer", *teacher(server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OPENAI_API_KEY": KEY},
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(question(1) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["event"] == "side"
            assert json.loads(process.stdout.readline())["text"] == "Hel"
            if end == "stop":
                process.stdin.write('{"stop": 1}\n')
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["finish_reason"] == "stopped"
            process.stdin.close()
            assert process.wait(timeout=60) == 0
        over.set()
