"""Settings as typed groups: code reads a setting as a field, so that a typo is a type error.

`TrainOptions.of(settings)` fills a group; `TrainOptions(total_steps=200)` makes one by hand, with the registry's
defaults for the rest. What a setting means and which values are allowed is in `registry.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bitnet_core.settings.contradictions import Contradiction, Mend
from bitnet_core.settings.flip import A4Policy
from bitnet_core.settings.flip import FlipOptions as FlipOptions
from bitnet_core.settings.flip import flip_fraction_at as flip_fraction_at
from bitnet_core.settings.group import Group, combined, nested, setting
from bitnet_core.settings.layers import keeps_no_layers
from bitnet_core.settings.places import PlaceOptions as PlaceOptions
from bitnet_core.settings.registry import PROVIDER_NAMES, REGISTRY, SECRET_NAMES
from bitnet_core.settings.resolved import Settings

DType = Literal["bf16", "fp16", "fp32"]
SystemMessages = Literal["keep", "merge"]
RateShape = Literal["cosine", "two_stage"]
Divergence = Literal["reverse", "forward"]
Rows = Literal["top", "sampled"]
HeldOutSampling = Literal["same", "plain"]
Embedding = Literal["Q5_0", "Q4_0", "trained"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How an answer is sampled. Temperature 0 is greedy; `top_p` 1 keeps the whole distribution."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0


def _sampling(temperature: str, top_p: str, max_tokens: str) -> Any:
    names = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
    return combined(names, lambda values: Sampling(**values))


def _by_provider(suffix: str) -> Any:
    """Those of `OPENAI_<suffix>`, `GROQ_<suffix>`, … that are set, by provider."""
    names = {provider: f"{provider.upper()}_{suffix}" for provider in PROVIDER_NAMES}
    known = {provider: name for provider, name in names.items() if name in REGISTRY}
    return combined(known, lambda values: {provider: value for provider, value in values.items() if value})


class KeyOptions(Group):
    """Where API keys are kept; without a `vault` it is in the user's config folder."""

    keyring: str = setting("BITNET_KEYRING")
    vault: Path | None = setting("BITNET_VAULT")
    passphrase_file: Path | None = setting("BITNET_VAULT_PASSPHRASE_FILE")


class LogOptions(Group):
    """Which messages a run keeps."""

    level: str = setting("LOG_LEVEL")


class NotifyOptions(Group):
    """How people are told that a run has ended or alarms; hours are those of this machine's clock."""

    command: str = setting("NOTIFY_COMMAND")
    form: str = setting("NOTIFY_WEBHOOK_FORM")
    quiet_from: int | None = setting("NOTIFY_QUIET_FROM")
    quiet_until: int | None = setting("NOTIFY_QUIET_UNTIL")
    terminal: str = setting("NOTIFY_TERMINAL")


class DeviceOptions(Group):
    """The device and type to compute with. Master weights are always fp32; `dtype` is that of autocast."""

    device: str = setting("DEVICE_TYPE")
    force_cpu: bool = setting("FORCE_CPU")
    dtype: DType = setting("TORCH_DTYPE")
    autocast: bool = setting("USE_AMP")
    flash_attention: bool = setting("ENABLE_FLASH_ATTN")
    deterministic: bool = setting("DETERMINISTIC")


class TeacherOptions(Group):
    """Which model is the teacher. `models` and `addresses` have what is set for each provider, by its name."""

    chat_provider: str = setting("PROVIDER")
    provider: str = setting("TEACHER_PROVIDER")
    model: str = setting("TEACHER_MODEL")
    base_url: str = setting("TEACHER_BASE_URL")
    context: int = setting("TEACHER_CTX_LEN")
    dtype: DType = setting("TORCH_DTYPE")
    prices_file: Path | None = setting("KD_PRICES_FILE")
    models: Mapping[str, str] = _by_provider("MODEL")
    addresses: Mapping[str, str] = _by_provider("BASE_URL")

    @property
    def chosen(self) -> str:
        """The teacher's provider: TEACHER_PROVIDER, else PROVIDER."""
        return self.provider or self.chat_provider


class BaselineOptions(Group):
    """The teacher's greedy baseline."""

    sampling: Sampling = _sampling(
        "TEACHER_BASELINE_TEMPERATURE", "TEACHER_BASELINE_TOP_P", "TEACHER_BASELINE_MAX_TOKENS"
    )
    max_prompts: int = setting("TEACHER_BASELINE_MAX_PROMPTS")
    prompts_file: Path | None = setting("TEACHER_BASELINE_PROMPTS_FILE")
    memory_gb: float | None = setting("TEACHER_MEMORY_GB")
    prices_file: Path | None = setting("KD_PRICES_FILE")
    seed: int = setting("SEED")


