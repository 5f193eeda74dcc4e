"""`bitnet serve`: a small student is served and collected from; what can't be served is refused in a sentence."""

import argparse
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from bitnet_core.cli import serving
from bitnet_core.cli.main import main
from bitnet_core.cli.students import student_at
from bitnet_core.errors import UsageError
from bitnet_core.model.student import Student
from bitnet_core.settings.dotenv import parse
from bitnet_core.stages import collect
from bitnet_core.teachers.embedded.server import LlamaServer
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.schema import TOKENIZER_FOLDER
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint
from tests.builders import stage_context
from tests.export.conftest import random_student
from tests.serving.fronted import fronted
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]


def small_student() -> Student:
    """A random student whose tokens are whole characters, for llama.cpp gives no logprobs of others.

    Text tokens lie one way from the rest, and so does what the layers make of them.
    """
    tokenizer = small_tokenizer()
    student = random_student(tokenizer.vocab_size)
    with torch.no_grad():
        for index in range(tokenizer.vocab_size):
            plain = tokenizer.text_bytes(index).isascii() and index not in tokenizer.special_ids
            student.output_weight[index, :16] += 0.5 if plain else -0.5
    return student


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment with a student's checkpoint and its tokenizer; the cache is empty."""
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path / "cache"))
    experiment = stage_context(tmp_path / "experiment").experiment
    tokenizer = small_tokenizer()
    student = small_student()
    made = Checkpoint(2, 300, 8, student.config, tokenizer.hash, dict(student.state_dict()))
    checkpoints.save(experiment.checkpoints, made, {})
    tokenizer.save(experiment.data / TOKENIZER_FOLDER)
    return experiment.root


@pytest.fixture
def gguf(root: Path) -> Path:
    arguments = argparse.Namespace(assignments=[], env=None, root=root)
    return serving.exported(student_at(arguments, None), "TQ2_0")


@pytest.fixture
def server(gguf: Path) -> Iterator[LlamaServer]:
    with LlamaServer(gguf, "student", parallel=2, context=512) as server:
        yield server


@pytest.fixture
def served(server: LlamaServer) -> Iterator[str]:
    with fronted(server) as base_url:
        yield base_url


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    assert main(["serve", *words]) == code
    said = capsys.readouterr().err
    assert said.startswith("bitnet: ")
    assert said.endswith(".\n")
    assert said.count("\n") == 1
    return said


def test_a_served_student_is_the_teacher_of_another_experiment(root: Path, served: str, tmp_path: Path) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("the rain\nthen explain\nsome JSON\n")
    values = {
        "TEACHER_PROVIDER": "llamacpp",
        "TEACHER_MODEL": "student",
        "TEACHER_BASE_URL": served,
        "TOKENIZER_NAME": str(root / "data" / TOKENIZER_FOLDER),
        "KD_PROMPTS_FILE": str(questions),
        "KD_NUM_PROMPTS": "3",
        "KD_MAX_TOKENS_PER_PROMPT": "12",
        "TEACHER_TOP_LOGPROBS": "5",
    }
    ctx = stage_context(tmp_path / "next", "collect", values)
    summary = collect.run(ctx)
    assert summary["sequences"] == 3
    assert summary["rejected"] == {}
    assert summary["logprob_mode"] == "raw"
    traces = load_traces(ctx.experiment.data, 5)
    assert traces.tokenizer_hash == load_tokenizer(root / "data" / TOKENIZER_FOLDER).hash
    assert all(len(one.completion_ids_C) > 0 for one in traces.sequences)


