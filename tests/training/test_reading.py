"""Checkpoints that are read while a training replaces and removes them: one is read, and it is known which."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.files import FileReplaced
from bitnet_core.model import tensor_file
from bitnet_core.training import checkpoints
from bitnet_core.training.reading import read_chosen
from tests.builders import do_before
from tests.training.test_checkpoints import checkpoint


def save(folder: Path, step: int, seed: int | None = None) -> Path:
    """The seed is told by the weights, so that two checkpoints of one step can differ."""
    made = checkpoint(step if seed is None else seed)
    made.step = step
    return Path(checkpoints.save(folder, made, {}).path)


def go_on(folder: Path) -> None:
    """Three more steps, as a training keeps them."""
    newest = checkpoints.step_of(checkpoints.found(folder)[0])
    for step in (1, 2, 3):
        save(folder, newest + step)
    checkpoints.prune(folder, best_step=None)


def again(folder: Path) -> None:
    """The same step of a training that began again."""
    save(folder, 5, seed=6)


def hidden(folder: Path) -> None:
    """As a training with `--from 0` does."""
    checkpoints.set_aside(folder, checkpoints.found(folder))
    save(folder, 0)


Meanwhile = Callable[[Callable[[], object]], None]


@pytest.fixture(params=["_require_whole", "_require_backed"])
def meanwhile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Have something done once, before or after the file is first read."""
    return partial(do_before, monkeypatch, tensor_file, request.param)


@pytest.mark.parametrize("change", [go_on, again, hidden])
def test_what_is_read_is_one_file_whatever_a_training_does(
    tmp_path: Path, change: Callable[[Path], None], meanwhile: Meanwhile
) -> None:
    save(tmp_path, 5)
    meanwhile(partial(change, tmp_path))
    path, (loaded, sha256) = read_chosen(partial(checkpoints.require_latest, tmp_path), checkpoints.load_hashed)
    assert path == checkpoints.latest(tmp_path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.step == checkpoints.step_of(path)
    there = checkpoints.load(path)
    assert all(bool((loaded.model[name] == tensor).all()) for name, tensor in there.model.items())


def test_a_hash_is_that_of_the_file_that_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, 5)
    real = tensor_file.load_tensors

    def then_replaced(path: Path) -> object:
        payload = real(path)
        again(tmp_path)
        return payload

    monkeypatch.setattr(tensor_file, "load_tensors", then_replaced)
    with pytest.raises(FileReplaced, match=r"was removed or replaced while it was being read; try again\.$"):
        checkpoints.load_hashed(path)


def test_a_step_that_is_gone_is_told_with_those_that_are_there(tmp_path: Path, meanwhile: Meanwhile) -> None:
    save(tmp_path, 5)
    meanwhile(partial(go_on, tmp_path))
    with pytest.raises(BitnetError, match=r"no complete checkpoint of step 5 .* that are there: 6, 7, 8\.$"):
        read_chosen(partial(checkpoints.chosen, tmp_path, "5"), checkpoints.load)


def test_all_that_are_there_may_be_replaced_while_the_newest_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 5)
    do_before(monkeypatch, checkpoints, "is_complete", partial(go_on, tmp_path))
    assert checkpoints.step_of(checkpoints.require_latest(tmp_path, pytest.fail)) == 8


def test_a_checkpoint_is_never_seen_without_its_hash_for_longer_than_a_small_file_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own hash takes seconds where it is large."""
    seen: list[list[Path]] = []
    real = checkpoints.files.sha256_file

    def hashed(path: Path) -> str:
        seen.append(checkpoints.found(tmp_path))
        return real(path)

    monkeypatch.setattr(checkpoints.files, "sha256_file", hashed)
    save(tmp_path, 5)
    assert seen == [[]]