class LimitOptions(Group):
    """What collecting may use in total; None = no limit."""

    tokens: int | None = setting("KD_MAX_TOKENS_TOTAL")
    requests: int | None = setting("KD_MAX_REQUESTS")
    usd: float | None = setting("KD_MAX_USD")


_NAMES_A_TOKENIZER = {
    "name": "TOKENIZER_NAME",
    "start": "STUDENT_INIT",
    "teacher": "TEACHER_PROVIDER",
    "provider": "PROVIDER",
    "model": "TEACHER_MODEL",
    "hf_model": "HF_MODEL",
}


def tokenizer_name(settings: Settings) -> str:
    """The name of `TokenizerOptions`, from settings that may be incomplete."""
    return _tokenizer_name(**{key: str(settings.values.get(name) or "") for key, name in _NAMES_A_TOKENIZER.items()})


def _tokenizer_name(name: str, start: str, teacher: str, provider: str, model: str, hf_model: str) -> str:
    if name or start in ("", "random"):
        return name
    if start == "teacher":
        return (model or hf_model) if (teacher or provider) == "hf" else ""
    if not start.lower().endswith(".gguf"):
        return start
    beside = Path(start).parent
    return str(beside) if (beside / "tokenizer.json").is_file() else ""


class TokenizerOptions(Group):
    """The student's tokenizer: TOKENIZER_NAME, else that of the model that it starts from.

    An empty `name` is the embedded teacher's, an empty `template` the tokenizer's own.
    """

    name: str = combined(_NAMES_A_TOKENIZER, lambda values: _tokenizer_name(**values))
    template: str = setting("TEMPLATE")
    system: SystemMessages = setting("TEMPLATE_SYSTEM")

    @property
    def merge_system(self) -> bool:
        """Whether the template gets a system message as a part of the user's."""
        return self.system == "merge"


class CollectOptions(Group):
    """What to collect, and how."""

    sampling: Sampling = _sampling("KD_TEACHER_TEMPERATURE", "KD_TEACHER_TOP_P", "KD_MAX_TOKENS_PER_PROMPT")
    top_logprobs: int = setting("TEACHER_TOP_LOGPROBS")
    answers: int = setting("KD_NUM_PROMPTS")
    prompts_file: Path | None = setting("KD_PROMPTS_FILE")
    text_file: Path | None = setting("KD_TEXT_FILE")
    rows: Rows = setting("KD_ROWS")
    heldout_sampling: HeldOutSampling = setting("KD_HELDOUT_SAMPLING")
    concurrency: int | None = setting("KD_CONCURRENCY")
    max_attempts: int = setting("KD_MAX_ATTEMPTS")
    shard_sequences: int = setting("KD_SHARD_SEQUENCES")
    limits: LimitOptions = nested(LimitOptions)
    prices_file: Path | None = setting("KD_PRICES_FILE")
    tokenizer: TokenizerOptions = nested(TokenizerOptions)
    seed: int = setting("SEED")
    most_invalid: float | None = setting("GATE_INVALID_ROWS")
    """The share of rejected answers that does no harm."""


class StudentOptions(Group):
    """The student's shape: a preset, and sizes that replace those of the preset."""

    preset: str = setting("MINI_PRESET")
    hidden_size: int | None = setting("MINI_DIM")
    layers: int | None = setting("MINI_LAYERS")
    heads: int | None = setting("MINI_HEADS")
    head_dim: int | None = setting("MINI_HEAD_DIM")
    profile: str = setting("STUDENT_PROFILE")
    hadamard: bool = setting("STUDENT_HADAMARD")
    a4_policy: A4Policy = setting("A4_POLICY")


class InitOptions(Group):
    """What a student's first weights are: `source` random, teacher, or a model's folder, file or name on the hub."""

    source: str = setting("STUDENT_INIT")
    layers: str = setting("STUDENT_INIT_LAYERS")
    fit_steps: int = setting("STUDENT_INIT_FIT_STEPS")
    embedding: Embedding = setting("STUDENT_INIT_EMBEDDING")

    @property
    def names_model(self) -> bool:
        """Whether the weights are those of a model."""
        return self.source not in ("", "random")

    @property
    def gives_shape(self) -> bool:
        """Whether the student has the shape of a model, instead of its own."""
        return self.names_model and not keeps_no_layers(self.layers)


