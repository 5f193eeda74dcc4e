"""What is asked before experiments are deleted."""

import time
from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_tui.services.managing import Fetch
from bitnet_tui.view.going import at_work, question, running
from bitnet_tui.view.workspace import ExperimentRow, Stored

_ONE = {"name": "one", "files": 57, "bytes": 19e7, "running": None, "outside": [], "copy": None, "mentions": []}
_COPIED = _ONE | {"name": "two", "copy": {"place": "s3://b/two/", "at": time.time() - 7200, "waiting": 3}}


def test_what_goes_and_what_stays_is_told():
    title, why, yes, unchanged = question([_ONE])
    assert (title, yes, unchanged) == ("Delete one?", "Delete 190 MB", "Nothing was deleted.")
    assert why == "one: 57 files, 190 MB; there is no copy elsewhere.\n\nIt can't be brought back."
    title, why, yes, unchanged = question(
        [_ONE, _COPIED | {"outside": ["/big/ckpt"], "mentions": ["x reads files of two."]}]
    )
    assert (title, yes, unchanged) == ("Delete the 2 marked experiments?", "Delete 380 MB", "Nothing was deleted.")
    assert (
        "its copy, made 2 h ago, stays at s3://b/two/, 3 files behind; /big/ckpt lies elsewhere and stays; x" in why
    )
    assert why.endswith("What has no copy is lost.")
    assert question([_COPIED])[1].endswith("can be fetched again.")
    assert "and 4 more" in question([_ONE] * 10)[1]


def test_names_and_places_are_shown_as_signs():
    evil = _COPIED | {
        "name": "a\x1b[2J\nb",
        "copy": {"place": "s3\x07", "at": None, "waiting": 0},
        "running": "t\x1b",
    }
    assert not {"\x1b", "\x07"} & set("".join(question([evil])) + running([evil]))


def test_what_runs_is_named():
    assert running([_ONE, _COPIED]) == ""
    one, two = _ONE | {"running": "train-20261129T163621Z-5bfa"}, _COPIED | {"running": "upload-2"}
    assert running([one, _COPIED]) == "“Train the student” is running in one; stop it or wait until it ends."
    assert running([one, two]).endswith(
        "is running in one and “Copy to storage” is running in two; stop them or wait until they end."
    )
    uploading = ExperimentRow(Path("two"), stored=Stored("s3", upload="running"))
    assert at_work(uploading) == "“Copy to storage” is running in two"
    assert at_work(ExperimentRow(Path("two"), stored=Stored("s3", upload="failed"))) == ""


@pytest.mark.parametrize("target", ["", "nowhere:x"])
def test_a_target_that_is_none_is_refused(tmp_path, target: str):
    with pytest.raises(UsageError):
        Fetch(tmp_path, target, "", {}, print)
