"""Loading a transformers model as a teacher: what identifies it, and what is said of one that can't be loaded."""

import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitnet_core.errors import BitnetError
from bitnet_core.model.precision import pick_device
from bitnet_core.runs.event_files import each_event
from bitnet_core.runs.events import Alert
from bitnet_core.settings.values import DeviceOptions, TeacherOptions
from bitnet_core.teachers.hf import model as hf_model
from bitnet_core.teachers.hf.files import locate, origin
from bitnet_core.teachers.hf.model import load
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.opening import open_teacher
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import stage_context
from tests.teachers.small_llama import CPU, ask, model_folder, options_for

pytestmark = pytest.mark.teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, teacher_tokenizer: StudentTokenizer) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), teacher_tokenizer)


async def test_a_configuration_does_not_choose_how_the_library_answers(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer
) -> None:
    odd = {"return_dict": False, "use_cache": False, "output_hidden_states": True}
    folder = model_folder(tmp_path / "m", teacher_tokenizer)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | odd))
    ctx = stage_context(
        tmp_path / "e", "collect", {"TEACHER_PROVIDER": "hf", "HF_MODEL": str(folder), "DEVICE_TYPE": "cpu"}
    )
    async with open_teacher(ctx, TeacherOptions.of(ctx.settings), device=lambda: CPU, parallel=2) as teacher:
        assert (await teacher.chat(ask("Hi."))).completion_tokens == 12


def test_a_tensor_of_another_size_is_named(tmp_path: Path, teacher_tokenizer: StudentTokenizer) -> None:
    folder = model_folder(tmp_path / "m", teacher_tokenizer)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_key_value_heads": 2', '"num_key_value_heads": 4'))
    said = r"/m has a tensor \S+k_proj.weight of \(16, 32\), and its config.json asks for \(32, 32\)"
    with pytest.raises(BitnetError, match=said):
        load(str(folder), options_for(folder), CPU, None)


async def test_it_opens_like_every_teacher(folder: Path) -> None:
    ctx = stage_context(
        Path.cwd() / "e", "collect", {"TEACHER_PROVIDER": "hf", "HF_MODEL": str(folder), "DEVICE_TYPE": "cpu"}
    )
    async with open_teacher(ctx, TeacherOptions.of(ctx.settings), device=lambda: CPU, parallel=2) as teacher:
        result = await teacher.chat(ask("Hi."))
        assert (teacher.memory_bytes() or 0) >= 0
        assert (teacher.name, teacher.model, teacher.pace) == ("hf", str(folder), None)
    assert result.completion_tokens == 12


def test_a_changed_model_is_another_teacher(tmp_path: Path, teacher_tokenizer: StudentTokenizer) -> None:
    folder = model_folder(tmp_path / "m", teacher_tokenizer)
    first = identify(options_for(folder)).origin
    assert identify(options_for(folder)).origin == first
    model_folder(folder, teacher_tokenizer, seed=1)
    second = identify(options_for(folder)).origin
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("clean_up", "clean__up"))
    third = identify(options_for(folder)).origin
    assert len({first, second, third}) == 3
    same = model_folder(tmp_path / "elsewhere", teacher_tokenizer)
    assert origin(str(same)) == first


@pytest.mark.parametrize("how", ["a tensor is not there", "a layer is not there"])
def test_weights_that_are_missing_are_never_random_numbers(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, how: str
) -> None:
    folder = model_folder(tmp_path / "m", teacher_tokenizer)
    if how == "a tensor is not there":
        path, lost = folder / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
        save_file({name: one for name, one in load_file(path).items() if name != lost}, path, {"format": "pt"})
    else:
        lost = "model.layers.2.input_layernorm.weight"
        path = folder / "config.json"
        path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(
        BitnetError, match=rf"/m lacks \d of the tensors .*, such as {lost}; get all of its files again\.$"
    ):
        load(str(folder), options_for(folder), CPU, None)


