"""The receipt, the metrics and the curves as files: whole, true, and never markup of what came from outside."""

import csv
import io
import json
import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.results import metrics_csv
from bitnet_core.results.curves import Curve, Training
from bitnet_core.results.finding import reader_of
from bitnet_core.results.receipt import receipt
from bitnet_core.results.saving import save
from bitnet_core.results.svg import charts, page
from bitnet_core.runs.experiment import Experiment
from tests.builders import event
from tests.results.trainings import STEPS, TOKENS, collected, evaluated, made, trained
from tests.tui.simulated import NOON, SimulatedRun

_HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror=alert(2)>'\"&\x1b]0;x\x07\u202e"
_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "span",
        "table",
        "tr",
        "th",
        "td",
    ),
    *("code", "svg", "text", "line", "path"),
}


def _parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - written by ourselves


class _Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data + " "


@pytest.fixture
def exp(home: Path) -> Experiment:
    """A training that was resumed, with what it read and what measured it."""
    made_here = made(home, "kd-smol", LR="1e-3")
    collected(made_here)
    trained(made_here, 5.2, last=13, state="cancelled")
    trained(made_here, 5.2, first=11, at=NOON + 100)
    evaluated(made_here)
    return made_here


def _saved(home: Path, name: str, path: Path) -> str:
    return save(reader_of(name, home).read(), path).read_text(encoding="utf-8")


def test_the_receipt_says_where_each_number_is_from_and_how_it_is_had_again(exp: Experiment, home: Path):
    page_text = _saved(home, "kd-smol", exp.reports / "r.html")
    found = _Page(page_text)
    words = " ".join(found.words.split())
    for said in (
        "held-out loss 5.200 measured, at step 20, on 2,113 held-out tokens bitnet --root kd-smol train",
        "QEI 1.30 measured, (Q_s/Q_t)/(M_s/M_t) bitnet --root kd-smol eval",
        "spend $0.04 recorded by collecting bitnet --root kd-smol collect",
        files.sha256_file(files.asset("prompts", "collect.txt")),
        "LR 1e-3 6e-4",
        "held-out agreement 20.0% measured",
        "A8→A4",
        "resumed",
        "done 2026-09-21 14:15 UTC",
    ):
        assert said in words
    assert words.count("train-17900") >= 2  # both runs of the training
    assert found.tags <= _TAGS
    assert not found.attributes & {"src", "href", "onload", "onerror", "xlink:href"}
    assert "prefers-color-scheme: dark" in page_text
    assert "@media print" in page_text


def test_nothing_from_outside_becomes_markup(exp: Experiment, home: Path):
    run = evaluated(exp, at=NOON + 900)
    run.emit("table", name=_HOSTILE, columns=[_HOSTILE, "x"], rows=[[_HOSTILE, 1.5], [None, _HOSTILE * 5000]])
    run.finish(qei=1.0, model=_HOSTILE)
    run.emit(
        "run_started", stage="eval", run=_HOSTILE, pid=1, host=_HOSTILE, device=_HOSTILE, versions={"a": _HOSTILE}
    )
    (exp.root / ".env").write_text(f"TEMPLATE='{_HOSTILE[:40]}'\n")
    found = _Page(_saved(home, "kd-smol", exp.reports / "r.html"))
    assert found.tags <= _TAGS
    assert "<script>alert(1)</script>" in found.words
    assert len(found.words) < 40_000
    assert all(sign == "\n" or sign.isprintable() for sign in found.words)
    root = _parsed(page(_HOSTILE, reader_of("kd-smol", home).read().training))
    assert {one.tag.rpartition("}")[2] for one in root.iter()} <= {
        "svg",
        "style",
        "rect",
        "text",
        "line",
        "path",
        "title",
    }


def test_the_metrics_have_each_step_once(exp: Experiment, home: Path):
    rows = list(csv.DictReader(io.StringIO(_saved(home, "kd-smol", exp.reports / "m.csv"))))
    steps = [int(row["step"]) for row in rows if row["loss"]]
    assert steps == list(range(1, STEPS + 1))
    assert [row["run"] for row in rows if row["loss"]][9:11] == ["train-1790000000-test", "train-1790000100-test"]
    held_out = [(int(row["seen_tokens"]), float(row["heldout_loss"])) for row in rows if row["heldout_loss"]]
    assert held_out == reader_of("kd-smol", home).read().training.points("heldout_loss")


