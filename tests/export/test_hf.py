"""An exported folder is loaded by transformers alone, and computes what the student computes here."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BitNetConfig, BitNetForCausalLM

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.export import hf
from bitnet_core.export.places import require_free
from bitnet_core.export.reference import logits
from bitnet_core.export.running import Task, run_folder
from bitnet_core.export.verify import Answers, verify_folder
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import files_of_at_most
from tests.export.conftest import TEXT, random_student


def test_transformers_computes_the_student(
    student: Student, tokenizer: StudentTokenizer, ids: list[int], tmp_path: Path
) -> None:
    hf.write(student, tokenizer, tmp_path / "student")
    many = torch.randint(0, tokenizer.vocab_size, (12, 12)).tolist()
    sequences = [(one, 0) for one in [ids, *many]]
    task = Task(tokenizer.vocab_size, 3, sequences=sequences, prompts=[ids[:9]], new_tokens=12, texts=[TEXT])
    run = run_folder(tmp_path / "student", task)
    assert_equal(student, [one for one, _ in sequences], [torch.from_numpy(one) for one in run.values])
    made = generate_ids(student, ids[:9], Sampling(max_tokens=12), eos_id=tokenizer.eos_id)
    assert run.texts == [tokenizer.decode(made.ids)]
    assert run.token_ids == [tokenizer.encode(TEXT)]
    assert run.memory_bytes < 75_000_000, "the library's code is no part of it"


def assert_equal(student: Student, sequences: list[list[int]], theirs: list[torch.Tensor]) -> None:
    """Within 1e-5. A sum in another order may put an input on the next of its 256 levels, and the rest of that
    sequence follows; how often depends on the processor.
    """
    differences = [
        float((logits(student, ids) - one).abs().max()) for ids, one in zip(sequences, theirs, strict=True)
    ]
    assert sum(one <= 1e-5 for one in differences) >= 0.75 * len(differences)
    assert max(differences) < 0.1


def test_squared_relu_too(tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    """With the library's modules filled by hand: its loader alone takes seconds to import."""
    from transformers.integrations.bitnet import AutoBitLinear, unpack_weights  # a second, for torch.compile

    student = pack_student(random_student(tokenizer.vocab_size))
    object.__setattr__(student.config, "hidden_act", "relu2")
    for layer in student.model.layers:
        layer.mlp.squared_relu = True
    hf.write(student, tokenizer, tmp_path / "student")
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    del config["quantization_config"]
    theirs = BitNetForCausalLM(BitNetConfig(**config)).eval()
    tensors = load_file(tmp_path / "student" / hf.WEIGHTS_FILE)
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        for name, module in list(theirs.named_modules()):
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                linear = AutoBitLinear(module.in_features, module.out_features, bias=False)
                linear.weight.copy_(unpack_weights(tensors.pop(f"{name}.weight"), torch.float32))
                linear.weight_scale.copy_(tensors.pop(f"{name}.weight_scale"))
                theirs.set_submodule(name, linear)
        kept = theirs.load_state_dict(tensors, strict=False)
        assert not kept.unexpected_keys
        theirs.tie_weights()
        ids = torch.randint(0, tokenizer.vocab_size, (12, 12))
        assert_equal(student, ids.tolist(), list(theirs(ids).logits))