class DataOptions(Group):
    """Which traces to read, and how much of each. Without a `path` they are in the experiment's data folder."""

    path: Path | None = setting("KD_DATA_PATH")
    top_k: int = setting("MAX_TOPK")
    max_seq_len: int = setting("MAX_SEQ_LEN")


class RateOptions(Group):
    """The learning rate: up to `peak`, then down to `floor` over `steps` (None = all steps)."""

    peak: float = setting("LR")
    floor: float = setting("SCHEDULER_ETA_MIN")
    steps: int | None = setting("SCHEDULER_TMAX")
    shape: RateShape = setting("LR_SCHEDULE")


class LossWeights(Group):
    """The temperature τ of the distillation loss, and the weight of each part of the total."""

    tau: float = setting("KD_TAU")
    kd: float = setting("KD_WEIGHT")
    ce: float = setting("KD_CE_WEIGHT")
    format: float = setting("FORMAT_LOSS_WEIGHT")
    relation: float = setting("ATTENTION_RELATION_WEIGHT")

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise ValueError(f"tau is {self.tau}; it must be above 0")


class OnlineOptions(Group):
    """Whether the teacher's model is asked while training, instead of what the traces have of it."""

    online: bool = setting("TRAIN_ONLINE")


def _unless_auto(asked: bool | str | None) -> bool | None:
    return asked if isinstance(asked, bool) else None


class OnPolicyOptions(Group):
    """In which share of the steps the student writes the answers, and which KL is taken there."""

    fraction: float = setting("ON_POLICY_FRACTION")
    divergence: Divergence = setting("ON_POLICY_KL")


class TrainOptions(Group):
    """How to train: for `flip.budget` seen tokens, or fewer where `total_steps` are given and end it."""

    total_steps: int | None = setting("TOTAL_STEPS")
    batch_size: int = setting("TRAIN_BATCH_SIZE")
    accumulate: int = setting("GRAD_ACCUM_STEPS")
    max_seq_len: int = setting("MAX_SEQ_LEN")
    pack: bool = setting("PACK_SEQUENCES")
    init: InitOptions = nested(InitOptions)
    rate: RateOptions = nested(RateOptions)
    beta1: float = setting("ADAM_BETA1")
    beta2: float = setting("ADAM_BETA2")
    eps: float = setting("ADAM_EPS")
    weight_decay: float = setting("WEIGHT_DECAY")
    clip_norm: float = setting("GRAD_CLIP_NORM")
    flip: FlipOptions = nested(FlipOptions)
    loss: LossWeights = nested(LossWeights)
    on_policy: OnPolicyOptions = nested(OnPolicyOptions)
    quantize: bool = setting("STUDENT_QUANTIZE")
    compiled: bool | None = combined({"asked": "TORCH_COMPILE"}, lambda one: _unless_auto(**one))
    """None = where it pays."""
    recompute: bool = setting("RECOMPUTE_ACTIVATIONS")
    log_interval: int | None = setting("LOG_INTERVAL")
    """None = by the length of the training."""
    checkpoint_interval: int = setting("CHECKPOINT_INTERVAL")
    resume_step: int | None = setting("RESUME_STEP")
    """None = the newest checkpoint."""
    workers: int = setting("NUM_WORKERS")
    seed: int = setting("SEED")

    def __post_init__(self) -> None:
        if self.init.layers and not self.init.names_model:
            raise Contradiction(
                "STUDENT_INIT_LAYERS keeps layers of a model, and STUDENT_INIT names none; set STUDENT_INIT, or "
                "leave STUDENT_INIT_LAYERS empty.",
                Mend("STUDENT_INIT_LAYERS"),
            )
        if self.loss.relation and not self.init.gives_shape:
            raise Contradiction(
                "ATTENTION_RELATION_WEIGHT is above 0, and the student has no layers of a model to compare its own "
                "with; set STUDENT_INIT, or ATTENTION_RELATION_WEIGHT=0.",
                Mend("ATTENTION_RELATION_WEIGHT", "0"),
            )
        if self.flip.quant_ramp_fraction and not self.quantize:
            raise Contradiction(
                "QUANT_RAMP_FRACTION ramps up the quantisers, and STUDENT_QUANTIZE=0 switches them off; set "
                "STUDENT_QUANTIZE=1, or QUANT_RAMP_FRACTION=0.",
                Mend("QUANT_RAMP_FRACTION", "0"),
            )
        # Text that the student wrote itself has no cross-entropy.
        own_text = self.on_policy.fraction == 1
        if not (self.loss.kd or ((self.loss.ce or self.loss.format) and not own_text)):
            why = "ON_POLICY_FRACTION=1 leaves" if own_text else "KD_CE_WEIGHT=0 and FORMAT_LOSS_WEIGHT=0 leave"
            nothing = f"With KD_WEIGHT=0 nothing would be learnt here: {why} no other loss; raise KD_WEIGHT."
            raise Contradiction(nothing, Mend("KD_WEIGHT"))


