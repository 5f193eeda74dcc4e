"""Prompts drawn from templates, against a twin that lists every filling; mistakes in a template file."""

import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.prompts.drawing import generate
from bitnet_core.prompts.prompt import load_prompts
from bitnet_core.prompts.templates import Template, Topic, load_topics

LISTS: dict[str, Any] = {"a": ("x", "y", "z"), "b": range(3, 12, 4), "c": ("", "!"), "d": ("only",)}
pieces = st.lists(st.sampled_from(["${a}", "${b}", "${c}", "${d}", " and ", "$ ", "{}"]), min_size=1, max_size=5)
texts = pieces.map("".join).filter(str.strip)


def template(system: str, *turns: str) -> Template:
    names = dict.fromkeys(re.findall(r"\$\{(\w)\}", system + "".join(turns)))
    return Template(system, turns, tuple((name, LISTS[name]) for name in names))


def all_of(one: Template) -> set[str]:
    """Every filling, made the slow way, by replacing words."""
    found = set()
    for values in itertools.product(*LISTS.values()):
        system, *turns = (one.system, *one.turns)
        for name, value in zip(LISTS, values, strict=True):
            slot = "${" + name + "}"
            system, turns = system.replace(slot, str(value)), [turn.replace(slot, str(value)) for turn in turns]
        roles = ["user", "assistant", "user"]
        messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
        whole = [{"role": "system", "content": system}, *messages] if one.system else messages
        found.add(json.dumps({"prompt": turns[0]} if len(whole) == 1 else {"messages": whole}))
    return found


def without_group(prompt: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in prompt.items() if name != "split_group"}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["", "Be ${a}."]), st.lists(texts, min_size=1, max_size=3)), min_size=1),
    st.integers(0, 1 << 40),
)
def test_each_filling_is_drawn_once_for_any_seed(written: list[Any], seed: int) -> None:
    topics = [
        Topic(f"t{n}", "", n + 0.5, (template(system, *(turns[:1] if len(turns) == 2 else turns)),))
        for n, (system, turns) in enumerate(written)
    ]
    fillings = [all_of(topic.templates[0]) for topic in topics]
    wanted = set().union(*fillings)
    made = list(generate(topics, len(wanted), seed))
    drawn = [json.dumps(without_group(prompt)) for prompt in made]
    assert len(drawn) == len(wanted)
    assert set(drawn) == wanted
    assert list(generate(topics, len(wanted) // 2, seed)) == made[: len(wanted) // 2]
    for place, topic in enumerate(topics):  # all prompts of a template are in one group
        mine = fillings[place].difference(*fillings[:place], *fillings[place + 1 :])
        groups = {one["split_group"] for one, text in zip(made, drawn, strict=True) if text in mine}
        assert len(groups) == bool(groups)
        assert all(name.startswith(f"{topic.name} ") for name in groups)
    with pytest.raises(BitnetError, match=r"make \d+ different prompts, but you asked for \d+"):
        list(generate(topics, sum(topic.size for topic in topics) + 1, seed))


def test_the_same_seed_gives_the_same_prompts_on_every_machine() -> None:
    topics = [Topic("t", "", 1.0, (template("", "${a}${b}${c}"), template("", "${b} ${d}")))]
    first = [prompt["prompt"] for prompt in generate(topics, 8, 7)]
    assert first == ["7 only", "11 only", "3 only", "z7", "x3", "z11!", "y3", "x7!"]
    assert first != [prompt["prompt"] for prompt in generate(topics, 8, 8)]


def test_fillings_with_the_same_text_are_one_prompt() -> None:
    same = Template("", ("${p}${q}",), (("p", ("a", "ab")), ("q", ("bc", "c"))))
    topics = [Topic("t", "", 1.0, (same,))]
    assert len(list(generate(topics, 3, 0))) == 3
    with pytest.raises(BitnetError, match="make 3 different prompts, but you asked for 4"):
        list(generate(topics, 4, 0))


def test_the_packaged_templates_make_a_hundred_thousand() -> None:
    topics = load_topics(None)
    count, length = 0, 0
    starts: set[str] = set()
    structured = 0
    for prompt in generate(topics, 100_000, 1):
        text = prompt.get("prompt") or prompt["messages"][-1]["content"]
        assert "${" not in text
        count, length = count + 1, length + len(text)
        starts.add(text[:24])
        structured += "JSON" in text or "table" in text or "code" in text
    assert count == 100_000
    assert 80 < length / count < 400
    assert len(starts) > 5_000
    assert structured > count / 4
    assert min(topic.size for topic in topics) > 5_000
    assert all(topic.about for topic in topics)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file: table missing required field `topics`"),
        ("x = [", "is not valid TOML"),
        ("x = 1", "the file: table contains unknown field `x`"),
        ("[topics]\na = 1", "topics.a: expected `table`, got `integer`"),
        ("[topics.a]", "topics.a: table missing required field `templates`"),
        ("[topics.a]\ntemplates = []", r"topics.a.templates: expected `list` of length >= 1"),
        ("[topics.a]\nweigth = 1", "topics.a: table contains unknown field `weigth`"),
        ("[topics.a]\nweight = 0\ntemplates = ['b']", "topics.a.weight is not a finite number above 0"),
        ("[topics.a]\nabout = 0\ntemplates = ['b']", "topics.a.about: expected `text`, got `integer`"),
        ("[topics.a]\ntemplates = [3]", r"topics.a.templates\[0\]: expected `text \| table`, got `integer`"),
        ("[topics.a]\ntemplates = ['b', '${c}']", r"templates\[1\] has a slot \$\{c\} but there is no list"),
        ("[topics.a]\ntemplates = [{turns = ['b', 'c']}]", r"templates\[0\] does not end with the user's turn"),
        ("[topics.a]\ntemplates = [{turns = [' ']}]", r"templates\[0\] has a blank turn"),
        (
            "[topics.a]\ntemplates = [{system = 3, turns = ['b']}]",
            r"templates\[0\].system: expected `text`, got `integer`",
        ),
        ("[topics.a]\ntemplates = [{user = 'b'}]", r"templates\[0\]: table contains unknown field `user`"),
        ("[topics.a]\ntemplates = ['b']\n[topics.c]\ntemplates = ['b']", "topics.c repeats 'b'"),
        ("lists = 3\n[topics.a]\ntemplates = ['b']", ": lists: expected `table`, got `integer`"),
        ("[topics.a]\ntemplates = ['x']\n[lists]\nB = ['c']", "lists.B has a name"),
        ("[topics.a]\ntemplates = ['x']\n[lists]\nb = []", "lists.b: expected `list` of length >= 1"),
        ("[topics.a]\ntemplates = ['x']\n[lists]\nb = ['c', 3]", r"lists.b\[1\]: expected `text`, got `integer`"),
        ("[topics.a]\ntemplates = ['x']\n[lists]\nb = ['c', 'd', 'c']", "lists.b holds 'c' twice"),
        ("[topics.a]\ntemplates = ['x']\n[lists]\nb = {from = 3, to = 2}", "lists.b goes from 3 to 2"),
        ("[topics.a]\ntemplates = ['x']\n[lists]\nb = {from = 3}", "lists.b: table missing required field `to`"),
        (
            "[topics.a]\ntemplates = ['x']\n[lists]\nb = {from = 0, to = 9999999999999999999}",
            "lists.b goes from 0 to 9{19}; write up to",
        ),
        (
            "[topics.a]\ntemplates = ['x']\n[lists]\nb = {from = 3, until = 2}",
            "lists.b: table contains unknown field `until`",
        ),
    ],
)
def test_a_mistake_in_a_template_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(BitnetError, match=said) as caught:
        load_topics(tmp_path / "own.toml")
    assert str(tmp_path / "own.toml") in str(caught.value)


