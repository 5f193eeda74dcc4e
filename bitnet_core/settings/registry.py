"""The registry of settings: every `.env` name with its type, default, bounds, unit and help, in one table.

From it come `.env.example`, `bitnet config`, the table in docs/settings.md and the app's forms. Data only:
reading and checking values is `config.py`'s work.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["int", "float", "bool", "text", "path"]

PROVIDERS = (
    *("embedded", "hf", "openai", "anthropic", "groq", "aimlapi", "gemini", "deepseek", "mistral"),
    *("together", "fireworks", "openrouter", "vllm", "llamacpp", "ollama", "custom"),
)
STORAGE_BACKENDS = (
    *("local", "gdrive", "onedrive", "dropbox", "icloud", "s3", "box", "nextcloud", "webdav"),
    *("firebase", "amplify", "supabase", "mongodb_atlas", "dynamodb"),
)


@dataclass(frozen=True)
class Setting:
    """One name. `default` is text as it would stand in a `.env`; empty means unset."""

    name: str
    kind: Kind
    default: str
    help: str
    low: float | None = None
    high: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    secret: bool = False
    exported: bool = False
    """Put into a stage's environment, for the library that reads it there."""
    section: str = ""

    def allowed(self) -> str:
        """What a value may be, for error messages and docs."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind == "bool":
            return "0 or 1"
        if self.kind in ("int", "float"):
            noun = "a whole number" if self.kind == "int" else "a number"
            low, high = self.low, self.high
            if low is not None and high is not None:
                form = ",.0f" if self.kind == "int" else ".15g"
                return f"{noun} from {low:{form}} to {high:{form}}"
            return f"{noun} of at least {low:.12g}" if low is not None else noun
        return "a path" if self.kind == "path" else "text"


def _int(name: str, default: str, about: str, low: float = 0, high: float | None = None, unit: str = "") -> Setting:
    return Setting(name, "int", default, about, low, high, unit)


def _float(name: str, default: str, about: str, low: float = 0, high: float | None = None, unit: str = "") -> Setting:
    return Setting(name, "float", default, about, low, high, unit)


def _bool(name: str, default: str, about: str) -> Setting:
    return Setting(name, "bool", default, about)


def _bits(name: str, default: str, about: str) -> Setting:
    return Setting(name, "int", default, about, choices=("4", "8"), unit="bits")


def _text(name: str, default: str, about: str, *choices: str) -> Setting:
    return Setting(name, "text", default, about, choices=choices)


def _path(name: str, default: str, about: str) -> Setting:
    return Setting(name, "path", default, about)


def _secret(name: str, about: str) -> Setting:
    return Setting(name, "text", "", about, secret=True)


def _env(name: str, default: str, about: str) -> Setting:
    return Setting(name, "text", default, about, exported=True)


def _provider(label: str, prefix: str, *, base_url: str = "") -> tuple[Setting, ...]:
    return (
        _text(f"{prefix}_MODEL", "", f"Model to use at {label}."),
        _secret(f"{prefix}_API_KEY", f"API key for {label}."),
        _text(f"{prefix}_BASE_URL", base_url, f"Address of {label}'s API; empty = the usual one."),
    )


SECTIONS: dict[str, tuple[Setting, ...]] = {
    "Place": (
        _path("BITNET_HOME", "./experiments", "The workspace: a folder with experiments side by side."),
        _path("DRIVE_ROOT", "${BITNET_HOME}/default", "The experiment's folder."),
        _path("CHECKPOINTS_DIR", "${DRIVE_ROOT}/checkpoints", "Where checkpoints go."),
        _path("DATA_DIR", "${DRIVE_ROOT}/data", "Where traces go."),
        _path("REPORTS_DIR", "${DRIVE_ROOT}/reports", "Where reports go."),
        _path("LOGS_DIR", "${DRIVE_ROOT}/logs", "Where runs keep their events and output."),
        _bool("AUTO_CREATE_DIRS", "1", "Create the experiment's folders when they are missing."),
        _bool("AUTO_MOUNT_GDRIVE", "1", "In Colab: mount Google Drive first. Nothing happens elsewhere."),
        _path("GDRIVE_MOUNT_POINT", "/content/drive", "Where Colab mounts Google Drive."),
    ),
    "Caches": (
        _env("BITNET_CACHE", "", "Where the embedded teacher and mapped traces are kept; empty = the user's cache."),
        _env("HF_HOME", "", "Cache of the Hugging Face libraries; empty = their own."),
        _env("TRANSFORMERS_CACHE", "", "Older name of the models' cache; empty = the library's own."),
        _env("HF_DATASETS_CACHE", "", "Cache of datasets; empty = the library's own."),
        _env("TORCH_HOME", "", "Cache of torch; empty = its own."),
        _env("TOKENIZERS_PARALLELISM", "false", "Threads inside the tokenizers library."),
        _secret("HF_TOKEN", "Token for the Hugging Face hub."),
    ),
    "Keys": (
        _text(
            "BITNET_KEYRING", "auto", "OS keyring: auto, none, secretservice, kwallet, macos or a backend's class."
        ),
        _path("BITNET_VAULT", "", "Encrypted file for keys where no OS keyring is; empty = in the user's config."),
        _path("BITNET_VAULT_PASSPHRASE_FILE", "", "File with the vault's passphrase (/dev/fd/3 works); empty = ask."),
    ),
    "Run": (
        _text("LOG_LEVEL", "INFO", "Least severe message that is kept.", "DEBUG", "INFO", "WARNING", "ERROR"),
        _int("SEED", "1234", "Seed of every random choice.", 0, 2**31 - 1),
        _bool("DETERMINISTIC", "0", "Use deterministic algorithms only, even where slower."),
    ),
    "Device": (
        _text("DEVICE_TYPE", "auto", "Device to compute on.", "auto", "cuda", "rocm", "mps", "cpu"),
        _bool("FORCE_CPU", "0", "Compute on the CPU, whatever else there is."),
        _text("TORCH_DTYPE", "bf16", "Compute type under autocast; masters stay fp32.", "bf16", "fp16", "fp32"),
        _bool("USE_AMP", "1", "Autocast where the device gains by it."),
        _bool("TORCH_COMPILE", "0", "Compile the student; the first step then waits for the compiler."),
        _text("AMP_BACKEND", "native", "Who does mixed precision.", "native"),
        _bool("ENABLE_FLASH_ATTN", "1", "Let SDPA choose its flash kernel."),
        _env("CUDA_VISIBLE_DEVICES", "", "NVIDIA devices that stages may see."),
        _env("CUDA_DEVICE_ORDER", "", "How NVIDIA devices are numbered."),
        _env("ROCM_VISIBLE_DEVICES", "", "AMD devices that stages may see."),
        _env("HSA_OVERRIDE_GFX_VERSION", "", "AMD architecture to pretend."),
        _env("PYTORCH_ENABLE_MPS_FALLBACK", "", "On a Mac: run what MPS lacks on the CPU."),
        _env("PYTORCH_CUDA_ALLOC_CONF", "", "Options of torch's CUDA allocator."),
        _env("PYTORCH_NO_CUDA_MEMORY_CACHING", "", "Switch torch's CUDA cache off (for debugging)."),
    ),
    "Chat provider": (
        _text(
            "PROVIDER",
            "embedded",
            "Provider for chat, and the teacher's when it has none of its own.",
            *PROVIDERS,
        ),
        *_provider("OpenAI", "OPENAI"),
        *_provider("Anthropic", "ANTHROPIC"),
        *_provider("Groq", "GROQ"),
        *_provider("AI/ML API", "AIMLAPI"),
        *_provider("Gemini", "GEMINI"),
        *_provider("DeepSeek", "DEEPSEEK"),
        *_provider("Mistral", "MISTRAL"),
        *_provider("Together", "TOGETHER"),
        *_provider("Fireworks", "FIREWORKS"),
        *_provider("OpenRouter", "OPENROUTER"),
        *_provider("your vLLM server", "VLLM"),
        *_provider("your llama.cpp server", "LLAMACPP"),
        *_provider("your Ollama server", "OLLAMA"),
        *_provider("any OpenAI-compatible server", "CUSTOM"),
        _text("HF_MODEL", "", "Hub name or folder of a transformers model."),
    ),
    "Teacher": (
        _text("TEACHER_PROVIDER", "${PROVIDER}", "Who serves the teacher.", *PROVIDERS),
        _text("TEACHER_MODEL", "", "The teacher's model; empty = the provider's own setting."),
        _text("TEACHER_BASE_URL", "", "Address of the teacher's API; empty = the provider's."),
        _secret("TEACHER_API_KEY", "Key for the teacher; empty = the provider's own key."),
        _int("TEACHER_CTX_LEN", "8192", "Context of the teacher.", 128, 1 << 24, "tokens"),
        _int("TEACHER_TOP_LOGPROBS", "20", "Candidates asked for at each step.", 1, 100),
        _float(
            "TEACHER_MEMORY_GB",
            "",
            "The teacher's memory, for QEI; empty = measured for a local one.",
            0.001,
            unit="GB",
        ),
        _float("TEACHER_BASELINE_TEMPERATURE", "0.0", "Sampling temperature of the baseline.", 0, 2),
        _float("TEACHER_BASELINE_TOP_P", "1.0", "Nucleus of the baseline.", 0.01, 1),
        _int("TEACHER_BASELINE_MAX_TOKENS", "256", "Longest baseline answer.", 1, 1 << 20, "tokens"),
        _int("TEACHER_BASELINE_MAX_PROMPTS", "100", "Prompts in the baseline.", 1, 1 << 20),
        _path("TEACHER_BASELINE_PROMPTS_FILE", "", "Prompts of the baseline; empty = the packaged ones."),
    ),
    "Collection": (
        _float("KD_TEACHER_TEMPERATURE", "0.8", "Sampling temperature while collecting.", 0, 2),
        _float("KD_TEACHER_TOP_P", "0.95", "Nucleus while collecting.", 0.01, 1),
        _int("KD_MAX_TOKENS_PER_PROMPT", "512", "Longest answer collected.", 1, 1 << 20, "tokens"),
        _path("KD_PROMPTS_FILE", "", "Prompts (text, JSON lines or Parquet); empty = the packaged ones."),
        _int("KD_NUM_PROMPTS", "100", "Answers to collect; more than there are prompts ask them again.", 1, 1 << 30),
        _int("KD_CONCURRENCY", "", "Most requests under way at once; empty = 4 embedded, 8 hf, 32 else.", 1, 1024),
        _int("KD_MAX_ATTEMPTS", "2", "Runs that ask for an answer before it is given up.", 1, 1000),
        _int("KD_SHARD_SEQUENCES", "256", "Sequences in one shard.", 1, 1 << 20),
        _int("KD_MAX_TOKENS_TOTAL", "", "Tokens, prompts included, that collecting may use in all.", 1, 1 << 50),
        _int(
            "KD_MAX_REQUESTS",
            "",
            "Requests that collecting may send in all, the probe's included.",
            1,
            1 << 40,
        ),
        _float("KD_MAX_USD", "", "US dollars that collecting may spend in all, by the price file.", 0),
        _path("KD_PRICES_FILE", "", "Prices to reckon with; empty = the packaged, dated ones."),
    ),
    "Student": (
        _text("TOKENIZER_NAME", "", "The student's tokenizer; empty = the embedded teacher's."),
        _text("TEMPLATE", "", "Chat template; empty = the tokenizer's."),
        _text("MINI_PRESET", "nano", "Shape of the student.", "nano", "mini"),
        _int("MINI_DIM", "", "Hidden size instead of the preset's; a multiple of 256.", 256, 1 << 16),
        _int("MINI_LAYERS", "", "Layers instead of the preset's.", 1, 1024),
        _int("MINI_HEADS", "", "Attention heads instead of the preset's.", 1, 1024),
        _int("MINI_HEAD_DIM", "", "Size of one head instead of the preset's.", 2, 1024),
        _text("STUDENT_PROFILE", "portable", "Recipe: SiLU, runs elsewhere; or squared ReLU.", "portable", "b158"),
        _bool("STUDENT_HADAMARD", "0", "Hadamard transform before o and down projections; not exportable."),
        _bool("STUDENT_QUANTIZE", "1", "0 trains a full-precision twin, to compare with."),
    ),
    "Data": (
        _int("MAX_SEQ_LEN", "256", "Longest training sequence; the rest is cut off.", 16, 1 << 20, "tokens"),
        _int("MAX_TOPK", "20", "Candidates kept of each step.", 1, 100),
        _int("TRAIN_BATCH_SIZE", "4", "Sequences in one batch.", 1, 1 << 16),
        _int("NUM_WORKERS", "0", "Threads that prepare batches ahead; 0 = none.", 0, 256),
        _path("KD_DATA_PATH", "", "Folder of the traces; empty = DATA_DIR."),
        _bool("PACK_SEQUENCES", "1", "Fill each row of MAX_SEQ_LEN with several sequences."),
    ),
    "Optimiser": (
        _float("LR", "6e-4", "Peak learning rate.", 1e-9, 1),
        _float("ADAM_BETA1", "0.9", "AdamW β₁.", 0, 0.9999),
        _float("ADAM_BETA2", "0.95", "AdamW β₂.", 0, 0.99999),
        _float("ADAM_EPS", "1e-8", "AdamW ε.", 1e-16, 1e-2),
        _float("WEIGHT_DECAY", "0.1", "Decoupled decay of the ternary layers' masters.", 0, 10),
        _float("GRAD_CLIP_NORM", "1.0", "Largest gradient norm.", 1e-6, 1e6),
        _int("GRAD_ACCUM_STEPS", "1", "Batches in one optimizer step.", 1, 1 << 16),
        _text(
            "LR_SCHEDULE", "cosine", "Fall of the learning rate; two_stage ends without decay.", "cosine", "two_stage"
        ),
        _int("SCHEDULER_TMAX", "${TOTAL_STEPS}", "Steps over which the learning rate falls.", 1, 1 << 40, "steps"),
        _float("SCHEDULER_ETA_MIN", "6e-5", "Learning rate at the end.", 0, 1),
        _int("TOTAL_STEPS", "1000", "Optimizer steps.", 1, 1 << 40, "steps"),
        _int("LOG_INTERVAL", "50", "Steps between two metrics.", 1, 1 << 20, "steps"),
        _int("CHECKPOINT_INTERVAL", "200", "Steps between two checkpoints.", 1, 1 << 30, "steps"),
    ),
    "Flip": (
        _int("BUDGET_TOKENS", "1000000", "Token budget: supervised tokens to see.", 1, 1 << 50, "tokens"),
        _float("FLIP_FRACTION", "0.9", "Share of the budget after which activations go from 8 to 4 bits.", 0, 1),
        _text("FLIP_POLICY", "hard", "All layers at once, or one after the other.", "hard", "ramp"),
        _float("FLIP_RAMP_FRACTION", "0.05", "Share of the budget over which ramp flips the layers.", 0, 1),
    ),
    "Loss": (
        _float("KD_TAU", "1.3", "Temperature τ of the distillation loss.", 0.05, 100),
        _float("KD_WEIGHT", "1.0", "Weight of the distillation loss.", 0, 1000),
        _float("KD_CE_WEIGHT", "0.25", "Weight of the cross-entropy.", 0, 1000),
        _float("FORMAT_LOSS_WEIGHT", "0.2", "Weight of the cross-entropy on structural tokens.", 0, 1000),
    ),
    "Evaluation": (
        _int("EVAL_MAX_NEW_TOKENS", "256", "Longest answer in the evaluation.", 1, 1 << 20, "tokens"),
        _int("EVAL_MAX_PROMPTS", "10", "Prompts answered in the evaluation.", 1, 1 << 20),
        _float("EVAL_TEMPERATURE", "0.0", "Sampling temperature of the evaluation.", 0, 2),
        _float("EVAL_TOP_P", "1.0", "Nucleus of the evaluation.", 0.01, 1),
        _path("EVAL_PROMPTS_FILE", "", "Prompts of the evaluation; empty = held-out ones."),
        _bool("SAVE_SAMPLE_GENERATIONS", "1", "Keep the answers in the report."),
        _float("EVAL_STUDENT_QUALITY", "", "The student's quality, for QEI; empty = measured.", 0),
        _float("EVAL_TEACHER_QUALITY", "", "The teacher's quality, for QEI; empty = measured.", 0),
    ),
    "Dry run": (
        _int("DRYRUN_DIM", "4096", "Hidden size.", 256, 1 << 16),
        _int("DRYRUN_LAYERS", "32", "Layers.", 1, 1024),
        _int("DRYRUN_HEADS", "32", "Attention heads.", 1, 1024),
        _int("DRYRUN_HEAD_DIM", "128", "Size of one head.", 2, 1024),
        _int("DRYRUN_SEQ_LEN", "64", "Tokens in the forward pass.", 1, 1 << 20, "tokens"),
        _int("DRYRUN_BATCH_SIZE", "1", "Sequences in the forward pass.", 1, 1024),
        _bits("DRYRUN_ACT_BITS_START", "8", "Activation bits of the first pass."),
        _bits("DRYRUN_ACT_BITS_AFTER", "4", "Activation bits of the second pass."),
        _bool("DRYRUN_ALLOW_DOWNGRADE", "1", "Take fewer layers when memory is short, and say so."),
        _bool("DRYRUN_FORCE_CPU", "0", "Run the dry run on the CPU."),
        _float("DRYRUN_MAX_ALLOC_FRAC", "0.85", "Share of the free memory it may take.", 0.05, 1),
    ),
    "Tracking": (
        _bool("WANDB_DISABLED", "1", "Leave Weights & Biases alone."),
        _text("WANDB_PROJECT", "bitnet-poc", "Weights & Biases project."),
        _text("WANDB_ENTITY", "", "Weights & Biases entity."),
    ),
    "Storage": (_text("STORAGE_BACKEND", "local", "Where artifacts are kept as well.", *STORAGE_BACKENDS),),
    "Storage: Google Drive": (_text("GDRIVE_PROJECT_ROOT", "", "Folder in the mounted Drive."),),
    "Storage: OneDrive": (
        _text("ONEDRIVE_ROOT", "/BitNet-7B-KDE", "Folder in OneDrive."),
        _text("ONEDRIVE_TENANT_ID", "", "Tenant."),
        _text("ONEDRIVE_CLIENT_ID", "", "Client id of the registered app."),
        _secret("ONEDRIVE_CLIENT_SECRET", "Client secret of the registered app."),
        _secret("ONEDRIVE_REFRESH_TOKEN", "Refresh token."),
    ),
    "Storage: Dropbox": (
        _secret("DROPBOX_ACCESS_TOKEN", "Access token."),
        _text("DROPBOX_ROOT", "/bitnet_poc", "Folder in Dropbox."),
    ),
    "Storage: iCloud": (
        _path("ICLOUD_DRIVE_DIR", "", "iCloud Drive's folder on this machine."),
        _secret("ICLOUD_SESSION_TOKEN", "Has no official use; kept so that older files load."),
    ),
    "Storage: S3": (
        _secret("AWS_ACCESS_KEY_ID", "Access key."),
        _secret("AWS_SECRET_ACCESS_KEY", "Secret key."),
        _text("AWS_DEFAULT_REGION", "", "Region."),
        _text("S3_BUCKET", "", "Bucket."),
        _text("S3_PREFIX", "bitnet_poc/", "Prefix of every key."),
        _text("S3_ENDPOINT_URL", "", "Address of an S3-compatible server; empty = AWS."),
    ),
    "Storage: Box": (
        _secret("BOX_DEVELOPER_TOKEN", "Developer token."),
        _text("BOX_ROOT_FOLDER_ID", "0", "Folder id in Box."),
    ),
    "Storage: Nextcloud": (
        _text("NC_WEBDAV_URL", "", "WebDAV address."),
        _text("NC_USERNAME", "", "User."),
        _secret("NC_APP_PASSWORD", "App password."),
        _text("NC_ROOT_PATH", "/bitnet_poc", "Folder in Nextcloud."),
    ),
    "Storage: WebDAV": (
        _text("WEBDAV_URL", "", "Address."),
        _text("WEBDAV_USERNAME", "", "User."),
        _secret("WEBDAV_PASSWORD", "Password."),
        _text("WEBDAV_ROOT_PATH", "/bitnet_poc", "Folder on the server."),
    ),
    "Storage: Firebase": (
        _text("FIREBASE_PROJECT_ID", "", "Project."),
        _secret("FIREBASE_CREDENTIALS_JSON", "Service account file, or its JSON."),
        _text("FIREBASE_STORAGE_BUCKET", "", "Bucket."),
    ),
    "Storage: Amplify": (
        _text("AMPLIFY_APP_ID", "", "App."),
        _text("AMPLIFY_ENV", "", "Environment."),
        _text("AMPLIFY_REGION", "", "Region."),
    ),
    "Storage: Supabase": (
        _text("SUPABASE_URL", "", "Address of the project."),
        _secret("SUPABASE_ANON_KEY", "Anonymous key."),
        _secret("SUPABASE_SERVICE_ROLE_KEY", "Service role key."),
        _text("SUPABASE_BUCKET", "bitnet-poc", "Bucket."),
        _text("SUPABASE_PREFIX", "artifacts/", "Prefix of every key."),
    ),
    "Storage: MongoDB Atlas": (
        _secret("MONGODB_ATLAS_URI", "Connection string."),
        _text("MONGODB_DB_NAME", "bitnet_poc", "Database."),
        _text("MONGODB_COLLECTION_PREFIX", "artifacts_", "Prefix of every collection."),
    ),
    "Storage: DynamoDB": (
        _text("DYNAMO_REGION", "", "Region."),
        _text("DYNAMO_TABLE_PREFIX", "bitnet_poc_", "Prefix of every table."),
    ),
}

REGISTRY: dict[str, Setting] = {
    setting.name: Setting(**{**vars(setting), "section": section})
    for section, settings in SECTIONS.items()
    for setting in settings
}
SECRET_NAMES = frozenset(name for name, setting in REGISTRY.items() if setting.secret)


def in_sections(*sections: str) -> tuple[str, ...]:
    """Names of the settings in these sections, secrets left out."""
    return tuple(n for n, setting in REGISTRY.items() if setting.section in sections and not setting.secret)
