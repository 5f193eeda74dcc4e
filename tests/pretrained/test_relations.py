"""Trainings with the attention relations of the model that they start from."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.pretrained.folder_source import open_folder
from bitnet_core.pretrained.start import source_student
from bitnet_core.settings.values import TrainOptions
from bitnet_core.stages import relations, train
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import events_of, stage_context
from tests.pretrained.test_start import _traces, context, newest, same_bits, source, stop_after

__all__ = ["_traces", "source"]
RELATED = {"STUDENT_INIT_LAYERS": "0,2", "ATTENTION_RELATION_WEIGHT": "2.5"}


def test_the_first_layers_of_a_source_compute_what_they_do(folder: Path, llama: LlamaForCausalLM) -> None:
    ids_BT = torch.arange(12).view(2, 6)
    wanted = llama.model(ids_BT, output_hidden_states=True).hidden_states[2]
    student = source_student(open_folder(folder, "a model", ""), 2)
    with torch.no_grad():
        found = student.model.embed_tokens(ids_BT)
        for layer in student.model.layers:
            found = layer(found, student.rotation(torch.arange(6)[None], torch.float32), None, None)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_training_with_relations_stops_and_goes_on_to_the_bit(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"STUDENT_INIT": str(source), **RELATED}
    whole, cut = (context(tmp_path / name, tokenizer, **values) for name in ("whole", "cut"))
    train.run(whole)
    figures = [
        event["relation"] for event in events_of(whole.run_dir / "events.jsonl", "metric") if "relation" in event
    ]
    assert figures
    assert all(figure > 0 for figure in figures)
    stop_after(cut, 2, monkeypatch)
    assert 0 < newest(cut).step < newest(whole).step
    train.run(context(tmp_path / "cut", tokenizer, **values))
    assert same_bits(newest(whole), newest(cut))
    other = context(tmp_path / "other", tokenizer, **values | {"ATTENTION_RELATION_WEIGHT": "0"})
    train.run(other)
    assert not same_bits(newest(whole), newest(other))


def test_relations_begin_and_end_in_the_middle_of_a_training(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "0,2"}
    stop_after(context(tmp_path / "one", tokenizer, **values), 2, monkeypatch)
    found = train.run(context(tmp_path / "one", tokenizer, **values, ATTENTION_RELATION_WEIGHT="1"))
    assert found["changes"][0]["after"] == {"ATTENTION_RELATION_WEIGHT": 1.0}


def test_another_source_than_at_the_start_is_refused(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"STUDENT_INIT": str(source), **RELATED}
    stop_after(context(tmp_path / "cut", tokenizer, **values), 2, monkeypatch)
    (part,) = source.glob("model-00001*")
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    again = context(tmp_path / "cut", tokenizer, **values)
    with pytest.raises(BitnetError, match="has changed since the training began"):
        train.run(again)
    shutil.rmtree(source)
    with pytest.raises(BitnetError, match="STUDENT_INIT"):
        train.run(context(tmp_path / "cut", tokenizer, **values))
    train.run(context(tmp_path / "cut", tokenizer, **values | {"ATTENTION_RELATION_WEIGHT": "0"}))


@pytest.mark.parametrize("start", [{}, {"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0"}], ids=str)
def test_a_student_without_layers_of_a_model_has_nothing_to_compare_with(
    start: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="ATTENTION_RELATION_WEIGHT"):
        TrainOptions.of(stage_context(tmp_path, "train", start | {"ATTENTION_RELATION_WEIGHT": "1"}).settings)


def test_no_room_for_the_source_is_said_before_it_is_read(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "source_bytes", lambda *_: 1 << 50)
    monkeypatch.setattr(relations, "source_student", lambda *_: pytest.fail("read although there is no room"))
    with pytest.raises(BitnetError, match=r"beside it .* set ATTENTION_RELATION_WEIGHT=0"):
        train.run(context(tmp_path / "one", tokenizer, STUDENT_INIT=str(source), **RELATED))