def test_a_text_in_the_metrics_is_no_formula(home: Path, exp: Experiment):
    run = trained(exp, 5.0, at=NOON + 5000)
    run.emit("metric", step=STEPS + 1, seen_tokens=1, heldout_loss=float("nan"), when='=HYPERLINK("http://x")')
    run.emit("metric", step=10**400, seen_tokens=2, when="\x1b[31m =x\udcff")
    out = io.StringIO()
    (newest, *older) = reader_of("kd-smol", home).read().trained
    metrics_csv.write([replace(newest, id=" =cmd|calc"), *older], out)  # the name of its folder
    assert out.getvalue().replace("\n", "").isprintable()
    last, larger = list(csv.DictReader(io.StringIO(out.getvalue())))[-2:]
    assert (larger["step"], larger["when"]) == ("", "·[31m =x?")
    assert last["run"] == "'=cmd|calc"
    assert last["when"].startswith("'=")
    assert last["heldout_loss"] == ""


def test_the_receipt_says_what_was_changed_in_the_middle(exp: Experiment, home: Path):
    run = SimulatedRun(exp, "train", NOON + 900)
    changed = {"before": {"LR": 1e-3}, "after": {"LR": 5e-4}}
    run._writer.emit(event("changed", step=15, seen_tokens=15 * TOKENS, **changed))
    run.emit("metric", step=16, seen_tokens=16 * TOKENS, loss=1.0)
    run.finish()
    told = f"Train the student: it continued with other settings at {15 * TOKENS:,} tokens (LR 1e-3 → 5e-4)."
    assert told in " ".join(_Page(_saved(home, "kd-smol", exp.reports / "r.html")).words.split())


def test_what_was_changed_stands_at_its_seam_unless_it_would_lie_on_another():
    curve = Curve("loss", (((0.0, 1.0), (1e4, 2.0)),), ())
    told = Training((curve,), (2000.0, 2100.0, 9000.0), ("LR 1 → 2", "", "LR 2 → 3"))
    drawn = list(_parsed(page("kd-smol", told)).iter())
    texts, titles = ([one.text for one in drawn if one.tag.endswith(f"}}{tag}")] for tag in ("text", "title"))
    assert {"resumed", "LR 2 → 3"} <= {*texts}
    assert "LR 1 → 2" not in texts
    assert titles == ["LR 2 → 3", "resumed", "LR 1 → 2"]


def test_curves_are_drawn_at_their_values(exp: Experiment, home: Path):
    root = _parsed(_saved(home, "kd-smol", exp.reports / "c.svg"))
    names = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Held-out loss", "loss 5.200", "A8→A4", "resumed", "20k"} <= set(names)
    (agreement,) = charts(Training((Curve("agreement", (((0.0, 0.05), (1e3, 0.2)),), ()),)))
    assert {"5%", "20%", "training 20.0%"} <= {one.text for one in _parsed(agreement).iter() if one.text}
    flat = Training((Curve("loss", (((0.0, 1.0), (TOKENS * 1.0, 1.0)), ((2e3, 3.0), (4e3, 2.0))), ()),))
    (lone,) = charts(Training((Curve("format", (((0.0, 1.0),), ((1e3, 0.5), (2e3, 0.5))), ()),)))
    assert " h0 M" in lone  # a point between two gaps is a dot
    (drawn,) = charts(flat)
    (line, _) = [one.get("d", "") for one in _parsed(drawn).iter("{http://www.w3.org/2000/svg}path")]
    places = [tuple(map(float, point.split(","))) for point in line.replace("M", "").split()]
    assert line.count("M") == 2  # a gap stays a gap
    assert places[0][1] == places[1][1] > places[3][1] > places[2][1]  # down is less
    assert places[1][0] - places[0][0] == pytest.approx((places[3][0] - places[0][0]) / 4, abs=0.2)


