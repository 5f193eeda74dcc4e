"""What a stage is given: the keys it needs, through the pipe, and an environment without any."""

import base64
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.secrets import handover, known
from bitnet_core.settings.resolve import resolve
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers import stage_keys


@pytest.mark.parametrize(
    ("stage", "provider", "names"),
    [
        ("collect", "embedded", ()),
        ("collect", "openai", ("TEACHER_API_KEY", "OPENAI_API_KEY")),
        ("pipeline", "hf", ("TEACHER_API_KEY", "HF_TOKEN")),
        ("train", "openai", ()),
    ],
)
def test_a_stage_gets_only_what_it_needs(stage: str, provider: str, names: tuple[str, ...]) -> None:
    assert stage_keys.names_for(stage, TeacherOptions(provider=provider)) == names


@pytest.mark.parametrize(
    ("values", "has_token"),
    [
        ({"STUDENT_INIT": "some/model"}, True),
        ({"STUDENT_INIT": "teacher", "TEACHER_PROVIDER": "hf"}, True),
        ({"TRAIN_ONLINE": "1", "TEACHER_PROVIDER": "hf"}, True),
        ({"TEACHER_PROVIDER": "hf"}, False),
        ({"STUDENT_INIT": "."}, False),
        ({"STUDENT_INIT": "teacher"}, False),
    ],
)
def test_a_training_gets_the_hubs_token_if_it_loads_weights_that_may_be_there(
    tmp_path: Path, values: dict[str, str], has_token: bool
) -> None:
    resolution = resolve({**values, "HF_TOKEN": "hf_canary0123456789"}, environ={}, cwd=tmp_path, root=tmp_path)
    assert stage_keys.for_stage("train", resolution).values == (
        {"HF_TOKEN": "hf_canary0123456789"} if has_token else {}
    )
    assert not stage_keys.for_stage("eval", resolution).values


def test_a_stages_environment_has_no_secret_but_the_caches_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-canary")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-16")  # of our own streams; its pipes are read in the locale's
    environment = handover.child_environment({"HF_HOME": "/big/hf", "TORCH_HOME": None, "SEED": 1})
    assert "PYTHONIOENCODING" not in environment
    monkeypatch.delenv("PYTHONIOENCODING")
    for name, value in environment.items():  # in a process that was started so, which starts a program of the user's
        monkeypatch.setenv(name, value)
    assert handover.environment_without_secrets(for_users_own=True)["PYTHONIOENCODING"] == "utf-16"
    assert "GROQ_API_KEY" not in environment
    assert environment["HF_HOME"] == "/big/hf"
    assert "SEED" not in environment
    assert environment["PATH"]


def test_variables_that_contain_a_key_or_are_named_like_one_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    key, sent = "sk-canary/7f3a91c2", "another-canary-42"
    given = {
        "MY_COMPANY_KEY": key,
        "AS_JSON": json.dumps({"key": key}),
        "AS_ADDRESS": f"https://host/?k={quote(key, safe='')}",
        "AS_BASIC": base64.b64encode(f"user:{key}".encode()).decode(),
        "SENT": f"it is {sent}",
        "SHORT": "abcdef",
        **dict.fromkeys(
            ("HUGGING_FACE_HUB_TOKEN", "GOOGLE_API_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET"), "unknown-to-us"
        ),
    }
    kept = {
        "LANG": "C.UTF-8",
        "TOKENIZERS_PARALLELISM": "false",
        "HOME": f"/home/{key}",
        "LONGER": "xabcdefx",
        "OMP_NUM_THREADS": "1",
    }
    for name, value in (given | kept).items():
        monkeypatch.setenv(name, value)
    known.remember([key, "abcdef"])
    known.remember(["1"])  # a value typed by mistake
    environment = handover.child_environment({}, [sent])
    assert not set(given) & set(environment)
    assert kept.items() <= environment.items()


def test_a_large_secret_goes_through_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"OPENAI_API_KEY": "k" * 4096, "FIREBASE_CREDENTIALS_JSON": '{"a": "\\n"}' * 100_000}
    read_end, write_end = os.pipe()
    monkeypatch.setenv(handover.FD_VARIABLE, str(read_end))
    sender = threading.Thread(target=handover.send_secrets, args=(write_end, keys))
    sender.start()
    assert handover.read_from_pipe() == keys
    sender.join()
    assert handover.read_from_pipe() == {}
    assert keys["OPENAI_API_KEY"] in known.values()


def test_a_pipe_left_open_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "PIPE_SECONDS", 0.05)
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, b'{"OPENAI_API_KEY": "sk-')
        monkeypatch.setenv(handover.FD_VARIABLE, str(read_end))
        with pytest.raises(BitnetError, match="did not end within 0 s; close the pipe"):
            handover.read_from_pipe()
    finally:
        os.close(write_end)


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("bitnet_core.cli.main", "main(['keys', 'status'])"),
        ("bitnet_core.runs.worker", "main(['/nowhere'], print)"),
        ("bitnet_core.secrets.keyring_child", "main()"),
        ("bitnet_tui.start", "main([])"),
    ],
)
def test_a_process_that_holds_keys_leaves_no_core_dump(module: str, call: str) -> None:
    code = f"""
import resource, sys
import bitnet_core.terminal, bitnet_tui.app
from {module} import main
bitnet_core.terminal.waiting = lambda stream: stream
sys.stdin.isatty = sys.stdout.isatty = sys.stderr.isatty = lambda: True
bitnet_tui.app.BitnetApp = None
allowed = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (allowed, allowed))
try: {call}
except (Exception, SystemExit): pass
sys.stderr.write(f"core {{resource.getrlimit(resource.RLIMIT_CORE)}}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input='{"service": "", "names": [], "classes": []}',
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TERM": "xterm"},
    )
    assert "core (0, 0)" in done.stdout + done.stderr
