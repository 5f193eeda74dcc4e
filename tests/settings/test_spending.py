"""A spending limit that a slip of the pen would remove is an error, wherever it is written."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.settings.dotenv import quoted
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import resolve
from bitnet_core.settings.spending import LIMITS, limit_inside, meant_limit


def errors(text: str, cwd: Path, environ: dict[str, str] | None = None) -> list[str]:
    (cwd / ".env").write_text(text, encoding="utf-8")
    return [one.message for one in resolve(environ=environ or {}, cwd=cwd).problems if one.severity == "error"]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    "spelling",
    [
        *("{lower}", "{title}", '"{name}"', "{name}\u200b", "\ufeff{name}", "{name}S", "X{name}", "$env:{name}"),
        *("{name}_", "KD-{short}", "KD{short}", "MY_{name}"),
    ],
)
def test_a_misspelt_limit_is_an_error_that_names_it(tmp_path: Path, limit: str, spelling: str) -> None:
    short = limit.removeprefix("KD_")
    name = spelling.format(name=limit, lower=limit.lower(), title=limit.title(), short=short)
    (error,) = errors(f"SEED=1\n{name}=5\n", tmp_path)
    assert limit in error
    assert ".env line 2" in error


@pytest.mark.parametrize("name", ["kd_max_usd", "KD_MAX_USDS", "KD_MAX_REQUEST", "Kd_Max_Tokens_Total", "KD_MAXUSD"])
def test_a_misspelt_limit_of_the_environment_is_an_error(tmp_path: Path, name: str) -> None:
    (error,) = errors("", tmp_path, {name: "5", "PATH": "/bin", "KDE_SESSION": "1", "MAX_JOBS": "2"})
    assert error.startswith(f"{name} (the environment) is not a setting, so it limits no spending; write KD_MAX_")


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        *(
            (f"KD_{words}", "KD_MAX_USD")
            for words in ("USD_MAX", "MAX_DOLLARS", "LIMIT_USD", "USD", "MAX_COST", "SPEND")
        ),
        *(
            (f"KD_{words}", "KD_MAX_TOKENS_TOTAL")
            for words in ("MAX_TOTAL_TOKENS", "TOKENS_MAX_TOTAL", "TOTAL_TOKENS")
        ),
        *((f"KD_{words}", "KD_MAX_REQUESTS") for words in ("REQUESTS_MAX", "MAX_REQS", "MAX_CALLS", "REQUEST_LIMIT")),
    ],
)
def test_a_limit_in_other_words_is_an_error_in_a_file_and_in_the_environment(
    tmp_path: Path, name: str, limit: str
) -> None:
    (written,) = errors(f"{name}=5\n", tmp_path)
    assert f"write {limit}, or remove it" in written
    (given,) = errors("", tmp_path, {name: "5"})
    assert f"write {limit}, or remove it" in given


@pytest.mark.parametrize("name", ["MAX_USD", "SPENDING_LIMIT", "MAX_COST", "API_COST_CAP"])
def test_a_limit_of_money_without_our_prefix_is_an_error_in_a_file(tmp_path: Path, name: str) -> None:
    assert "write KD_MAX_USD, or remove it" in errors(f"{name}=5\n", tmp_path)[0]


@pytest.mark.parametrize("name", ["KD_MAX_TOKENS_PER_PROMPTS", "KD_MAX_ATTEMPT", "KD_TAUU", "MY_BUDGET", "SEEDS"])
def test_other_unknown_names_are_warnings(tmp_path: Path, name: str) -> None:
    assert errors(f"{name}=5\n", tmp_path) == []


def test_no_setting_is_taken_for_another() -> None:
    assert [name for name in REGISTRY if meant_limit(name) not in (None, name)] == []


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    "text",
    [
        'OPENAI_MODEL="it\n{}=5\nGROQ_MODEL="\n',
        "OPENAI_MODEL='it\n{}=5\nGROQ_MODEL='\n",
        "MINE='\n  export {} = 5\n'\n",
        "MINE=\"a\n'{}'=5\n\"\nTEACHER_MODEL=${{MINE:-x}}\n",
        "TEMPLATE='x\n{}=5\n'\n",
        "OPENAI_API_KEY='sk-canary\n{}=5\n'\n",
        'MINE="a\\n{}=5"\n',
        "export CUSTOM_MODEL=gpt-4o {}=5\n",
        "CUSTOM_MODEL=gpt-4o; {}=5\n",
        "CUSTOM_MODEL=gpt-4o && export {}=5\n",
        "CUSTOM_MODEL=gpt-4o,{} = 5\n",
        "KD_PROMPTS_FILE=a.txt {}=5\n",
        "CUSTOM_MODEL=gpt-4o{}=5\n",
    ],
)
def test_a_limit_inside_another_value_is_an_error(tmp_path: Path, limit: str, text: str) -> None:
    found = [
        error for error in errors(text.format(limit), tmp_path) if f"{limit} is set inside the value of" in error
    ]
    assert len(found) == 1
    assert "sk-canary" not in found[0]


@pytest.mark.parametrize(
    "value", ["", "KD_MAX_USD=5", "a\nMY_KD_MAX_USD=5", "a\nKD_MAX_USD", "a\n\nb", "\n" * 30_000]
)
def test_what_sets_no_limit_is_a_value(value: str) -> None:
    assert limit_inside(value) is None


@given(st.text(max_size=20), st.sampled_from(LIMITS), st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_limit_on_any_further_line_is_found(before: str, limit: str, end: str) -> None:
    assert limit_inside(f"{before}{end}{limit}=5") is not None


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    "text",
    [
        "{}=${{TEACHER_MODEL}}",
        "{}=${{OPENAI_MODEL}}${{GROQ_MODEL}}",
        "{}=${{NOWHERE:-}}",
        "{}=${{MINE}}\nMINE=${{OPENAI_MODEL}}",
        "{}=${{KD_CONCURRENCY}}",
        "{}=${{MINE:-${{NOWHERE}}",
    ],
)
def test_a_limit_whose_references_stand_for_nothing_is_an_error(tmp_path: Path, limit: str, text: str) -> None:
    (error,) = errors(text.format(limit) + "\n", tmp_path)
    assert error.startswith(f"{limit}=$")


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_that_is_emptied_later_is_an_error(tmp_path: Path, limit: str) -> None:
    (error,) = errors(f"{limit}=5\nSEED=1\n{limit}=\n", tmp_path)
    assert error.startswith(f"{limit} is set in .env line 1 and emptied in line 3; ")
    assert errors(f'{limit}=5\n{limit}=6\n{limit}=""\n', tmp_path)[0].startswith(f"{limit} is set in .env line 2 and")
    assert errors(f"{limit}=\n{limit}=5\n", tmp_path) == []
    assert errors(f"{limit}=\n", tmp_path) == []
    assert errors("SEED=1\nSEED=\n", tmp_path) == []


_ONE_LINE = [name for name, one in REGISTRY.items() if one.kind == "text" and not one.secret and not one.multiline]


@pytest.mark.parametrize("value", ["a\nb", "a\n", "\nb", "a\r\nb", "a\rb", "1\n2"])
@pytest.mark.parametrize("name", [*_ONE_LINE[::9], "OPENAI_MODEL", "HF_HOME"])
def test_a_value_has_one_line(tmp_path: Path, name: str, value: str) -> None:
    (problem,) = [one for one in resolve({name: value}, environ={}, cwd=tmp_path).problems if one.severity == "error"]
    assert "it has several lines" in problem.message or REGISTRY[name].choices
    assert not {"\n", "\r"} & {*problem.message}


def test_templates_keys_and_paths_may_have_several_lines(tmp_path: Path) -> None:
    lines = {
        "TEMPLATE": "a\n{% if x %}\nb",
        "FIREBASE_CREDENTIALS_JSON": '{\n "a": 1\n}',
        "MY_NOTE": "a\nb",
        "KD_PROMPTS_FILE": "a\nb",
    }
    assert errors("".join(f"{name}={quoted(value)}\n" for name, value in lines.items()), tmp_path) == []


# -- files that only this process has open ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["/dev/fd/63", "/dev/stdin", "/proc/self/fd/3", "/proc/7/fd/3", "/dev/./fd/9"])
@pytest.mark.parametrize("name", ["KD_PROMPTS_FILE", "KD_PRICES_FILE", "EVAL_PROMPTS_FILE", "KD_DATA_PATH"])
def test_a_file_that_only_this_command_has_open_is_refused(tmp_path: Path, name: str, path: str) -> None:
    (error,) = errors(f"{name}={path}\n", tmp_path)
    assert "a run is a process of its own; write it to a file" in error


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("BITNET_VAULT_PASSPHRASE_FILE", "/dev/fd/3"),
        ("KD_PROMPTS_FILE", "/dev/fd/3/x"),
        ("KD_PROMPTS_FILE", "dev/fd/3"),
        ("KD_PROMPTS_FILE", "/dev/null"),
    ],
)
def test_other_paths_are_taken(tmp_path: Path, name: str, path: str) -> None:
    assert errors(f"{name}={path}\n", tmp_path) == []


SEPARATORS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("before", ["# a note", "SEED=1 # a note", "#", "SEED='1' #"])
def test_a_limit_behind_a_line_end_that_only_editors_know_is_not_passed_over(
    tmp_path: Path, separator: str, before: str
) -> None:
    (error,) = errors(f"TEACHER_PROVIDER=embedded\n{before}{separator}KD_MAX_USD=5\n", tmp_path)
    assert ".env line 2" in error
    assert not errors(f"{before}{separator} \nKD_MAX_USD=5\n", tmp_path)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        *((name, "KD_MAX_USD") for name in ("BUDGET_USD", "USD_BUDGET", "TEACHER_BUDGET_USD", "KD_BUDGET")),
        *((name, "KD_MAX_USD") for name in ("KD_PRICE_LIMIT", "KD_QUOTA", "MAX_PRICE", "COST_ALLOWANCE")),
        *((name, "KD_MAX_TOKENS_TOTAL") for name in ("KD_TOKEN_BUDGET", "KD_TOKENS_QUOTA")),
    ],
)
def test_a_budget_by_another_name_is_an_error(tmp_path: Path, name: str, limit: str) -> None:
    (error,) = errors(f"{name}=5\n", tmp_path)
    assert limit in error


@pytest.mark.parametrize("text", ["5_0", "1_50", "1_000_00", "_5", "5_", "1__000", "0.5_0", "1_0"])
@pytest.mark.parametrize("limit", LIMITS)
def test_an_underscore_that_sets_no_thousands_apart_is_no_number(tmp_path: Path, text: str, limit: str) -> None:
    (error,) = errors(f"{limit}={text}\n", tmp_path)
    assert error.startswith(f"{limit}={text} ")
    assert not errors(f"{limit}=1_000_000\n", tmp_path)
