"""What is said of an experiment's copy, and its files as a tree."""

from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.runs.finding import Finding
from bitnet_core.storage.status import CopyStatus, Folder
from bitnet_tui.services.copying import StoredFile
from bitnet_tui.view import copy as copy_view
from bitnet_tui.view.copy import CopyView, Upload, copy_lines, said_lines
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.stored import Tree, nodes
from bitnet_tui.view.watch import ExperimentWatcher
from tests.tui.simulated import experiment, finished_experiment, save_checkpoint

_STORED = CopyStatus("s3://bucket/demo/", 1e9, 7, (Folder("data", 2, 5e6), Folder("checkpoints", 3, 5e8)))


def _text(copy: CopyView, said=None) -> str:
    return unstyled(*said_lines(said, 78) + copy_lines(copy, 78))


def test_without_a_target_one_sentence_and_where_to_set_it_in_the_app():
    assert _text(CopyView()).startswith("No storage target is set, so this experiment is only on this machine.")
    assert "W chooses one, logs in and tests it." in _text(CopyView())


def test_settings_that_cannot_be_read_come_before_what_follows_from_them():
    wrong = CopyView(problem="STORAGE_BACKEND=webdv is not allowed.")
    assert _text(wrong).startswith("✗ “Storage target” = webdv is not allowed.\n")


def test_what_is_stored_the_largest_first():
    text = _text(CopyView("s3", "live", _STORED))
    assert "✓ Up to date: all files here are as they were stored, by size and time." in text
    assert "stored   state 7, 5 files, 505 MB" in text
    assert "sent     while stages run" in text
    rows = [unstyled(one.text) for one in nodes(Tree(_STORED), frozenset({"data/"}), 70)]
    assert [row.split()[1] for row in rows] == ["checkpoints/", "data/"]  # what is in them is not known yet
    assert "500 MB  3 files" in rows[0]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "STORAGE_BACKEND=s3\nS3_BUCKET=mine\nS3_ENDPOINT_URL=http://minio:9000\n",
            "S3: bucket mine, endpoint http://minio:9000",
        ),
        ("STORAGE_BACKEND=local\nSTORAGE_LOCAL_DIR=/mnt/disk\n", "A folder: /mnt/disk"),
        ("STORAGE_BACKEND=dropbox\n", "Dropbox"),
    ],
)
def test_before_the_first_push_the_place_is_what_the_settings_say(home: Path, lines: str, told: str):
    exp = experiment(home, "new")
    (exp.root / ".env").write_text(lines)
    assert f"copy     {told}\n" in _text(ExperimentWatcher(exp.root, home).look(None).copy)


@pytest.mark.parametrize(
    ("copy", "told"),
    [
        (
            CopyView("s3", "off", _STORED, unlike=("reports/a.json",)),
            "▲ Behind: 1 file was changed here since the last push, such as reports/a.json.",
        ),
        (CopyView("s3", "off"), "▲ Nothing is stored yet, as far as this machine knows."),
        (
            CopyView("s3", "off", CopyStatus(unreadable="a can't be read")),
            "✗ What is stored is not known here: a can't be read; Pull the copy (U) reads it again.",
        ),
        (
            CopyView("s3", "off", _STORED, None, ("train", "eval")),
            "▲ Behind: “Train the student” and “Evaluate” ran after the last push.",
        ),
        (
            CopyView("s3", "end", _STORED, Upload("failed", "The key was refused."), ("train",)),
            "▲ Behind: “Train the student” ran after the last push. The last upload failed: The key was refused.",
        ),
        (
            CopyView("s3", "live", CopyStatus("p", 1.0, 1, (), (("a.pt", 1.0), ("b.pt", 2.0)))),
            "▲ Behind: 2 files wait, the first for",
        ),
        (
            CopyView("s3", "live", _STORED, Upload("running", "", (Finding("calm", "Sending a.pt."),)), ("train",)),
            "▸ Sending a.pt.",
        ),
    ],
)
def test_whether_the_copy_is_behind(copy: CopyView, told: str):
    assert told in " ".join(_text(copy).split())