class EvalOptions(Group):
    """What the evaluation asks and reports. A quality or memory given here replaces the measured one."""

    sampling: Sampling = _sampling("EVAL_TEMPERATURE", "EVAL_TOP_P", "EVAL_MAX_NEW_TOKENS")
    max_prompts: int = setting("EVAL_MAX_PROMPTS")
    prompts_file: Path | None = setting("EVAL_PROMPTS_FILE")
    keep_samples: bool = setting("SAVE_SAMPLE_GENERATIONS")
    student_quality: float | None = setting("EVAL_STUDENT_QUALITY")
    teacher_quality: float | None = setting("EVAL_TEACHER_QUALITY")
    teacher_memory_gb: float | None = setting("TEACHER_MEMORY_GB")
    seed: int = setting("SEED")


class SuiteOptions(Group):
    """Which items teacher and student are asked, and how long an answer may be. `limit` 0 is no limit."""

    names: str = setting("EVAL_SUITE")
    limit: int = setting("EVAL_LIMIT")
    max_tokens: int = setting("EVAL_SUITE_MAX_TOKENS")
    text_weight: float = setting("EVAL_TEXT_WEIGHT")
    items_file: Path | None = setting("EVAL_ITEMS_FILE")
    scores_file: Path | None = setting("EVAL_SCORES")
    concurrency: int | None = setting("KD_CONCURRENCY")
    seed: int = setting("SEED")


class GateOptions(Group):
    """Limits that an experiment's result is compared with; None = no such gate."""

    invalid_rows: float | None = setting("GATE_INVALID_ROWS")
    nonfinite_steps: int | None = setting("GATE_NONFINITE_STEPS")
    flip_recovered: bool = setting("GATE_FLIP_RECOVERED")
    json_validity: float | None = setting("GATE_JSON_VALIDITY")
    quality_ratio: float | None = setting("GATE_QUALITY_RATIO")
    qei: float | None = setting("GATE_QEI")
    qei_speed: float | None = setting("GATE_QEI_SPEED")
    enforced: bool = setting("GATE_ENFORCE")


class DryRunOptions(Group):
    """The shape of the dry run's student, and how much of this machine it may use."""

    hidden_size: int = setting("DRYRUN_DIM")
    layers: int = setting("DRYRUN_LAYERS")
    heads: int = setting("DRYRUN_HEADS")
    head_dim: int = setting("DRYRUN_HEAD_DIM")
    seq_len: int = setting("DRYRUN_SEQ_LEN")
    batch_size: int = setting("DRYRUN_BATCH_SIZE")
    first_bits: int = setting("DRYRUN_ACT_BITS_START")
    second_bits: int = setting("DRYRUN_ACT_BITS_AFTER")
    may_drop_layers: bool = setting("DRYRUN_ALLOW_DOWNGRADE")
    force_cpu: bool = setting("DRYRUN_FORCE_CPU")
    a4_policy: A4Policy = setting("A4_POLICY")
    memory_share: float = setting("DRYRUN_MAX_ALLOC_FRAC")
    seed: int = setting("SEED")


@cache
def settings_in_use() -> frozenset[str]:
    """The settings that something reads: through a group, or, as libraries do, from the environment.

    A secret is in use when another setting of its section is; one has no official use.
    """
    from bitnet_core.settings import storage  # noqa: F401 - its groups count too

    read = frozenset[str]().union(*(group.setting_names() for group in Group.__subclasses__()))
    read |= {name for name, one in REGISTRY.items() if one.exported}
    sections = {REGISTRY[name].section for name in read}
    return read | {name for name in SECRET_NAMES - {"ICLOUD_SESSION_TOKEN"} if REGISTRY[name].section in sections}
