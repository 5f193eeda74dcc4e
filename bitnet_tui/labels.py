"""Settings and providers as a person reads them: the label of each, and sentences with labels in place of names."""

import re

from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.text import capital

_LABELS = {
    "NAME": "Name",
    "BITNET_HOME": "Folder of experiments",
    "DRIVE_ROOT": "Folder of the experiment",
    "CHECKPOINTS_DIR": "Folder of checkpoints",
    "DATA_DIR": "Folder of traces",
    "REPORTS_DIR": "Folder of reports",
    "LOGS_DIR": "Folder of logs",
    "AUTO_CREATE_DIRS": "Create missing folders",
    "AUTO_MOUNT_GDRIVE": "Mount Drive in Colab",
    "GDRIVE_MOUNT_POINT": "Drive's place in Colab",
    "BITNET_CACHE": "Cache of bitnet",
    "HF_HOME": "Hugging Face cache",
    "TRANSFORMERS_CACHE": "Model cache (older name)",
    "HF_DATASETS_CACHE": "Cache of datasets",
    "TORCH_HOME": "Cache of torch",
    "TOKENIZERS_PARALLELISM": "Tokenizer threads",
    "BITNET_KEYRING": "Keyring",
    "BITNET_VAULT": "Vault",
    "BITNET_VAULT_PASSPHRASE_FILE": "Passphrase file of the vault",
    "DETERMINISTIC": "Deterministic algorithms",
    "DEVICE_TYPE": "Device",
    "FORCE_CPU": "CPU only",
    "TORCH_DTYPE": "Compute type",
    "USE_AMP": "Mixed precision",
    "TORCH_COMPILE": "Compile the student",
    "AMP_BACKEND": "Mixed precision by",
    "ENABLE_FLASH_ATTN": "Flash attention",
    "CUDA_VISIBLE_DEVICES": "NVIDIA devices",
    "CUDA_DEVICE_ORDER": "Order of NVIDIA devices",
    "ROCM_VISIBLE_DEVICES": "AMD devices",
    "HSA_OVERRIDE_GFX_VERSION": "AMD architecture",
    "PYTORCH_ENABLE_MPS_FALLBACK": "CPU for what MPS lacks",
    "PYTORCH_CUDA_ALLOC_CONF": "CUDA allocator",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "No CUDA cache",
    "PROVIDER": "Chat provider",
    "TEACHER_PROVIDER": "Teacher",
    "TEACHER_CTX_LEN": "Teacher's context",
    "TEACHER_TOP_LOGPROBS": "Candidates a step",
    "TEACHER_MEMORY_GB": "Teacher's memory",
    "TEACHER_BASELINE_TEMPERATURE": "Baseline temperature",
    "TEACHER_BASELINE_TOP_P": "Baseline top-p",
    "TEACHER_BASELINE_MAX_TOKENS": "Longest baseline answer",
    "TEACHER_BASELINE_MAX_PROMPTS": "Baseline prompts",
    "TEACHER_BASELINE_PROMPTS_FILE": "File of baseline prompts",
    "KD_TEACHER_TEMPERATURE": "Temperature while collecting",
    "KD_TEACHER_TOP_P": "Top-p while collecting",
    "KD_HELDOUT_SAMPLING": "Sampling of held-out answers",
    "KD_MAX_TOKENS_PER_PROMPT": "Longest answer",
    "KD_PROMPTS_FILE": "File of prompts",
    "KD_TEXT_FILE": "Texts to score",
    "KD_ROWS": "Kind of candidates",
    "KD_NUM_PROMPTS": "Answers",
    "KD_CONCURRENCY": "Requests at once",
    "KD_MAX_ATTEMPTS": "Attempts at an answer",
    "KD_SHARD_SEQUENCES": "Sequences a shard",
    "KD_MAX_TOKENS_TOTAL": "Most tokens to collect",
    "KD_MAX_REQUESTS": "Most requests",
    "KD_MAX_USD": "Most US dollars",
    "KD_PRICES_FILE": "File of prices",
    "MINI_PRESET": "Student",
    "TEMPLATE": "Chat template",
    "TEMPLATE_SYSTEM": "System message",
    "STUDENT_INIT": "Start from",
    "STUDENT_INIT_LAYERS": "Layers kept",
    "STUDENT_INIT_FIT_STEPS": "Steps to fit the layers",
    "STUDENT_INIT_EMBEDDING": "Embedding",
    "STUDENT_PROFILE": "Activation function",
    "STUDENT_HADAMARD": "Hadamard transform",
    "STUDENT_QUANTIZE": "Ternary weights",
    "MINI_DIM": "Width",
    "MINI_LAYERS": "Layers",
    "MINI_HEADS": "Heads",
    "MINI_HEAD_DIM": "Head size",
    "TOKENIZER_NAME": "Tokenizer",
    "MAX_SEQ_LEN": "Sequence length",
    "MAX_TOPK": "Candidates used a step",
    "TRAIN_BATCH_SIZE": "Batch size",
    "NUM_WORKERS": "Threads for batches",
    "KD_DATA_PATH": "Traces to train on",
    "RECOMPUTE_ACTIVATIONS": "Recompute activations",
    "GRAD_ACCUM_STEPS": "Batches a step",
    "LR": "Learning rate",
    "LR_SCHEDULE": "Decay shape",
    "SCHEDULER_TMAX": "Decay steps",
    "SCHEDULER_ETA_MIN": "Last learning rate",
    "ADAM_BETA1": "Adam β₁",
    "ADAM_BETA2": "Adam β₂",
    "ADAM_EPS": "Adam ε",
    "GRAD_CLIP_NORM": "Gradient clip",
    "TOTAL_STEPS": "Steps",
    "LOG_INTERVAL": "Steps between metrics",
    "CHECKPOINT_INTERVAL": "Steps between checkpoints",
    "RESUME_STEP": "Resume from step",
    "BUDGET_TOKENS": "Token budget",
    "BUDGET_EPOCHS": "Epochs",
    "FLIP_FRACTION": "Flip to 4 bits at",
    "FLIP_POLICY": "Layers at the flip",
    "FLIP_RAMP_FRACTION": "Length of the flip's ramp",
    "QUANT_RAMP_FRACTION": "Ramp to ternary weights",
    "A4_POLICY": "Inputs at 4 bits",
    "KD_TAU": "Distillation temperature",
    "KD_WEIGHT": "Distillation weight",
    "KD_CE_WEIGHT": "Cross-entropy weight",
    "ATTENTION_RELATION_WEIGHT": "Attention weight",
    "TRAIN_ONLINE": "Ask while training",
    "ON_POLICY_FRACTION": "Student's own answers",
    "ON_POLICY_KL": "Divergence on own answers",
    "EVAL_MAX_NEW_TOKENS": "Longest evaluation answer",
    "EVAL_MAX_PROMPTS": "Evaluation prompts",
    "EVAL_TEMPERATURE": "Evaluation temperature",
    "EVAL_TOP_P": "Evaluation top-p",
    "EVAL_PROMPTS_FILE": "File of evaluation prompts",
    "SAVE_SAMPLE_GENERATIONS": "Answers in the report",
    "EVAL_SUITE": "Suites",
    "EVAL_LIMIT": "Items a suite",
    "EVAL_SUITE_MAX_TOKENS": "Longest answer in suites",
    "EVAL_TEXT_WEIGHT": "Weight of the fixed text",
    "EVAL_SCORES": "Scores from elsewhere",
    "EVAL_ITEMS_FILE": "File of your own items",
    "EVAL_STUDENT_QUALITY": "Student's quality",
    "EVAL_TEACHER_QUALITY": "Teacher's quality",
    "GATE_INVALID_ROWS": "Gate: rejected tokens",
    "GATE_NONFINITE_STEPS": "Gate: steps not finite",
    "GATE_FLIP_RECOVERED": "Gate: flip recovered",
    "GATE_JSON_VALIDITY": "Gate: JSON validity",
    "GATE_QUALITY_RATIO": "Gate: quality",
    "GATE_QEI": "Gate: QEI",
    "GATE_QEI_SPEED": "Gate: QEI_speed",
    "GATE_ENFORCE": "Gates end the pipeline",
    "DRYRUN_DIM": "Dry run: width",
    "DRYRUN_LAYERS": "Dry run: layers",
    "DRYRUN_HEADS": "Dry run: heads",
    "DRYRUN_HEAD_DIM": "Dry run: head size",
    "DRYRUN_SEQ_LEN": "Dry run: sequence length",
    "DRYRUN_BATCH_SIZE": "Dry run: batch size",
    "DRYRUN_ACT_BITS_START": "Dry run: bits at first",
    "DRYRUN_ACT_BITS_AFTER": "Dry run: bits afterwards",
    "DRYRUN_ALLOW_DOWNGRADE": "Dry run: fewer layers",
    "DRYRUN_FORCE_CPU": "Dry run: CPU only",
    "DRYRUN_MAX_ALLOC_FRAC": "Dry run: share of memory",
    "WANDB_DISABLED": "Weights & Biases off",
    "WANDB_PROJECT": "Weights & Biases project",
    "WANDB_ENTITY": "Weights & Biases entity",
    "NOTIFY_COMMAND": "Notify by a command",
    "NOTIFY_WEBHOOK": "Notify by a webhook",
    "NOTIFY_WEBHOOK_FORM": "Form of the webhook",
    "NOTIFY_QUIET_FROM": "Quiet from (hour)",
    "NOTIFY_QUIET_UNTIL": "Quiet until (hour)",
    "NOTIFY_TERMINAL": "Notify in the terminal",
    "STORAGE_CHECKPOINTS": "Checkpoints to send",
    "STORAGE_BACKEND": "Target",
    "STORAGE_NAME": "Name there",
    "STORAGE_SYNC": "Copied",
    "STORAGE_LOCAL_DIR": "Folder",
    "ICLOUD_DRIVE_DIR": "Folder",
    "GDRIVE_PROJECT_ROOT": "Mounted at",
    "ONEDRIVE_ROOT": "Folder",
    "DROPBOX_ROOT": "Folder",
    "BOX_ROOT_FOLDER_ID": "Folder id",
    "NC_WEBDAV_URL": "Address",
    "NC_ROOT_PATH": "Folder",
    "WEBDAV_ROOT_PATH": "Folder",
    "S3_ENDPOINT_URL": "Endpoint",
    "DYNAMO_ENDPOINT_URL": "Table server",
    "DYNAMO_REGION": "Table region",
    "AMPLIFY_REGION": "App region",
    "AMPLIFY_ENV": "Environment",
    "AWS_ACCESS_KEY_ID": "Access key",
    "AWS_SECRET_ACCESS_KEY": "Secret key",
    "AWS_DEFAULT_REGION": "Region",
    "FIREBASE_STORAGE_BUCKET": "Bucket",
    "FIREBASE_CREDENTIALS_JSON": "Account JSON",
    "MONGODB_ATLAS_URI": "Connection",
    "MONGODB_DB_NAME": "Database",
    "MONGODB_COLLECTION_PREFIX": "Prefix",
    "BOX_DEVELOPER_TOKEN": "Hourly token",
    "SUPABASE_SERVICE_ROLE_KEY": "Service key",
    "RCLONE_CONFIG": "Config file",
}
_ALONE = {
    "HF_TOKEN": "Hugging Face token",
    "TEACHER_MODEL": "Teacher's model",
    "TEACHER_API_KEY": "Teacher's key",
    "CUSTOM_API_KEY": "Other server's key",
    "TEACHER_BASE_URL": "Teacher's address",
    "STORAGE_BACKEND": "Storage target",
    "STORAGE_NAME": "Name at the target",
    "STORAGE_SYNC": "When to copy",
    "STORAGE_LOCAL_DIR": "Folder of the copy",
}
"""Labels that only their form makes clear, as they are outside of it."""
_PROVIDERS = {"custom": "Other server", "hf": "transformers"}
"""Providers that the guide names in another way than their setting does."""
# Patterns are texts here: they are compiled when they are used, which is after the first paint.
_STAGES = frozenset(("teacher", "collect", "train", "eval", "dryrun", "pipeline", "upload"))
_STOPPED = r"^(\w+)(?= was stopped\b)"
"""The name of a stage at the beginning of what a stopped run has recorded."""
_TO_RUN = rf"(?<=\brun )({'|'.join(_STAGES)})(, then ({'|'.join(_STAGES)}))*(?= in [A-H]\b)"
"""Stages that a comparison asks to run in one of those compared, which have letters."""
_PROVIDER = (
    rf"(?<![\w./=-])(?<!= )(?<!says )(?<!\ba )({'|'.join(_PROVIDERS)})"
    r"(?=[:;,.)](?!\w)| (?:at|refuses|gives|tells|depend|answers|is)\b)"
)
"""A provider in a sentence of the core, told from the same word of a server by what follows."""
_WORDS = r"(?<![\w/.-])([A-Z][A-Z0-9_]+)\b(?!/)(?:=(\S*))?"
"""What may be a setting with its value; never a part of a path."""
_SAME_TWICE = r"(“[^“”]+”)(?: (?:or|and) \1)+"
"""Two settings may have one field."""
_OF_A_PROVIDER = {"_MODEL": "Model", "_BASE_URL": "Address", "_API_KEY": "Key"}
"""Ends the names of settings that each provider has."""
_OF_A_TARGET = "Storage: "
"""Begins the sections of the registry with a target's settings."""
_OF_THE_PROGRAM = "BITNET_"
"""Begins the names of settings of the program itself, which are set where it is started: there a name is needed."""
_ABOUT_A_LINE = "is not a setting"
"""Said of a line of a file, which can only be corrected there, with a name."""


