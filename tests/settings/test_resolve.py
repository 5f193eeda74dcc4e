"""Resolving settings: precedence, references, problems with their lines, and never a secret's value."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import UsageError
from bitnet_core.settings.docs import env_example, settings_page
from bitnet_core.settings.kinds import Setting
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.settings.resolve import from_values, resolve
from bitnet_core.settings.resolved import Settings

ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-7f3a"


def _messages(text: str, cwd: Path) -> list[str]:
    (cwd / ".env").write_text(text)
    return [f"{p.severity}: {p.message}" for p in resolve(environ={}, cwd=cwd).problems]


@pytest.mark.parametrize("strongest", range(5))
def test_precedence(tmp_path: Path, strongest: int) -> None:
    """Every layer up to `strongest` has the name; the strongest wins and is named as the origin."""
    root = tmp_path / "exp"
    root.mkdir()
    places = ["default", ".env line 1", "exp/.env line 1", "environment", "command line"]
    present = places[: strongest + 1]
    if ".env line 1" in present:
        (tmp_path / ".env").write_text("KD_TAU=2.1\n")
    if "exp/.env line 1" in present:
        (root / ".env").write_text("KD_TAU=2.2\n")
    environ = {"KD_TAU": "2.3"} if "environment" in present else {}
    overrides = {"KD_TAU": "2.4"} if "command line" in present else {}
    settings = resolve(overrides, root=root, environ=environ, cwd=tmp_path).checked()
    assert settings.origin("KD_TAU") == places[strongest]
    assert settings.values["KD_TAU"] == pytest.approx([1.3, 2.1, 2.2, 2.3, 2.4][strongest])


def test_a_number_does_not_vanish(tmp_path: Path) -> None:
    for text in ("1e-400", "0.5E-400"):
        (problem,) = resolve({"KD_MAX_USD": text}, environ={}, cwd=tmp_path).problems
        assert "too small to be told from 0" in problem.message
    assert not resolve({"KD_MAX_USD": "0e5"}, environ={}, cwd=tmp_path).problems


@pytest.mark.parametrize("text", ["inf", "nan", "1e999", "-inf", "Infinity", "+INF", "NaN", "-nan", "1_0e4_00"])
@pytest.mark.parametrize("name", [name for name, setting in REGISTRY.items() if setting.kind == "float"])
def test_a_number_is_finite(tmp_path: Path, name: str, text: str) -> None:
    (problem,) = resolve({name: text}, environ={}, cwd=tmp_path).problems
    assert problem.severity == "error"
    assert problem.message == f"{name}={text} (command line) is not allowed: it must be a finite number."


@pytest.mark.parametrize("written", ["C:\\data", "'C:\\new'", '"C:\\new\\table"', "d:/x", "\\\\server\\share"])
def test_a_windows_path_is_no_name_in_the_experiment(tmp_path: Path, written: str) -> None:
    (tmp_path / ".env").write_text(f"DATA_DIR={written}\n")
    (problem,) = resolve({}, root=tmp_path, environ={}, cwd=tmp_path).problems
    assert "it is a Windows path" in problem.message
    assert ("/mnt/" in problem.message) == ("server" not in written)


def test_a_windows_path_names_no_model() -> None:
    for written in ("C:\\models\\one", "c:/one.gguf"):
        with pytest.raises(ValueError, match=r"Windows path.*/mnt/c/"):
            REGISTRY["STUDENT_INIT"].parse(written, Path())


def test_a_limit_that_limits_nobody_is_said_only_of_a_number_above_it(tmp_path: Path) -> None:
    assert REGISTRY["TOTAL_STEPS"].allowed() == "a whole number of at least 1"
    for text, allowed in (("0", "a whole number of at least 1"), ("9999999999999", "at most 1,099,511,627,776")):
        (problem,) = resolve({"TOTAL_STEPS": text}, environ={}, cwd=tmp_path).problems
        assert problem.message == f"TOTAL_STEPS={text} (command line) is not allowed: it must be {allowed}."


def test_the_env_option_replaces_the_folders_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SEED=1\nLR=0.1\n")
    (tmp_path / "other.env").write_text("SEED=2\n")
    settings = resolve(environ={}, cwd=tmp_path, env_file=tmp_path / "other.env").checked()
    assert (settings.values["SEED"], settings.values["LR"]) == (2, 6e-4)


def test_a_text_in_place_of_a_file_is_what_would_be_if_it_were_saved(tmp_path: Path) -> None:
    root, text = tmp_path / "exp", "LR=0.3\nSEED=x\n"
    root.mkdir()
    (root / ".env").write_text("LR=0.2\n")
    before = resolve(root=root, environ={}, cwd=tmp_path, instead={root / ".env": text})
    (root / ".env").write_text(text)
    assert before == resolve(root=root, environ={}, cwd=tmp_path)
    assert before.settings.values["LR"] == pytest.approx(0.3)


def test_every_problem_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    found = _messages("KD_TAU=warm\n\n# a comment\nthis is not one\nTOTAL_STEP=3\nSEED=1\nSEED=2\nLR=9\n", tmp_path)
    assert sorted(found) == [
        "error: .env line 4 can't be read; write it as NAME=value, with its quotes closed.",
        "error: KD_TAU=warm (.env line 1) is not allowed: it must be a number from 0.05 to 100.",
        "error: LR=9 (.env line 8) is not allowed: it must be a number from 1e-9 to 1.",
        "warning: SEED is set 2 times in .env (lines 6, 7); the last one is used.",
        "warning: TOTAL_STEP (.env line 5) is not a setting; did you mean TOTAL_STEPS?",
    ]


def test_references_to_settings_and_variables_are_expanded_with_fallbacks(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DISK=/big\nDATA_DIR=${DISK}/d\nLOGS_DIR=${NOWHERE:-/small}/l\n")
    settings = resolve({"DRIVE_ROOT": "/r"}, environ={}, cwd=tmp_path).checked()
    assert settings.values["DATA_DIR"] == Path("/big/d")
    assert settings.values["LOGS_DIR"] == Path("/small/l")
    assert settings.values["REPORTS_DIR"] == Path("/r/reports")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("DATA_DIR=${NOWHERE}/d", "it uses ${NOWHERE}, which is not set"),
        ("DATA_DIR=${LOGS_DIR}\nLOGS_DIR=${DATA_DIR}", "refer to each other in a circle"),
        ("TEACHER_MODEL=${OPENAI_API_KEY}\nOPENAI_API_KEY=" + CANARY, "it uses OPENAI_API_KEY, a secret"),
    ],
)
def test_a_bad_reference_is_a_problem(tmp_path: Path, line: str, reason: str) -> None:
    found = _messages(line, tmp_path)
    assert any(reason in message for message in found)
    assert not any(CANARY in message for message in found)


def test_secrets_are_kept_apart_and_taken_literally(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WEBDAV_PASSWORD='a$b${c}d'\nTEACHER_API_KEY=${OPENAI_API_KEY}\n")
    found = resolve(environ={"OPENAI_API_KEY": CANARY}, cwd=tmp_path)
    assert found.secrets["WEBDAV_PASSWORD"] == "a$b${c}d"
    assert found.secrets["TEACHER_API_KEY"] == CANARY
    assert CANARY not in repr(found.settings)
    assert not SECRET_NAMES & found.settings.values.keys()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("GROQ_API_KEY=${OPENAI_API_KEY}\nOPENAI_API_KEY=${GROQ_API_KEY}\n", "refer to each other in a circle"),
        ("GROQ_API_KEY=${OPENAI_API_KEY}\nOPENAI_API_KEY=${NOWHERE}\n", "it uses ${NOWHERE}, which is not set"),
    ],
)
def test_a_secret_with_a_bad_reference_is_a_problem(tmp_path: Path, text: str, reason: str) -> None:
    assert any(reason in message for message in _messages(text, tmp_path))


def test_a_secret_on_the_command_line_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY is a secret") as caught:
        resolve({"OPENAI_API_KEY": CANARY}, environ={}, cwd=tmp_path).checked()
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "shown", "why"),
    [
        ("https://user:pa/ss@host/v1", "https://•••@host/v1", "must not hold a password"),
        ("https://user:p@ss@host/v1", "https://•••@host/v1", "must not hold a password"),
        ("https://pass@host", "https://•••@host", "must not hold a password"),
        ("https://user:p@ss?@host/v1?key=pass", "https://•••@host/v1?•••", "must not hold a password"),
        ("https://host/v1?api_key=pass", "https://host/v1?•••", "must have no query"),
        ("https://host/v1?", "https://host/v1?•••", "must have no query"),
        ("https://user:pass/v1", "https://user:pass/v1", "must be an address such as"),
    ],
)
def test_an_address_with_a_key_is_refused_and_not_shown(address: str, shown: str, why: str, tmp_path: Path) -> None:
    (problem,) = resolve({"OPENAI_BASE_URL": address}, environ={}, cwd=tmp_path).problems
    assert problem.message.startswith(f"OPENAI_BASE_URL={shown} (command line) is not allowed: ")
    assert why in problem.message


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8080/v1", "https://host", "http://[::1]:80/v1", "https://h/a%40b"]
)
def test_an_address_without_a_key_is_accepted(address: str, tmp_path: Path) -> None:
    found = resolve({"OPENAI_BASE_URL": address}, environ={}, cwd=tmp_path)
    assert found.checked().values["OPENAI_BASE_URL"] == address


def test_a_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (problem,) = resolve({"TEACHER_MODEL": "a\udcffb"}, environ={}, cwd=tmp_path).problems
    assert problem.message == r"TEACHER_MODEL=a\udcffb (command line) is not allowed: it must be UTF-8."


def test_a_password_in_an_address_is_refused_and_not_shown(tmp_path: Path) -> None:
    found = _messages(f"TEACHER_BASE_URL=https://me:{CANARY}@host/v1\n", tmp_path)
    assert found == [
        "error: TEACHER_BASE_URL=https://•••@host/v1 (.env line 1) is not allowed: "
        "an address is written into run records, so it must not hold a password."
    ]


def test_a_folder_that_is_named_like_a_reference_is_that_folder(tmp_path: Path) -> None:
    root = tmp_path / "${HOME}" / "${NOWHERE}"
    root.mkdir(parents=True)
    (root / ".env").write_text("KD_PROMPTS_FILE=${DRIVE_ROOT}/p.txt\nSEED=7\n")
    settings = resolve(root=root, environ={"HOME": "/home/me"}, cwd=tmp_path).checked()
    assert settings.values["DRIVE_ROOT"] == root
    assert (settings.values["KD_PROMPTS_FILE"], settings.values["SEED"]) == (root / "p.txt", 7)


def test_the_experiments_file_can_not_move_the_experiment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DRIVE_ROOT=/elsewhere\nSEED=5\n")
    found = resolve(root=tmp_path, environ={}, cwd=tmp_path.parent)
    assert found.settings.values["DRIVE_ROOT"] == tmp_path
    assert found.settings.values["SEED"] == 5
    assert any("is ignored" in problem.message for problem in found.problems)


def test_a_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00S")
    with pytest.raises(UsageError, match="not UTF-8"):
        resolve(environ={}, cwd=tmp_path)


def test_settings_are_restored_from_a_record(tmp_path: Path) -> None:
    settings = from_values({"KD_TAU": "2", "DATA_DIR": "/d", "MINI_DIM": "512"})
    again = Settings.from_record(settings.to_record(), settings.origins)
    assert again.values == settings.values


def test_public_names_exist() -> None:
    """Names that users have in the `.env` files of the prototype."""
    for name in ("DRIVE_ROOT", "KD_TAU", "BUDGET_TOKENS", "FLIP_FRACTION", "MINI_HEAD_DIM", "EVAL_TOP_P",
                 "DRYRUN_MAX_ALLOC_FRAC", "NC_APP_PASSWORD", "DYNAMO_TABLE_PREFIX", "WANDB_PROJECT"):  # fmt: skip
        assert name in REGISTRY


def test_generated_files_are_up_to_date() -> None:
    assert (ROOT / ".env.example").read_text() == env_example(), "run `make docs`"
    assert (ROOT / "docs/settings.md").read_text() == settings_page(), "run `make docs`"


def test_the_example_file_has_no_problems(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(env_example())
    assert resolve(environ={}, cwd=tmp_path).problems == ()


def test_a_setting_that_nothing_reads_yet_has_no_effect(tmp_path: Path) -> None:
    text = "S3_BUCKET=runs\nWANDB_DISABLED=0\nKD_TAU=2\nS3_PREFIX=bitnet_poc/\nDROPBOX_ROOT=\n"
    assert _messages(text, tmp_path) == [
        "warning: WANDB_DISABLED=0 (.env line 2) has no effect yet.",
        "warning: S3_BUCKET=runs (.env line 1) has no effect while STORAGE_BACKEND is local.",
    ]
    assert not any(problem.to_fix for problem in resolve(environ={}, cwd=tmp_path).problems)
    assert resolve({"STORAGE_BACKEND": "local"}, environ={}, cwd=tmp_path.parent).problems == ()


def test_a_learning_rate_far_above_the_default_is_told(tmp_path: Path) -> None:
    assert _messages("LR=0.5\n", tmp_path) == [
        "warning: LR=0.5 (.env line 1) is 833 times the default of 6e-4, so training will probably diverge."
    ]
    assert _messages("LR=1e-2\n", tmp_path) == []


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("LR=5e-5\nSCHEDULER_ETA_MIN=5e-6\n", []),
        (
            "LR=5e-5\nSCHEDULER_ETA_MIN=5e-5\n",
            ["LR=5e-5 (.env line 1) is not above SCHEDULER_ETA_MIN=5e-5 (.env line 2)"],
        ),
        ("LR=5e-5\n", ["LR=5e-5 (.env line 1) is not above SCHEDULER_ETA_MIN=6e-5 (default)"]),
    ],
)
def test_a_learning_rate_that_does_not_fall_is_told(text: str, warnings: list[str], tmp_path: Path) -> None:
    told = [f"warning: {one}, so the learning rate does not fall." for one in warnings]
    assert _messages(text, tmp_path) == told
    assert not any(problem.to_fix for problem in resolve(environ={}, cwd=tmp_path).problems)


@pytest.mark.parametrize(
    ("text", "without_effect"),
    [
        ("STORAGE_BACKEND=s3\nS3_BUCKET=runs\nS3_PREFIX=x/\n", []),
        ("STORAGE_BACKEND=dynamodb\nS3_BUCKET=runs\nDYNAMO_REGION=eu-west-1\n", []),
        ("STORAGE_BACKEND=webdav\nNC_USERNAME=me\n", ["NC_USERNAME=me"]),
        ("STORAGE_BACKEND=nextcloud\nNC_USERNAME=me\nWEBDAV_URL=http://x\n", ["WEBDAV_URL=http://x"]),
        ("STORAGE_BACKEND=s3\nS3_BUCKET=b\nSTORAGE_LOCAL_DIR=/x\n", ["STORAGE_LOCAL_DIR=/x"]),
        ("STORAGE_LOCAL_DIR=/x\nSTORAGE_SYNC=end\nSTORAGE_NAME=y\n", []),
    ],
)
def test_settings_of_another_target_have_no_effect(text: str, without_effect: list[str], tmp_path: Path) -> None:
    found = [message.partition(" (")[0] for message in _messages(text, tmp_path)]
    assert found == [f"warning: {given}" for given in without_effect]


@pytest.mark.parametrize(
    ("text", "without_effect", "while_"),
    [
        (
            "STORAGE_BACKEND=gdrive\nGDRIVE_PROJECT_ROOT=/x\nGDRIVE_CLIENT_ID=a\nGDRIVE_FOLDER=/y\n",
            ["GDRIVE_FOLDER=/y", "GDRIVE_CLIENT_ID=a"],
            "GDRIVE_PROJECT_ROOT is set",
        ),
        ("STORAGE_BACKEND=gdrive\nGDRIVE_CLIENT_ID=a\nGDRIVE_FOLDER=/y\n", [], ""),
        (
            "STORAGE_BACKEND=amplify\nS3_BUCKET=b\nAMPLIFY_APP_ID=a\nAMPLIFY_ENV=e\nAMPLIFY_REGION=r\n",
            ["AMPLIFY_APP_ID=a", "AMPLIFY_ENV=e"],
            "S3_BUCKET is set",
        ),
        ("STORAGE_BACKEND=amplify\nAMPLIFY_APP_ID=a\nAMPLIFY_ENV=e\nS3_PREFIX=x/\n", [], ""),
        ("STORAGE_BACKEND=dynamodb\nS3_PREFIX=x/\n", ["S3_PREFIX=x/"], "S3_BUCKET is empty"),
    ],
)
def test_settings_that_another_of_their_target_makes_idle_have_no_effect(
    text: str, without_effect: list[str], while_: str, tmp_path: Path
) -> None:
    found = [message.partition(" (") for message in _messages(text, tmp_path)]
    assert [head for head, _, _ in found] == [f"warning: {given}" for given in without_effect]
    assert all(rest.endswith(f"has no effect while {while_}.") for _, _, rest in found)


def test_a_secret_that_nothing_reads_yet_is_named_without_its_value(tmp_path: Path) -> None:
    text = f"AWS_SECRET_ACCESS_KEY={CANARY}\nOPENAI_API_KEY={CANARY}\nHF_TOKEN={CANARY}\n"
    assert _messages(text, tmp_path) == [
        "warning: AWS_SECRET_ACCESS_KEY (.env line 1) has no effect while STORAGE_BACKEND is local."
    ]
    # In the environment it is there for other programs.
    assert resolve(environ={"AWS_SECRET_ACCESS_KEY": CANARY}, cwd=tmp_path.parent).problems == ()


_NUMBERS = [s for s in REGISTRY.values() if s.kind in ("int", "float") and not s.choices]


@given(st.sampled_from(_NUMBERS), st.floats(allow_nan=True, allow_infinity=True) | st.integers(-10, 10**7))
def test_a_number_is_accepted_exactly_within_its_bounds(setting: Setting, number: float) -> None:
    whole = setting.kind == "float" or isinstance(number, int)
    allowed = whole and math.isfinite(number) and setting.low <= number <= setting.high
    found = resolve({setting.name: repr(number)}, environ={}, cwd=Path("/"), read_files=False)
    errors = [p for p in found.problems if p.message.startswith(f"{setting.name}=")]
    assert (not errors) == allowed
    if allowed:
        assert found.settings.values[setting.name] == number
