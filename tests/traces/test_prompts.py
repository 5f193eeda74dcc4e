"""Prompt files of people, and the packaged ones."""

from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.traces.prompts import load_prompts, prompts_hash


def test_lines_are_prompts_and_blank_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes('\ufeffFirst\r\n\r\n  Second one  \nFirst\n{"not": "json here"}\n'.encode())
    prompts = load_prompts(path, "unused")
    assert [prompt.text for prompt in prompts] == ["First", "Second one", '{"not": "json here"}']


def test_json_lines_hold_a_prompt_or_messages(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "Hi\\nthere", "id": 3}\n\n'
        '{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "x"}]}\n'
    )
    first, second = load_prompts(path, "unused")
    assert first.messages == ({"role": "user", "content": "Hi\nthere"},)
    assert second.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert first.hash != second.hash
    assert prompts_hash([first, second]) != prompts_hash([second, first])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken", "line 2: this is not JSON"),
        ('["a"]', "line 2: this is not a JSON object"),
        ('{"text": "a"}', 'line 2: it has neither "prompt" nor "messages"'),
        ('{"messages": []}', "line 2: it has neither"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "line 2: a message has no role"),
        ('{"messages": [{"role": "user", "content": 3}]}', "line 2: a message has no text"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "line 2: the last message is not the user's"),
        ('{"prompt": " "}', "line 2: it has neither"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(BitnetError) as caught:
        load_prompts(path, "unused")
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_empty_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BitnetError, match="does not exist"):
        load_prompts(tmp_path / "none.txt", "unused")
    (tmp_path / "empty.txt").write_text("\n  \n")
    with pytest.raises(BitnetError, match="holds no prompt"):
        load_prompts(tmp_path / "empty.txt", "unused")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(BitnetError, match="not UTF-8"):
        load_prompts(tmp_path / "latin.txt", "unused")
    with pytest.raises(BitnetError, match="can't be read"):
        load_prompts(tmp_path, "unused")


def test_the_packaged_prompts_are_many_different_and_apart() -> None:
    collect, baseline = load_prompts(None, "collect.txt"), load_prompts(None, "baseline.txt")
    assert len(collect) >= 250
    assert len(baseline) >= 20
    assert not {prompt.hash for prompt in collect} & {prompt.hash for prompt in baseline}
    first = " ".join(prompt.text for prompt in collect[:100])
    assert first.count("JSON") >= 5
    assert max(len(prompt.text) for prompt in collect) < 200
