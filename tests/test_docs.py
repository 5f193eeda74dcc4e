"""The documents name what is there: links lead somewhere, and commands and benchmarks have the options shown."""

import re
import shlex
from pathlib import Path

import pytest

from bitnet_core.cli.main import _parser, _shared_parser
from bitnet_core.settings.registry import REGISTRY

REPO = Path(__file__).parents[1]
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").glob("*.md")])
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path, program: str) -> list[list[str]]:
    """The command lines of a page that begin with `program`, split into words.

    They are the lines of its blocks, with the page's variables put in, and what stands between backticks if it has an
    option.
    """
    text = page.read_text()
    variables = dict(re.findall(r'^(\w+)="([^"]*)"', text, re.MULTILINE))
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`([^`]+)`", BLOCK.sub("", text).replace("\n", " "))
    lines += [code for code in inline if " --" in code and "…" not in code]
    lines = [re.sub(r"\$(\w+)", lambda name: variables.get(name[1], name[0]), line) for line in lines]
    found = (line.strip().removeprefix(".venv/bin/") for line in lines)
    return [shlex.split(line, comments=True) for line in found if line.startswith(f"{program} ")]


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have in links, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_inside_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(there), f"{page.name}: {link}"


def test_every_command_has_the_options_that_it_is_shown_with(capsys: pytest.CaptureFixture[str]) -> None:
    shown = [(page, words[1:]) for page in PAGES for words in commands(page, "bitnet")]
    assert len(shown) > 60
    for page, words in shown:
        if words[0] == "--help":
            continue
        try:
            shared, rest = _shared_parser().parse_known_args(words)
            _parser(rest).parse_args(rest)
        except SystemExit:
            pytest.fail(f"{page.name}: bitnet {shlex.join(words)}: {capsys.readouterr().err}")
        assert {given.partition("=")[0] for given in shared.assignments} <= REGISTRY.keys(), f"{page.name}: {words}"


def test_every_benchmark_has_the_options_that_it_is_shown_with() -> None:
    shown = [(page, words[1], words[2:]) for page in PAGES for words in commands(page, "python")]
    of_benchmarks = [(page, name, words) for page, name, words in shown if name.startswith("benchmarks/")]
    assert len(of_benchmarks) > 10
    for page, name, words in of_benchmarks:
        source = (REPO / name).read_text()
        for option in (word for word in words if word.startswith("--")):
            assert f'add_argument("{option}"' in source, f"{page.name}: {name} {option}"


@pytest.mark.parametrize("package", ["bitnet_core", "bitnet_tui"])
def test_the_page_of_the_architecture_names_every_room_and_every_module_outside_them(package: str) -> None:
    tree = BLOCK.findall((REPO / "docs" / "ARCHITECTURE.md").read_text())[0]
    named = set(re.findall(r"[\w/]+/|\w+\.py", tree))
    found = {f"{one.parent.name}/" for one in (REPO / package).glob("*/__init__.py")} | {
        one.name for one in (REPO / package).glob("*.py") if not one.stem.startswith("__")
    }
    assert found - named == set()
