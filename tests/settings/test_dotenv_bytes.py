"""Any bytes as a `.env`: the values of python-dotenv, or one sentence. `check` also serves as a fuzz target."""

import io
import tempfile
from pathlib import Path

from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.settings import dotenv
from bitnet_core.settings.references import MAX_LENGTH
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.settings.resolve import resolve
from tests.fuzzing import fuzz


def twin(text: str) -> dict[str, str | None]:
    """What python-dotenv itself reads; None for a name that stands last without `=`, which is an error here."""
    stream = io.StringIO(text.removeprefix("\ufeff"), newline=None)
    return {n: value for n, value in dotenv_values(stream=stream, interpolate=False).items() if value != ""}


def check(data: bytes) -> None:
    """AssertionError, or any error but BitnetError, shows a fault."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        path.write_bytes(data)
        try:
            file = dotenv.read_dotenv(path)
        except BitnetError as error:
            assert "\n" not in str(error)
            assert not _is_utf8(data) or b"\0" in data or len(data) > MAX_LENGTH
            return
        for name, value in twin(data.decode()).items():
            assert file.unreadable if value is None else file.values[name] == value
        found = resolve(environ={}, cwd=path.parent)
    for name in file.values.keys() & REGISTRY.keys() - SECRET_NAMES:
        refused = any(one.severity == "error" and one.message.startswith(f"{name}=") for one in found.problems)
        assert refused or found.settings.origin(name).startswith(".env line ")
    assert all(len(one.message) < 2000 for one in found.problems)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_NAME = st.sampled_from(
    ["SEED", "KD_MAX_USD", "LR", "DATA_DIR", "TEACHER_MODEL", "HF_HOME", "OPENAI_API_KEY", "MINE"]
)
_VALUE = st.sampled_from(
    ["1", "1.5", "'two words'", '"a\\nb"', "${SEED}", "${MINE:-x}", "${A", "~nobody/x", "../y", ""]
)
_LINE = st.tuples(st.sampled_from(["", "export ", "# ", " "]), _NAME, st.sampled_from(["=", " = ", "", ":"]), _VALUE)
TEXTS = st.lists(_LINE.map("".join) | st.text(max_size=12), max_size=8).map("\n".join).map(str.encode)
"""Mostly well-formed files, so that the readers behind the parser are reached too."""


@fuzz(200)
@given(st.binary(max_size=200) | TEXTS)
def test_any_bytes_are_read_as_python_dotenv_reads_them_or_refused(data: bytes) -> None:
    check(data)


@fuzz(100)
@given(TEXTS, st.binary(min_size=1, max_size=3), st.integers(0, 10_000))
def test_a_damaged_file_too(data: bytes, damage: bytes, at: int) -> None:
    at %= len(data) + 1
    check(data[:at] + damage + data[at:])