def label(name: str) -> str:
    """The label of a setting's field."""
    if name in _LABELS:
        return _LABELS[name]
    for suffix, words in {**_OF_A_PROVIDER, "HF_TOKEN": "Key"}.items():
        if name.endswith(suffix):
            return words
    # All settings of a target begin with the same word, which its form does not repeat.
    own = name.partition("_")[2] if REGISTRY[name].section.startswith(_OF_A_TARGET) else name
    words = own.lower().replace("_", " ").removesuffix(" url")
    return capital(words) if words != "url" else "Address"


def title(name: str) -> str:
    """The label of a setting where no form is around it: no other one has the same."""
    if name in _ALONE:
        return _ALONE[name]
    section, own = REGISTRY[name].section, label(name)
    if section.startswith(_OF_A_TARGET):
        return f"{section.removeprefix(_OF_A_TARGET)} {within(own)}"
    suffix = next(filter(name.endswith, _OF_A_PROVIDER), "")
    if not suffix:
        return own
    from bitnet_core.teachers.profiles import PROVIDERS  # not on the way to the first paint

    return f"{PROVIDERS[name.removesuffix(suffix).lower()].label} {within(own)}"


def within(words: str) -> str:
    """Words that begin a line, as they are within one."""
    return words if words[:2].isupper() else words[:1].lower() + words[1:]