def test_a_png_has_the_curves(exp: Experiment, home: Path):
    pytest.importorskip("resvg_py")
    data = save(reader_of("kd-smol", home).read(), exp.reports / "c.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 10_000


def test_the_command_writes_into_the_reports_and_refuses_other_endings(
    exp: Experiment, home: Path, capsys: pytest.CaptureFixture[str]
):
    where = ["--set", f"BITNET_HOME={home}"]
    assert main(["report", "kd-smol", "--json", *where]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["path"] == str(exp.reports / "report-train-1790000100-test.html")
    assert answer["bytes"] == Path(answer["path"]).stat().st_size
    assert main(["--root", str(exp.root), "report", "--run", "train-1790000000", "--to", str(home / "a.csv")]) == 0
    assert (home / "a.csv").read_text().count("\n") > 10
    capsys.readouterr()
    assert main(["report", "kd-smol", "--to", str(home / "a.pdf"), *where]) == 2
    assert "a.pdf ends in none of .html, .csv, .svg, .png" in capsys.readouterr().err
    made(home, "new")
    assert main(["report", "new", *where]) == 2
    assert "has no run yet" in capsys.readouterr().err
    (home / "no").write_text("a file in the way")
    assert main(["report", "kd-smol", "--to", str(home / "no" / "r.html"), *where]) == 1
    assert "can't be written" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/dev/zero", "a\0b", "half \ud800", "pipe"])
def test_a_prompt_file_that_cannot_be_hashed_is_said_to_be_so(exp: Experiment, home: Path, path: str):
    os.mkfifo(exp.root / "pipe")
    subject = reader_of("kd-smol", home).read()
    for run in subject.runs.values():
        run.record.settings["KD_PROMPTS_FILE"] = str(exp.root / path)
    fact = next(one for one in receipt(subject).teacher if one.name.startswith("prompts"))
    assert "can't be read" in fact.origin


def test_a_report_is_not_put_in_the_place_of_a_pipe(exp: Experiment, home: Path):
    pipe = exp.root / "to.html"
    os.mkfifo(pipe)
    with pytest.raises(BitnetError, match="give a regular file"):
        save(reader_of("kd-smol", home).read(), pipe)
    assert pipe.is_fifo()


def test_a_report_that_is_written_to_a_link_leaves_the_link(exp: Experiment, home: Path):
    link, file = exp.root / "to.html", exp.root / "real.html"
    link.symlink_to(file.name)
    assert save(reader_of("kd-smol", home).read(), link) == link
    assert link.is_symlink()
    assert "<html" in file.read_text(encoding="utf-8")


def test_runs_that_cannot_be_read_are_named(exp: Experiment, home: Path, capsys: pytest.CaptureFixture[str]):
    records = sorted(exp.logs.glob("*/run.json"), key=lambda one: "train" in one.parent.name)
    records[-1].write_text("{")
    assert main(["report", "kd-smol", "--to", "one.html", "--set", f"BITNET_HOME={home}"]) == 0
    assert str(records[-1]) in Path("one.html").read_text()
    capsys.readouterr()
    assert main(["compare", "kd-smol", "kd-smol", "--set", f"BITNET_HOME={home}"]) == 0
    assert "run.json" in capsys.readouterr().err
    for record in records:
        record.write_text("{")
    for arguments in ([], ["--run", "train"]):
        assert main(["report", "kd-smol", *arguments, "--to", "two.html", "--set", f"BITNET_HOME={home}"]) == 1
        said = capsys.readouterr().err
        assert "run.json" in said
        assert "no run yet" not in said


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"TEACHER_PROVIDER": "vllm", "VLLM_MODEL": "Qwen/Qwen3-8B"}, "Qwen/Qwen3-8B"),
        ({"TEACHER_PROVIDER": "vllm", "VLLM_MODEL": "a", "TEACHER_MODEL": "b"}, "b"),
        ({"TEACHER_PROVIDER": "embedded"}, "embedded"),
    ],
)
def test_a_teacher_that_no_run_names_is_named_by_the_settings(
    home: Path, settings: dict[str, str], name: str
) -> None:
    exp = made(home, "kd-smol", **settings)
    trained(exp, 5.0)
    assert receipt(reader_of("kd-smol", home).read()).lead.startswith(f"{name} → ")