def test_the_tokenizer_and_its_ends_are_beside_it(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    hf.write(student, tokenizer, tmp_path / "student", origin={"step": 7}, card="# A card\n")
    assert load_tokenizer(tmp_path / "student").hash == tokenizer.hash
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    kept = {"activation_bits": 8, "a4_policy": "all", "step": 7}
    assert config["bitnet_core"] == kept | {"sha256": config["bitnet_core"]["sha256"]}
    ends = json.loads((tmp_path / "student" / "generation_config.json").read_text())
    assert ends["eos_token_id"] == config["eos_token_id"] == tokenizer.eos_id
    assert (tmp_path / "student" / "README.md").read_text() == "# A card\n"
    assert [one.name for one in tmp_path.iterdir()] == ["student"]


def test_what_transformers_cannot_compute_is_refused(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    object.__setattr__(student.config, "hadamard", True)
    with pytest.raises(BitnetError, match=r"transformers.*Hadamard"):
        hf.write(student, tokenizer, tmp_path / "student")
    assert not list(tmp_path.iterdir())


def test_a_changed_file_is_found_but_for_the_card(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "student"
    hf.write(student, tokenizer, folder, card="# A card\n")
    (folder / hf.CARD_FILE).write_text("# My own words\n")
    hf.require_as_written(folder)
    for path in folder.iterdir():
        if path.name in (hf.CARD_FILE, hf.CONFIG_FILE):
            continue
        whole = path.read_bytes()
        middle = len(whole) // 2
        for changed in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], whole[:-1], None):
            path.unlink() if changed is None else path.write_bytes(changed)
            with pytest.raises(
                BitnetError, match=f"{path.name} was changed or removed after it was exported; export"
            ):
                hf.require_as_written(folder)
        path.write_bytes(whole)
    config = json.loads((folder / hf.CONFIG_FILE).read_text())
    for other in (
        {"rope_scaling": None},
        {"max_position_embeddings": 255},
        {"bitnet_core": config["bitnet_core"] | {"step": 8}},
    ):
        (folder / hf.CONFIG_FILE).write_text(json.dumps(config | other))
        with pytest.raises(BitnetError, match=r"config\.json was changed or removed"):
            hf.require_as_written(folder)
    for odd in (None, [], {}, {"../x": "ab"}):
        (folder / hf.CONFIG_FILE).write_text(json.dumps(config | {"bitnet_core": {"sha256": odd}}))
        if odd:
            with pytest.raises(BitnetError, match="was changed or removed"):
                hf.require_as_written(folder)
        else:
            hf.require_as_written(folder)  # as one of an earlier version


def test_a_damaged_folder_is_named(student: Student, tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    hf.write(student, tokenizer, tmp_path / "student")
    weights = tmp_path / "student" / hf.WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BitnetError, match=r"model\.safetensors can't be read .*; export it again"):
        run_folder(tmp_path / "student", Task(tokenizer.vocab_size, 3))


@pytest.mark.parametrize("name", [hf.WEIGHTS_FILE, "tokenizer.json", hf.CONFIG_FILE, "generation_config.json", "x/y"])
def test_a_pipe_or_device_in_an_export_is_not_waited_for(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path, name: str
) -> None:
    hf.write(student, tokenizer, tmp_path / "student")
    place = tmp_path / "student" / name
    place.parent.mkdir(exist_ok=True)
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        place.unlink(missing_ok=True)
        make(place)
        with pytest.raises(BitnetError) as caught:
            run_folder(tmp_path / "student", Task(tokenizer.vocab_size, 3))
        assert str(caught.value) == f"{place} is a pipe or a device; give a regular file."


@pytest.mark.parametrize(
    "changed",
    [
        {"num_hidden_layers": 10**9},
        {"vocab_size": 10**12},
        {"hidden_size": 1 << 30},
        {"head_dim": 1 << 20},
        {"model_type": "llama"},
        {"num_attention_heads": "x\x1b[31m" * 99},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
    ],
)
def test_a_configuration_of_another_model_is_not_built(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path, changed: dict[str, Any]
) -> None:
    folder = tmp_path / "student"
    hf.write(student, tokenizer, folder)
    hf.require_same_model(folder, student, tokenizer)
    config = json.loads((folder / hf.CONFIG_FILE).read_text())
    (folder / hf.CONFIG_FILE).write_text(json.dumps(config | changed))
    with pytest.raises(BitnetError) as caught:
        verify_folder(folder, student, tokenizer, Answers([], []))
    assert str(caught.value).startswith(f"{folder / hf.CONFIG_FILE} says {next(iter(changed))} ")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400 + len(str(folder))


@pytest.mark.parametrize("broken", ["one token", "all"])
def test_weights_that_give_no_numbers_are_not_the_student(
    student: Student, tokenizer: StudentTokenizer, ids: list[int], tmp_path: Path, broken: str
) -> None:
    folder = tmp_path / "student"
    hf.write(student, tokenizer, folder)
    tensors = load_file(folder / hf.WEIGHTS_FILE)
    rows = tensors["model.embed_tokens.weight"]
    rows[next(token for token in range(len(rows)) if token not in ids) if broken == "one token" else slice(None)] = (
        math.nan
    )
    save_file(tensors, folder / hf.WEIGHTS_FILE, {"format": "pt"})
    with pytest.raises(
        BitnetError, match=r"student gives logits in transformers that are not finite; export it again\.$"
    ):
        verify_folder(folder, student, tokenizer, Answers([ids[:9]], [ids[9:12]]))


def test_only_an_export_is_replaced_and_only_when_asked(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "student"
    require_free(folder, folder=True, force=False)
    hf.write(student, tokenizer, folder)
    with pytest.raises(UsageError, match="--force"):
        require_free(folder, folder=True, force=False)
    require_free(folder, folder=True, force=True)
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(BitnetError, match="give a regular file"):
        require_free(pipe, folder=True, force=True)
    (mine := tmp_path / "mine").mkdir()
    require_free(mine, folder=True, force=False)
    for force in (False, True):
        with pytest.raises(UsageError, match="and the export is one file"):
            require_free(mine, folder=False, force=force)
    (mine / "config.json").write_text("{}")
    for force in (False, True):
        with pytest.raises(UsageError, match="did not write"):
            require_free(mine, folder=True, force=force)
        with pytest.raises(UsageError, match="and the export is a folder"):
            require_free(mine / "config.json", folder=True, force=force)


def test_an_empty_folder_becomes_the_export(student: Student, tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    (folder := tmp_path / "student").mkdir()
    hf.write(student, tokenizer, folder)
    assert (folder / "config.json").is_file()
    assert [one.name for one in tmp_path.iterdir()] == ["student"]


def test_a_failure_half_way_leaves_the_old_folder(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "student"
    hf.write(student, tokenizer, folder, origin={"step": 1})
    before = sorted(one.name for one in folder.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StudentTokenizer, "save", full)
    with pytest.raises(BitnetError, match=r"No space left.*free space"):
        hf.write(student, tokenizer, folder, origin={"step": 2})
    assert sorted(one.name for one in folder.iterdir()) == before
    assert json.loads((folder / "config.json").read_text())["bitnet_core"]["step"] == 1
    assert [one.name for one in tmp_path.iterdir()] == ["student"]


def test_weights_that_the_disk_has_no_room_for_leave_nothing(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    with files_of_at_most(10_000), pytest.raises(BitnetError, match=r"student can't be written \(File too large\); "):
        hf.write(student, tokenizer, tmp_path / "student")
    assert list(tmp_path.iterdir()) == []
