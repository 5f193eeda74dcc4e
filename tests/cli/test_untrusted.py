"""Every command shows text from outside on a real terminal, and its bytes are read: nothing controls the terminal."""

import argparse
import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.cli.main import _parser, main
from bitnet_core.traces import schema, writer
from bitnet_tui.start import main as app
from tests.hostile import FOLDER, MARKUP, TEXT, UTF8_TEXT, assert_harmless, experiment, shown, stage_of, terminal
from tests.teachers.server import Asked, Canned, ChatServer, chat_body, entry
from tests.traces.sets import ORIGIN, TOKENIZER, metadata, sequence

Said = Callable[..., str]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Run a command on a terminal; everything that the terminal got, which is proven harmless."""

    def run(*arguments: str, program: Callable[[list[str]], int] = main) -> str:
        with terminal(monkeypatch) as got, contextlib.suppress(SystemExit):
            program(list(arguments))
        text = shown(got)
        assert "Traceback" not in text
        assert_harmless(text)
        return text

    return run


@pytest.fixture
def root(isolated: Path) -> str:
    return str(experiment(isolated))


@pytest.mark.parametrize("stage", ["train", "collect", stage_of(TEXT)])
def test_watching_a_run(said: Said, root: str, stage: str) -> None:
    lines = said("watch", stage, "--root", root).splitlines()
    marked = f"S {MARKUP} ·[31m·[2J ·]52;c;cHduZWQ=· ·]0;owned·"
    for start in ("▸ ", "! ", "? "):
        assert any(line.startswith(start) and marked in line for line in lines), start


_COMMANDS = [
    ["runs"],
    ["config"],
    ["config", "--check"],
    ["config", "--example"],
    ["keys", "status"],
    ["keys", "status", "OPENAI_API_KEY"],
    ["keys", "list"],
    ["keys", "move", "--all"],
    ["keys", TEXT],
    ["keys", "set", TEXT],
    ["keys", "delete", "OPENAI_API_KEY"],
    ["providers"],
    ["providers", "probe", TEXT],
    ["chat", "hi", "--set", f"PROVIDER={TEXT}"],
    ["stop", "train"],
    ["stop", TEXT],
    ["watch", TEXT],
    ["init"],
    ["traces", "stats"],
    ["traces", "validate"],
    ["traces", "show", TEXT],
    ["traces", "project", "--tokenizer", TEXT],
    ["prompts", "--list", "--topics", TEXT],
    ["prompts", "--count", "1", "--templates", FOLDER],
    ["prompts", "--count", "1", "--out", TEXT],
    ["train", "--set", f"KD_TAU={TEXT}"],
    ["train", "--set", f"{TEXT}=1"],
    ["train", "--set", TEXT],
    ["train", "--env", TEXT],
    ["pipeline", TEXT],
    ["teacher", TEXT],
    ["collect", TEXT],
    ["eval", "--set", f"KD_TAU={TEXT}"],
    ["dryrun", "--set", f"KD_TAU={TEXT}"],
    ["demo", TEXT],
    ["compare", FOLDER, TEXT],
    ["report"],
    ["report", "--as", TEXT],
    ["plan", "--set", f"STUDENT_INIT={TEXT}"],
    ["export", "gguf", "--out", TEXT],
    ["verify-export", TEXT],
    ["generate", "hi"],
    ["answer", "student", "--student", TEXT],
    ["serve", TEXT],
    ["store", "ls"],
    ["open", f"local:{TEXT}"],
    ["experiments"],
    ["experiments", "rename", FOLDER, TEXT],
    ["experiments", "delete", FOLDER],
    ["bench"],
    ["bench", "get", TEXT],
    [TEXT],
    ["--help"],
    ["traces", "--help"],
    ["--version"],
    [],
]


def test_every_command_is_tried() -> None:
    (commands,) = (one.choices for one in _parser([])._actions if isinstance(one, argparse._SubParsersAction))
    assert commands.keys() <= {command[0] for command in _COMMANDS if command}


@pytest.mark.parametrize(
    "command",
    _COMMANDS,
    ids=lambda command: " ".join("TEXT" if "\x1b" in word else word for word in command) or "nothing",
)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_command(said: Said, root: str, command: list[str], options: tuple[str, ...]) -> None:
    words = [word.replace("\ud83d", "") for word in command]  # what a command line can hold
    assert said(*options, "--root", root, *words)


def test_a_folders_name_makes_no_line_of_its_own(said: Said, root: str) -> None:
    """Except where a whole path is the answer."""
    for command in (["runs"], ["config"], ["config", "--check"], ["watch", "train"]):
        assert not any(line.startswith("✓") for line in said(*command, "--root", root).splitlines()), command


@pytest.mark.parametrize("sign", "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r")
def test_only_a_line_end_ends_a_line(said: Said, isolated: Path, sign: str) -> None:
    other = f"{isolated / 'other'}{sign}✓ forged"
    Path(other).write_text("a file")
    (isolated / ".env").write_text(f"KD_TAU='1{sign}✓ forged'\n", "utf-8")
    for command, program in ((["teacher"], main), (["init", "--root", other], main), (["--root", other], app)):
        told = said(*command, program=program)
        assert "✓ forged" in told
        assert not any(line.startswith(("✓", "bitnet: ✓", "bitnet-tui: ✓")) for line in told.splitlines()), command


def test_json_keeps_the_data(said: Said, root: str) -> None:
    def lines(*command: str) -> list[dict[str, object]]:
        text = said(*command, "--json", "--root", root)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    assert [run["error"] for run in lines("runs")] == [UTF8_TEXT] * 3
    assert {event.get("error") for event in lines("watch", "train")} == {None, UTF8_TEXT}
    assert {UTF8_TEXT} < {setting["value"] for setting in lines("config")}


@pytest.mark.parametrize(
    "line",
    [f'KD_TAU="{UTF8_TEXT}"', f"WHAT{UTF8_TEXT}=1", UTF8_TEXT, f'BASE_URL="{UTF8_TEXT}', f"PROVIDER='{UTF8_TEXT}'"],
)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_wrong_settings(said: Said, root: str, line: str, options: tuple[str, ...]) -> None:
    Path(root, ".env").write_text(f"{line}\n", "utf-8")
    assert said(*options, "config", "--check", "--root", root)
    assert said(*options, "runs", "--root", root)


def test_a_failing_stage(said: Said, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "runs" / "fake_stages"))
    monkeypatch.setenv("FAKE_STAGES", "1")
    monkeypatch.setenv("FAKE_DRYRUN", "full")
    root = experiment(isolated, FOLDER.replace("\udcff", ""))
    assert "✗ failed" in said("dryrun", "--root", str(root))


def test_prompts_from_a_strangers_templates(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "topics.toml"
    text = json.dumps(UTF8_TEXT).replace("\x7f", "\\u007f")
    path.write_text(f"[topics.odd]\nabout = {text}\ntemplates = [{text}]\n", "utf-8")
    assert "[@click=app.quit]x[/]" in said("prompts", "--list", "--templates", str(path))
    prompt = json.loads(said("prompts", "--count", "1", "--templates", str(path)))
    assert UTF8_TEXT in prompt.values()


def test_traces_of_a_stranger(said: Said, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    odd = UTF8_TEXT
    told = replace(sequence(0), messages_json=json.dumps([{"role": "user", "content": TEXT}]), rendered_prompt=odd,
                   completion_text=odd, finish_reason=odd)  # fmt: skip
    writer.write_shard(data, 0, metadata([told.request_key]), {**ORIGIN, odd: odd}, [told])
    writer.write_sequences(data, 1, metadata([]))
    TOKENIZER.save(data / schema.TOKENIZER_FOLDER)
    for action in ("stats", "show", "validate"):
        assert said("traces", action, "--set", f"KD_DATA_PATH={data}")


def _answer(_number: int, asked: Asked) -> Canned:
    if asked.path.endswith("/models"):
        return Canned({"data": [{"id": TEXT}]})
    tops = [entry(UTF8_TEXT, -0.5 - place, index=place) for place in range(asked.body.get("top_logprobs") or 0)]
    return Canned(chat_body(UTF8_TEXT, [{**tops[0], "top_logprobs": tops}] if tops else None))


def _refuse(_number: int, _asked: Asked) -> Canned:
    return Canned({"error": {"message": TEXT, "type": TEXT, "code": TEXT}}, status=400)


@pytest.mark.parametrize("server", [_answer, _refuse])
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_hostile_server(said: Said, server: Callable[[int, Asked], Canned], options: tuple[str, ...]) -> None:
    with ChatServer(server) as running:
        address = ("--set", f"VLLM_BASE_URL={running.base_url}", "--set", "PROVIDER=vllm", "--set", "VLLM_MODEL=m")
        told = said(*options, *address, "chat", "hi")
        said(*options, *address, "providers", "probe", "vllm", "--model", "m")
        said(*options, *address, "providers", "probe", "vllm")
    assert options or MARKUP in told


@pytest.mark.parametrize("options", [["--plain"], ["--help"], ["--version"], [TEXT], [], ["--plain", "--root", TEXT]])
def test_the_app_outside_its_screen(
    said: Said, root: str, isolated: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = said("--home", str(isolated), *options, program=app)
    if options == ["--plain"]:
        assert text.startswith("[red]·[31m·[2J·]52;c;")
        assert not any(line.startswith("✓") for line in text.splitlines()), "a folder's name makes no line"


def test_the_terminal_of_the_tests_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as got:
        print(TEXT.encode("utf-8", "replace").decode())  # noqa: T201
    assert isinstance(got, io.BytesIO)
    with pytest.raises(AssertionError):
        assert_harmless(shown(got))