def stage_title(name: str) -> str:
    """A stage as the rail names it, within a sentence."""
    from bitnet_core.runs.catalog import stage  # not on the way to the first paint

    return f"“{stage(name).title}”"


def _as_in_the_rail(found: re.Match[str]) -> str:
    return stage_title(found[0])


def provider_words(name: str) -> str:
    """A provider as the guide names it."""
    return _PROVIDERS.get(name, name)


def by_label(sentence: str, *, keys: bool = False) -> str:
    """A sentence of the core with settings and providers as the app names them.

    A setting of the program itself keeps its name. With `keys`, a label is that of a form of the guide.
    """
    if _ABOUT_A_LINE in sentence:
        return sentence

    def labelled(found: re.Match[str]) -> str:
        name, value = found.groups()
        if not _has_field(name) and name not in SECRET_NAMES and not (keys and name in REGISTRY):
            return found[0]
        return f"“{label(name) if keys else title(name)}”" + (f" = {value}" if value else "")

    if (stopped := re.match(_STOPPED, sentence)) and stopped[1] in _STAGES:
        sentence = stage_title(stopped[1]) + sentence[stopped.end() :]
    sentence = re.sub(_TO_RUN, lambda found: re.sub(r"(?!then\b)\b\w+", _as_in_the_rail, found[0]), sentence)
    labels = re.sub(_SAME_TWICE, r"\1", re.sub(_WORDS, labelled, sentence))
    if not any(name in labels for name in _PROVIDERS):  # this is quick, which matters in a long log
        return labels
    return re.sub(_PROVIDER, lambda found: f"“{_PROVIDERS[found[1]]}”", labels)


def first_setting(sentence: str) -> str:
    """The first setting that a sentence of the core names and that Config changes; empty if it names none."""
    if _ABOUT_A_LINE in sentence:
        return ""
    names = (found[1] for found in re.finditer(_WORDS, sentence))
    return next(filter(_has_field, names), "")


def _has_field(name: str) -> bool:
    """Whether Config changes it."""
    return name in REGISTRY and not REGISTRY[name].secret and not name.startswith(_OF_THE_PROGRAM)
