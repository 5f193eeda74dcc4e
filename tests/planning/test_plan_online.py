"""`bitnet plan` with a teacher that is asked while training: what it takes beside the student, and its time."""

import shutil
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from bitnet_core.errors import UsageError
from bitnet_core.planning import probe
from bitnet_core.planning.plan import Asked, plan
from bitnet_core.planning.tables import tables
from bitnet_core.pretrained.choose import planned_shape
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.teachers.embedded import files as embedded
from bitnet_core.training.heldout_size import MOST_TOKENS
from tests.planning.test_plan import OPTIONS, _facts, _own_cache
from tests.traces.samples import small_tokenizer

__all__ = ["_own_cache"]
HIDDEN, LAYERS = 64, 2


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = small_tokenizer()
    tokenizer.save(folder)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def online(teacher: Path) -> dict[str, str]:
    return {"TRAIN_ONLINE": "1", "TEACHER_PROVIDER": "hf", "TEACHER_MODEL": str(teacher)}


def test_its_memory_is_beside_the_students_and_its_passes_are_timed(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 0.0)
    facts = _facts(tmp_path, time=True, **online(teacher))
    layer = 4 * HIDDEN * HIDDEN + 3 * 64 * HIDDEN + 2 * HIDDEN
    parameters = small_tokenizer().vocab_size * HIDDEN + LAYERS * layer + HIDDEN
    wanted = {"model": str(teacher), "parameters": parameters, "hidden_size": HIDDEN, "number_bytes": 4}
    assert facts["online"].items() > wanted.items()
    assert facts["step"]["teacher"] == str(teacher) and not facts["step"]["cached"]
    alone = _facts(tmp_path, time=True)
    assert alone["online"] is None and not alone["step"]["cached"]
    assert _facts(tmp_path, time=True, **online(teacher))["step"]["cached"]
    alone["device"]["free_bytes"] = facts["device"]["free_bytes"]  # other tests take and give memory meanwhile

    record, without = (plan(one, OPTIONS, 20, None, Asked()) for one in (facts, alone))
    parts = record["training_memory"]["parts"]
    assert parts["teacher's weights"] == 4 * parameters
    assert parts["teacher's states"] == 4 * HIDDEN * (2 * 16 + MOST_TOKENS)
    assert parts["peak"] > without["training_memory"]["parts"]["peak"] + 4 * parameters
    assert record["time"]["tokens_per_s"] > 0
    rows = {row[0]: row[1:] for _, _, rows in tables(record) for row in rows}
    assert rows["teacher while training"] == [str(teacher), "asked at every step; it costs no money"]
    assert f", {teacher} reading along" in rows["tokens/s"][1]
    assert record["fits"]["largest_batch"] <= without["fits"]["largest_batch"]
    assert "teacher while training" not in {row[0] for _, _, rows in tables(without) for row in rows}


@pytest.mark.parametrize(
    ("device", "dtype", "number"), [("cuda", "bf16", 2), ("cuda", "fp32", 4), ("cpu", "bf16", 4)]
)
def test_on_another_machine_it_has_the_type_of_that_machine(
    tmp_path: Path, teacher: Path, device: str, dtype: str, number: int
) -> None:
    facts = _facts(tmp_path, TORCH_DTYPE=dtype, **online(teacher))
    record = plan(facts, OPTIONS, 20, None, Asked(device=device, memory_bytes=80_000_000_000))
    weights = record["training_memory"]["parts"]["teacher's weights"]
    assert weights == number * facts["online"]["parameters"]


def test_weights_that_are_elsewhere_are_neither_timed_nor_downloaded(tmp_path: Path, teacher: Path) -> None:
    copy = Path(shutil.copytree(teacher, tmp_path / "copy"))
    (copy / "model.safetensors").unlink()
    facts = _facts(tmp_path, time=True, **online(copy))
    record = plan(facts, OPTIONS, 20, None, Asked())
    assert record["online"]["parameters"] > 0
    assert "are not on this machine" in record["time"]["missing"]
    with pytest.raises(UsageError, match=r"gpt-4o is at openai; .*TRAIN_ONLINE=0"):
        _facts(tmp_path, TRAIN_ONLINE="1", TEACHER_PROVIDER="openai", TEACHER_MODEL="gpt-4o")


def test_the_weights_of_the_embedded_teacher_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object) -> Path:
        raise AssertionError("it downloads")

    monkeypatch.setattr(embedded, "fetch", fetch)
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path / "cache"))
    facts = _facts(tmp_path, time=True, TRAIN_ONLINE="1")
    record = plan(facts, OPTIONS, 20, None, Asked())
    assert record["online"]["parameters"] == planned_shape(Wanted("", "")).parameters()
    assert "are not on this machine; training downloads them" in record["time"]["missing"]