def test_a_checkpoint_is_exported_once_unless_its_file_is_damaged(
    gguf: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = argparse.Namespace(assignments=[], env=None, root=None)
    by_checkpoint = student_at(arguments, checkpoints.latest(root / "checkpoints"))
    whole = gguf.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(serving.gguf, "write", lambda *_, **__: pytest.fail("written again"))
        assert serving.exported(by_checkpoint, "TQ2_0") == gguf
        assert serving.exported(student_at(arguments, root), "TQ2_0") == gguf
    gguf.write_bytes(whole[:-9])
    assert serving.exported(by_checkpoint, "TQ2_0") == gguf
    assert gguf.read_bytes() == whole


def test_the_command_serves_an_experiment_until_ctrl_c(root: Path, gguf: Path) -> None:
    command = [sys.executable, "-m", "bitnet_core", "serve", str(root), "--port", "0", "--json"]
    group = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert group.stdout is not None
        told = json.loads(group.stdout.readline())
        assert told["file"] == str(gguf)
        assert told["base_url"].startswith("http://127.0.0.1:")
        assert told["settings"]["TOKENIZER_NAME"] == str(root / "data" / TOKENIZER_FOLDER)
        os.killpg(group.pid, signal.SIGINT)
        assert group.wait(30) == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(group.pid, 0)
    finally:
        if group.poll() is None:
            os.killpg(group.pid, signal.SIGKILL)
            group.wait()
        if group.stdout is not None:
            group.stdout.close()


def test_the_name_of_a_file_is_one_setting_whatever_it_is(gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "a #b\nTEACHER_BASE_URL=evil.gguf"
    path.symlink_to(gguf)
    command = [sys.executable, "-m", "bitnet_core", "serve", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        starting, *lines = [server.stdout.readline() for _ in range(6)]
        server.send_signal(signal.SIGTERM)
    assert starting == "Starting…\n"
    told = parse("".join(lines[2:]), tmp_path / ".env")
    assert told.values["TEACHER_MODEL"] == path.stem
    assert told.values["TEACHER_BASE_URL"].startswith("http://127.0.0.1:")
    assert not told.duplicates
    assert lines[0].startswith("a #b TEACHER_BASE_URL=evil is served at http")


def test_a_taken_port_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, str(tmp_path / "x.gguf"), "--port", str(port))
    assert f"Port {port} of 127.0.0.1" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--port", "70000"), "from 0 to 65535"),
        (("--parallel", "0"), "--parallel is 0"),
        (("--host", "0.0.0.0"), "LLAMACPP_API_KEY"),  # noqa: S104 - it is refused
        (("--host", "0.0.0.0", "--demand", "VLLM_API_KEY"), "`bitnet keys set VLLM_API_KEY`"),  # noqa: S104
        (("--demand", "VLLM_API_KEY"), "VLLM_API_KEY is not set"),
        (("no.gguf", "--port", "0"), "no.gguf does not exist"),
    ],
)
def test_what_can_not_be_served_is_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], named: str
) -> None:
    assert named in refused(capsys, *words)


def test_damaged_and_foreign_files_are_refused(
    capsys: pytest.CaptureFixture[str], gguf: Path, tmp_path: Path
) -> None:
    data = gguf.read_bytes()
    cut, other, text = (tmp_path / name for name in ("cut.gguf", "other.gguf", "text.gguf"))
    cut.write_bytes(data[:-100])
    assert "its end is missing" in refused(capsys, str(cut), "--port", "0", code=1)
    other.write_bytes(data.replace(b"bitnet", b"bitnot"))
    assert "(unknown model architecture: 'bitnot')" in refused(capsys, str(other), "--port", "0", code=1)
    text.write_text("no model")
    assert "text.gguf" in refused(capsys, str(text), "--port", "0", code=1)


def test_what_llamacpp_aborts_at_is_told(capsys: pytest.CaptureFixture[str], gguf: Path, tmp_path: Path) -> None:
    """Not what a debugger says of the process that aborts, half a minute later."""
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(_with_number(gguf.read_bytes(), b"bitnet.rope.dimension_count", 3))
    said = refused(capsys, str(odd), "--port", "0", code=1)
    assert re.search(r"llama\.cpp can't serve \S+odd\.gguf \(GGML_ASSERT\(n_dims .*\) failed\); give a whole", said)