def test_what_was_changed_on_disk_since_the_last_push_is_behind(isolated: Path, home: Path, monkeypatch):
    monkeypatch.setattr(copy_view, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(copy_view, "_SHARE", 0.0)
    exp = finished_experiment(home, "one")
    (exp.root / ".env").open("a").write(f"STORAGE_LOCAL_DIR={isolated / 'target'}\n")
    for step in (100, 200):
        save_checkpoint(exp, step)
    watcher = ExperimentWatcher(exp.root, home)
    assert main(["--root", str(exp.root), "store", "push"]) == 0

    def told() -> str:
        return " ".join(_text(watcher.look(None).copy).split())

    assert "✓ Up to date: all files here are as they were stored" in told()
    report = exp.reports / "a.json"
    report.write_text("{}")
    assert "▲ Behind: 1 file was changed here since the last push, such as reports/a.json." in told()
    assert main(["--root", str(exp.root), "store", "push"]) == 0
    assert "✓ Up to date" in told()
    report.write_text("[]")  # as long as before
    assert "such as reports/a.json" in told()
    assert main(["--root", str(exp.root), "store", "push"]) == 0
    (exp.root / ".env").open("a").write("LR=0.5\n")
    assert "such as settings.env" in told()
    (state,) = (exp.root / ".storage").glob("*.sqlite")
    state.write_bytes(b"no database" * 1000)
    assert f"✗ What is stored is not known here: .storage/{state.name} can't be read" in told()
    assert main(["--root", str(exp.root), "store", "pull"]) == 0
    assert main(["--root", str(exp.root), "store", "push"]) == 0
    assert "✓ Up to date" in told()


def test_names_from_the_target_are_shown_as_signs():
    evil = CopyStatus("p\x1b[2J", 1.0, 1, (Folder("a\nb\x1b", 1, 1),), (("[bold]x\x07", 1.0),))
    text = _text(CopyView("s3", "off", evil), ("bad", "no\x1b"))
    for tree in (Tree(evil), Tree(evil, (StoredFile("a\nb\x1b/c\x07", 1, "same"),))):
        text += "".join(span.text for one in nodes(tree, {"a\nb\x1b/"}, 70) for span in one.text)
    assert "\x1b" not in text
    assert "[bold]x·" in text


_LISTED = (
    StoredFile("data/a.parquet", 5_000_000, "same"),
    StoredFile("data/more/b.parquet", 100, "unread"),
    StoredFile("reports/x.json", 10, "differs"),
    StoredFile("reports/y.json", 10, "missing"),
    StoredFile("settings.env", 5, ""),
)


@pytest.mark.parametrize("cells", [30, 48, 70, 120])
def test_the_tree_shows_what_is_in_open_folders_and_how_each_file_is(cells: int):
    tree = Tree(_STORED, _LISTED, verified=True, damaged=frozenset({"data/a.parquet"}))
    found = nodes(tree, {"data/", "reports/"}, cells)
    assert [one.path for one in found] == [
        *("data/", "data/more/", "data/a.parquet"),
        *("reports/", "reports/x.json", "reports/y.json", "settings.env"),
    ]
    rows = {one.path: unstyled(one.text) for one in found}
    assert all(len(row) <= max(cells, 26) for row in rows.values())
    if cells >= 48:
        assert "✗ damaged there" in rows["data/a.parquet"] and "5 MB" in rows["data/a.parquet"]
        assert "! 1/2 damaged there" in rows["data/"]
        assert "≠ verified, differs" in rows["reports/x.json"]
        assert "↓ verified, not here" in rows["reports/y.json"]
    assert "verified" not in "".join(
        span.text for one in nodes(Tree(_STORED, _LISTED), {"data/"}, cells) for span in one.text
    )


def test_a_file_of_which_nothing_is_known_here_is_verified_and_no_more():
    found = nodes(Tree(_STORED, (StoredFile("settings.env", 5, ""),), verified=True), frozenset(), 70)
    assert found[0].text[-1].text == "verified"