def test_missing_files_and_topics_are_named(tmp_path: Path) -> None:
    with pytest.raises(BitnetError, match="does not exist"):
        load_topics(tmp_path / "none.toml")
    with pytest.raises(BitnetError, match="can't be read"):
        load_topics(tmp_path)
    with pytest.raises(BitnetError, match="has no topic cooking; choose from explanation"):
        load_topics(None, ["maths", "cooking"])


# -- the command -------------------------------------------------------------------------------------


def test_the_command_writes_a_file_that_collecting_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "prompts.jsonl"
    given = ["prompts", "--count", "300", "--seed", "5", "--topics", "maths, dialogue"]
    assert main([*given, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out), "prompts": 300, "seed": 5}
    assert len(load_prompts(out, "")) == 300
    assert main(given) == 0
    assert capsys.readouterr().out == out.read_text()


def test_the_command_lists_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "--list"]) == 0
    shown = capsys.readouterr().out
    assert main(["prompts", "--list", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["topic"] for one in told] == [topic.name for topic in load_topics(None)]
    assert all(one["topic"] in shown for one in told)


def test_asking_for_too_many_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.toml").write_text("[topics.a]\ntemplates = ['b', 'c']")
    given = ["prompts", "--templates", str(tmp_path / "own.toml"), "--out", str(tmp_path / "p.jsonl"), "--count"]
    assert main([*given, "3"]) == 1
    assert "make 2 different prompts, but you asked for 3" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["own.toml"]
    assert main([*given, "2"]) == 0
    assert main([*given, "0"]) == 2
    assert main(["prompts"]) == 2
    assert "--count" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["prompts.txt", "prompts", "prompts.jsonl.gz", "prompts.parquet"])
def test_a_name_of_another_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["prompts", "--count", "3", "--out", str(tmp_path / name)]) == 1
    assert "name it prompts" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["prompts", "--count", "3", "--out", str(tmp_path / "prompts.NDJSON")]) == 0
    assert len(load_prompts(tmp_path / "prompts.NDJSON", "")) == 3


def test_too_little_space_is_noticed_before_writing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "p.jsonl"
    assert main(["prompts", "--count", "99999999999", "--out", str(out)]) == 1
    assert "ask for 5000000 or fewer" in capsys.readouterr().err
    assert main(["prompts", "--count", "99999999999"]) == 1
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    assert main(["prompts", "--count", "1000000", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path} has 10 MB free" in said
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["prompts", "--count", "3", "--out", str(tmp_path / "file" / "p.jsonl")]) == 1
    assert "can't be written" in capsys.readouterr().err


def test_slots_without_an_end_are_text_and_not_searched_one_by_one() -> None:
    text = "${a} and " + "${" * 500_000
    assert Template("", (text,), (("a", ("x",)),)).fill(0) == {"prompt": text.replace("${a}", "x")}


def test_a_long_list_is_not_searched_for_each_of_its_values(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        f"[topics.a]\ntemplates = ['${{b}}']\n[lists]\nb = {[str(n) for n in range(300_000)]}"
    )
    (topic,) = load_topics(tmp_path / "t.toml")
    assert topic.templates[0].size == 300_000