def test_a_context_that_memory_can_not_hold_is_refused(
    capsys: pytest.CaptureFixture[str], gguf: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(_with_number(gguf.read_bytes(), b"bitnet.context_length", (1 << 32) - 1))
    said = refused(capsys, str(odd), "--port", "0", code=1)
    assert re.search(r"4 answers of 4,294,967,295 tokens, as \S+odd\.gguf allows, take \S+ TB of memory, and ", said)


def test_another_programs_model_gets_a_context_that_fits_into_memory() -> None:
    llama = {"attention.head_count": 9, "attention.head_count_kv": 3, "embedding_length": 576, "block_count": 30}
    keys: dict[str, object] = {"general.architecture": "llama"} | {f"llama.{key}": n for key, n in llama.items()}
    assert serving._shared(2048, keys, 1 << 30) == 2048
    most = serving._shared((1 << 31) - 1, keys, 1 << 30)
    assert 40_000 < most < 47_000  # 23,040 bytes for a token of the cache, 2,048 of the mask
    assert most % 256 == 0
    assert serving._shared(2048, keys, 0) == 256
    assert serving._shared((1 << 31) - 1, keys | {"llama.attention.head_count_kv": None}, 1 << 30) == 8192


def test_its_answers_share_what_memory_holds(root: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another architecture: its own length is too long."""
    path = gguf.with_name("other.gguf")
    path.write_bytes(
        _with_number(gguf.read_bytes(), b"bitnet.context_length", (1 << 31) - 1).replace(b"bitnet", b"bitnot")
    )
    monkeypatch.setattr(serving, "available_bytes", lambda: 64 << 20)
    model = serving._with_room(path, "other", 4)
    assert model.length == (1 << 31) - 1
    assert 0 < model.context * 2048 <= 32 << 20
    assert serving._with_room(gguf, "ours", 4).length is None
    path.write_bytes(gguf.read_bytes().replace(b"general.architecture", b"general.orchitecture"))
    assert serving._with_room(path, "other", 4).context == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_requests_may_take_is_bounded(server: LlamaServer) -> None:
    limit, _ = resource.prlimit(server.pid, resource.RLIMIT_DATA)
    assert 1 << 30 < limit < 3 << 30


def _with_number(data: bytes, key: bytes, value: int) -> bytes:
    """The file with another 32-bit number behind the key's name and type."""
    at = data.index(key) + len(key) + 4
    return data[:at] + value.to_bytes(4, "little") + data[at + 4 :]


def test_the_student_generates_and_streams(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "--root", str(root), "--max-tokens", "9", "--temperature", "0", "the rain"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert main([*words, "then", "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"prompt": "the rain", "text": text.removesuffix("\n")}
    assert second["prompt"] == "then"
    assert main([*words, "--stop", text[2:5]]) == 0
    assert capsys.readouterr().out == text[: text.index(text[2:5])] + "\n"
    for wrong, said in (
        ("--top-p=2", "top_p is 2.0; give a number above 0 and at most 1"),
        ("--temperature=nan", "temperature is nan; give a number 0 or more"),
        ("--seed=-1", "--seed is -1; give a number from 0 to 4,294,967,295"),
    ):  # told before a student is looked for
        assert main([*words, wrong, "--student", "nowhere"]) == 2
        assert capsys.readouterr().err == f"bitnet: {said}.\n"


def test_a_newer_checkpoint_that_is_a_pipe_is_named_when_the_student_generates(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = checkpoints.path_of(root / "checkpoints", 9)
    os.mkfifo(newer)
    assert main(["generate", "--root", str(root), "--max-tokens", "2", "the rain"]) == 0
    said = capsys.readouterr().err
    assert said == (
        f"bitnet: warning: {newer} is not a regular file, so mini_bitnet_step_00000002.pt is used; "
        "unless a training is writing it, move it away or copy it again.\n"
    )


def test_the_student_chats_beside_the_teacher(root: Path, capsys: pytest.CaptureFixture[str], served: str) -> None:
    words = ["chat", "the rain", "--student", str(root), "--set", "PROVIDER=llamacpp"]
    words += ["--set", "LLAMACPP_MODEL=student", "--set", f"LLAMACPP_BASE_URL={served}"]
    words += ["--set", "EVAL_MAX_NEW_TOKENS=6", "--set", "EVAL_TEMPERATURE=0"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["student"]["name"] == "experiment-step2"
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert (
        shown == f"── student (llamacpp)\n{told['text']}\n── experiment-step2 (student)\n{told['student']['text']}\n"
    )
    assert main(["chat", "hi", "--student", str(root / "no.pt")]) == 2
    assert capsys.readouterr().err.endswith("no.pt does not exist; give a checkpoint or an experiment's folder.\n")


def test_only_what_is_documented_is_served(served: str) -> None:
    models = f"{served}/models"
    assert httpx.get(models).json()["data"][0]["id"] == "student"
    assert "Access-Control-Allow-Origin" not in httpx.get(models).headers
    for fields in ({"Origin": "http://localhost:3000"}, {"Origin": "null"}, {"Host": "evil.example"}):
        assert httpx.get(models, headers=fields).status_code == 403
    for path in ("slots", "props", "metrics", "lora-adapters", "tokenize", "v1/embeddings"):
        assert httpx.get(f"{served.removesuffix('/v1')}/{path}").status_code == 404
    refused = httpx.post(f"{served}/completions", json={"prompt": "a", "grammar": f"root ::= {'(' * 50_000}"})
    assert refused.json()["error"]["message"] == "This server does not accept 'grammar'; leave it out."


def test_a_server_that_ends_by_itself_is_started_again(root: Path) -> None:
    command = [sys.executable, "-m", "bitnet_core", "serve", str(root), "--port", "0", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as server:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        os.kill(told["pid"], signal.SIGSEGV)
        reply = httpx.post(f"{told['base_url']}/completions", json={"prompt": "a", "max_tokens": 1}, timeout=60)
        assert reply.json()["model"] == told["model"]
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=30)
    assert server.returncode == 0
    assert said == (
        "bitnet: warning: llama.cpp exited (-11: memory ran out, or a request made it fail); it is started again.\n"
    )


@pytest.mark.parametrize(
    ("words", "demanded"),
    [
        ([], ("", "")),
        (["--host", "::1"], ("", "")),
        (["--demand", "LLAMACPP_API_KEY"], ("the-teachers", "LLAMACPP_API_KEY")),
        (["--host", "0.0.0.0"], ("the-teachers", "LLAMACPP_API_KEY")),  # noqa: S104
        (["--host", "0.0.0.0", "--demand", "VLLM_API_KEY"], ("my-own", "VLLM_API_KEY")),  # noqa: S104
    ],
)
def test_the_key_of_a_teachers_server_is_not_demanded_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], demanded: tuple[str, str]
) -> None:
    monkeypatch.setenv("LLAMACPP_API_KEY", "the-teachers")
    monkeypatch.setenv("VLLM_API_KEY", "my-own")
    told: list[tuple[str, str]] = []

    def ended(*_: object) -> None:
        raise UsageError("That is all.")

    key_of = serving._key
    monkeypatch.setattr(serving, "_key", lambda arguments: told.append(key_of(arguments)) or told[0])
    monkeypatch.setattr(serving, "_listener", ended)
    assert main(["serve", str(tmp_path / "x.gguf"), *words]) == 2
    assert told == [demanded]


def test_a_key_is_demanded_where_one_is_set(server: LlamaServer) -> None:
    with fronted(server, key="the-key-of-this-server") as base_url:
        address, question = f"{base_url}/completions", {"prompt": "a", "max_tokens": 1}
        for key in ("no", server.api_key):
            assert httpx.post(address, json=question, headers={"Authorization": f"Bearer {key}"}).status_code == 401
        right = {"Authorization": "Bearer the-key-of-this-server"}
        assert httpx.post(address, json=question, headers=right).json()["model"] == "student"