@pytest.mark.parametrize(("kind", "said"), [(torch.float8_e4m3fn, "F8_E4M3"), (torch.uint8, "torch.uint8")])
def test_quantised_weights_are_not_taken_without_their_scales(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, kind: torch.dtype, said: str
) -> None:
    folder = model_folder(tmp_path / "m", teacher_tokenizer)
    path, own = folder / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    mask = {"model.layers.1.attention.bias": torch.ones(4, 4, dtype=torch.bool)}  # older models keep one
    weights = load_file(path)
    save_file(weights | mask, path, {"format": "pt"})
    (folder / "other.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    load(str(folder), options_for(folder), CPU, None)
    weights[own] = (weights[own] * 10).to(kind)
    if said.startswith("torch"):
        path.unlink()
        torch.save(weights | {"epoch": 1}, folder / "pytorch_model.bin")
    else:
        save_file(weights, path.rename(folder / "shard.safetensors"), {"format": "pt"})
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "shard.safetensors")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BitnetError, match=rf"/m stores {own} as {said}, and its config.json has no quantization_"):
        load(str(folder), options_for(folder), CPU, None)


async def test_weights_that_are_left_out_are_told(tmp_path: Path, teacher_tokenizer: StudentTokenizer) -> None:
    folder = model_folder(tmp_path / "m", teacher_tokenizer)
    path = folder / "model.safetensors"
    extra = {"model.layers.1.self_attn.q_proj.bias": torch.ones(32)}
    save_file(load_file(path) | extra, path, {"format": "pt"})
    ctx = stage_context(tmp_path / "e", "collect", {"TEACHER_PROVIDER": "hf", "HF_MODEL": str(folder)})
    async with open_teacher(ctx, TeacherOptions.of(ctx.settings), device=lambda: CPU):
        pass
    (alert,) = [event for event in each_event(ctx.run_dir / "events.jsonl") if isinstance(event, Alert)]
    assert alert.message == f"The configuration of {folder} leaves out 1 of its tensors, such as {next(iter(extra))}."


def test_the_code_of_a_model_is_never_run_and_never_asked_about(
    tmp_path: Path,
    teacher_tokenizer: StudentTokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = model_folder(tmp_path / "m", teacher_tokenizer)
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | own))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Config: pass\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\ny\n"))
    for read in (lambda: load(str(folder), options_for(folder), CPU, None), lambda: hf_model.unloaded("m", folder)):
        with pytest.raises(BitnetError, match=r"transformers can't load .*contains custom code"):
            read()
    assert not (tmp_path / "ran").exists()
    assert (capfd.readouterr().out, sys.stdin.read()) == ("", "y\ny\n")


def test_a_model_that_cannot_be_loaded_is_explained_in_a_sentence(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault_of(model: Path | str, device: str = "cpu") -> str:
        with pytest.raises(BitnetError) as caught:
            load(str(model), options_for(model), pick_device(DeviceOptions(device=device)), None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "holds no model (no config.json)" in fault_of(tmp_path)
    assert "is not a model: give a folder" in fault_of(tmp_path / "none")
    assert "is not a model: give a folder" in fault_of("a/b/c")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert "no tokenizer.json beside" in fault_of(tmp_path / "m.gguf")
    folder = model_folder(tmp_path / "bare", teacher_tokenizer)
    assert "finds no such device" in fault_of(folder, "rocm")
    config = (folder / "config.json").read_bytes()
    with (folder / "config.json").open("r+b") as sparse:
        sparse.truncate(1 << 40)
    assert "config.json is longer than 128 MiB" in fault_of(folder)
    (folder / "config.json").write_bytes(config)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "transformers can't load" in fault_of(folder)
    weights.unlink()
    assert "transformers can't load" in fault_of(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    assert "has no chat template" in fault_of(folder)
    with pytest.raises(BitnetError, match="No model is set for hf; set TEACHER_MODEL"):
        identify(options_for(""))


def test_a_failed_download_is_explained_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def failing(kind: type[Exception]) -> None:
        def download(*_: object, **__: object) -> None:
            raise kind.__new__(kind)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    for kind, said in (
        (errors.GatedRepoError, "accept its terms"),
        (errors.RepositoryNotFoundError, "has no model someone/model"),
        (errors.LocalEntryNotFoundError, "network, or give a folder"),
        (OSError, "network, or give a folder"),
    ):
        failing(kind)
        with pytest.raises(BitnetError, match=said):
            locate("someone/model", "hf_secret")


def test_a_gguf_file_without_accelerate_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BitnetError, match=r"needs accelerate to load m\.gguf; run pip install 'bitnet-tui\[gguf\]'"):
        hf_model._model("m.gguf", tmp_path / "m.gguf", torch.float32)
