"""Editing `.env` files: everything else stays the same to the byte, and what is written is read back."""

import io
import os
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.settings import dotenv
from bitnet_core.settings.dotenv import read_dotenv

K = "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a\nOPENAI_API_KEY=sk-1\nB=2 # b\n", "# a\nOPENAI_API_KEY=\nB=2 # b\n"),
        ("OPENAI_API_KEY=sk-1 # mine\n", "OPENAI_API_KEY= # mine\n"),
        ("export  OPENAI_API_KEY = 'sk-1'   # mine\n", "export  OPENAI_API_KEY = # mine\n"),
        ('OPENAI_API_KEY="a\nb # no comment\nc" # one\nB=2\n', "OPENAI_API_KEY= # one\nB=2\n"),
        ("OPENAI_API_KEY='it\\'s'\nB=1", "OPENAI_API_KEY=\nB=1"),
        ("OPENAI_API_KEY=one\nB=1\n\n\nOPENAI_API_KEY=two\n", "OPENAI_API_KEY=\nB=1\n\n\nOPENAI_API_KEY=\n"),
        ("\ufeffOPENAI_API_KEY=sk-1\r\n# c\r\nB=2\r\n", "\ufeffOPENAI_API_KEY=\r\n# c\r\nB=2\r\n"),
        ("OPENAI_API_KEY=sk-1", "OPENAI_API_KEY="),
        ("# was secret-1 once\nOPENAI_API_KEY=secret-1\n", "# was ••• once\nOPENAI_API_KEY=\n"),
        ("B=secret-1\nOPENAI_API_KEY=secret-1\n", "B=secret-1\nOPENAI_API_KEY=\n"),
        ("OPENAI_API_KEY\nB=1\n", "OPENAI_API_KEY\nB=1\n"),
        ("'OPENAI_API_KEY'=sk-1\nwhat is this\n", "'OPENAI_API_KEY'=\nwhat is this\n"),
        ("OPENAI_API_KEY=a#b\n", "OPENAI_API_KEY=\n"),
    ],
)  # fmt: skip
def test_an_assignment_is_emptied_and_the_rest_stays(before: str, after: str) -> None:
    assert dotenv.without_values(before, [K], lambda text: text.replace("secret-1", "•••")) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a\nOPENAI_API_KEY=sk-1\nB=2 # b\n", "# a\nB=2 # b\n"),
        ("OPENAI_API_KEY=sk-1 # mine\n", "OPENAI_API_KEY= # mine\n"),
        ("A=1\n\n  export OPENAI_API_KEY='sk\n1'\n\nB=2", "A=1\n\n\nB=2"),
        ("\ufeffOPENAI_API_KEY=one\r\nB=1\r\nOPENAI_API_KEY=", "\ufeffB=1\r\n"),
        ("OPENAI_API_KEY\nB=1\n", "B=1\n"),
    ],
)  # fmt: skip
def test_an_assignment_is_removed_and_the_rest_stays(before: str, after: str) -> None:
    assert dotenv.without(before, [K]) == after


_LINE = st.sampled_from(
    ["# note", "", "  ", "A=1", "export B='two words' # b", 'C="x\ny"', f"{K}=sk-123456", f"export {K}='sk 1' # c",
     f'{K}="p\nq#r"', f"{K} = v # w", "broken line", "D=${A}", f"#{K}=old"]
)  # fmt: skip


@given(st.lists(_LINE, max_size=12), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_only_the_assignment_is_changed(lines: list[str], newline: str, bom: bool, ended: bool) -> None:
    text = ("\ufeff" if bom else "") + newline.join(lines) + (newline if ended else "")
    after = dotenv.without_values(text, [K])

    def values(of: str) -> dict[str, str | None]:
        return dotenv_values(stream=io.StringIO(of.removeprefix("\ufeff"), newline=""), interpolate=False)

    assert not values(after).get(K)
    assert {n: v for n, v in values(after).items() if n != K} == {n: v for n, v in values(text).items() if n != K}
    assert [line for line in text.splitlines() if "#" in line and K not in line and '"' not in line] == [
        line for line in after.splitlines() if "#" in line and K not in line and '"' not in line
    ]
    assert after.count(newline) <= text.count(newline)
    assert dotenv.without_values(after, [K]) == after
    removed = dotenv.without(text, [K])
    assert {n: v for n, v in values(removed).items() if v} == {n: v for n, v in values(after).items() if v}
    assert dotenv.without(removed, [K]) == dotenv.without(after, [K])


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1),
    st.sampled_from(["", f"A=1\n{K}=old # c\nB=2\n", "A=1"]),
)
def test_a_value_that_is_written_is_read_back(value: str, text: str) -> None:
    if value.startswith("${") and value.endswith("}"):
        return
    found = dotenv_values(stream=io.StringIO(dotenv.with_value(text, K, value)), interpolate=False)
    assert found[K] == value
    if "B=2" in text:
        assert (found["A"], found["B"]) == ("1", "2")


def test_the_file_keeps_its_mode_its_link_and_its_line_ends(tmp_path: Path) -> None:
    real, link = tmp_path / "real.env", tmp_path / ".env"
    real.write_bytes(b"A=1\r\nOPENAI_API_KEY=sk-1\r\n")
    real.chmod(0o640)
    link.symlink_to(real)
    dotenv.write(link, dotenv.without_values(dotenv.read_text(link), [K]))
    assert link.is_symlink()
    assert real.read_bytes() == b"A=1\r\nOPENAI_API_KEY=\r\n"
    assert real.stat().st_mode & 0o777 == 0o640
    new = tmp_path / "new.env"
    old = os.umask(0)
    try:
        dotenv.write(new, "A=1\n")
    finally:
        os.umask(old)
    assert new.stat().st_mode & 0o777 == 0o600
    assert read_dotenv(new).values == {"A": "1"}


def test_a_file_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(BitnetError, match="is not UTF-8 text"):
        dotenv.read_text(tmp_path / ".env")


@pytest.mark.parametrize("blank", [" ", "\t", "\v", "\x1c", "\u3000", " \t"])
@pytest.mark.parametrize("line", ["SEED=1{}x", "#{}", "SEED='1'{}x", "SEED{}=1", "{}SEED=1", "export{}SEED=1"])
def test_many_blanks_are_refused_before_anything_looks_behind_them(tmp_path: Path, line: str, blank: str) -> None:
    path = tmp_path / ".env"
    for many, end in ((1000, ""), (300_000, " line 2 has more than 1,000 blanks in a row; remove them.")):
        path.write_text("A=1\n" + line.format(blank * (many // len(blank))) + "\n")
        if not end:
            assert read_dotenv(path).values["A"] == "1"
            continue
        with pytest.raises(UsageError) as caught:
            read_dotenv(path)
        assert str(caught.value) == f"{path}{end}"
        with pytest.raises(UsageError, match="1,000 blanks in a row"):
            dotenv.with_value(path.read_text(), "A", "2")
