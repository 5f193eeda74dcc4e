"""The registry of settings: every `.env` name with its type, default, bounds, unit and help.

The storage targets' settings are in `targets.py`, all others here.

To add a setting:

1. add a line to its section;
2. add a field to the group in `values.py` through which the code reads it. Until then it "has no effect yet";
3. run `make docs`, which writes `.env.example` and docs/settings.md from the registry;
4. if the app should ask for it when an experiment is made, add it to STUDENT_FIELDS of bitnet_tui/view/guide/draft.py
   and a label to bitnet_tui/labels.py; the settings of a storage target are asked for by themselves;
5. if it changes a stage's result, check that runs/catalog.py counts it for that stage: it takes whole
   sections, less `_RESULT_UNCHANGED_BY`.

Data only: `kinds.py` checks a value, `resolve.py` finds it.
"""

from bitnet_core.settings.kinds import (
    Setting,
    automatic,
    bits,
    exported,
    integer,
    layers,
    model,
    number,
    path,
    provider,
    secret,
    switch,
    text,
)
from bitnet_core.settings.presets import TRAINED
from bitnet_core.settings.targets import STORAGE_BACKENDS, TARGETS

PROVIDER_NAMES = (
    "embedded",
    "hf",
    "openai",
    "anthropic",
    "groq",
    "aimlapi",
    "gemini",
    "deepseek",
    "mistral",
    "together",
    "fireworks",
    "openrouter",
    "vllm",
    "llamacpp",
    "ollama",
    "custom",
)
SECTIONS: dict[str, tuple[Setting, ...]] = {
    "Place": (
        path("BITNET_HOME", "./experiments", "The workspace: a folder that holds experiments side by side."),
        path("DRIVE_ROOT", "${BITNET_HOME}/default", "The experiment's folder."),
        path("CHECKPOINTS_DIR", "${DRIVE_ROOT}/checkpoints", "Where checkpoints go."),
        path("DATA_DIR", "${DRIVE_ROOT}/data", "Where traces go."),
        path("REPORTS_DIR", "${DRIVE_ROOT}/reports", "Where reports go."),
        path("LOGS_DIR", "${DRIVE_ROOT}/logs", "Where runs keep their events and output."),
        switch("AUTO_CREATE_DIRS", "1", "Create the experiment's folders when they are missing."),
        switch("AUTO_MOUNT_GDRIVE", "1", "In Colab, mount Google Drive first. Does nothing elsewhere."),
        path("GDRIVE_MOUNT_POINT", "/content/drive", "Where Colab mounts Google Drive."),
    ),
    "Caches": (
        exported("BITNET_CACHE", "", "Cache of the embedded teacher and mapped traces; empty = the user's cache."),
        exported("HF_HOME", "", "Cache of the Hugging Face libraries; empty = their default."),
        exported("TRANSFORMERS_CACHE", "", "Older name of the model cache; empty = the library's default."),
        exported("HF_DATASETS_CACHE", "", "Cache of datasets; empty = the library's default."),
        exported("TORCH_HOME", "", "Cache of torch; empty = its default."),
        exported("TOKENIZERS_PARALLELISM", "false", "Let the tokenizers library use several threads."),
        secret("HF_TOKEN", "Token for the Hugging Face hub."),
    ),
    "Keys": (
        text("BITNET_KEYRING", "auto", "OS keyring: auto, none, secretservice, kwallet, macos or a backend's class."),
        path("BITNET_VAULT", "", "Encrypted file for keys without an OS keyring; empty = in the user's config."),
        path(
            "BITNET_VAULT_PASSPHRASE_FILE",
            "",
            "File with its passphrase (/dev/fd/3 works); empty = ask.",
            read_at_once=True,
        ),
    ),
    "Run": (
        text("LOG_LEVEL", "INFO", "Least severe message to keep.", "DEBUG", "INFO", "WARNING", "ERROR"),
        integer("SEED", "1234", "Seed of all random choices.", 0, 2**31 - 1),
        switch("DETERMINISTIC", "0", "Use only deterministic algorithms, even where they are slower."),
    ),
    "Device": (
        text("DEVICE_TYPE", "auto", "Device to compute on.", "auto", "cuda", "rocm", "mps", "cpu"),
        switch("FORCE_CPU", "0", "Compute on the CPU even if there is a GPU."),
        text("TORCH_DTYPE", "bf16", "Compute type under autocast; master weights stay fp32.", "bf16", "fp16", "fp32"),
        switch("USE_AMP", "1", "Use autocast where it makes the device faster."),
        automatic(
            "TORCH_COMPILE",
            "Compile the student, which delays the first step; auto = on a GPU, unless the run is short.",
        ),
        text("AMP_BACKEND", "native", "Implementation of mixed precision.", "native"),
        switch("ENABLE_FLASH_ATTN", "1", "Let SDPA use its flash attention kernel."),
        exported("CUDA_VISIBLE_DEVICES", "", "NVIDIA devices visible to stages."),
        exported("CUDA_DEVICE_ORDER", "", "How NVIDIA devices are numbered."),
        exported("ROCM_VISIBLE_DEVICES", "", "AMD devices visible to stages."),
        exported("HSA_OVERRIDE_GFX_VERSION", "", "AMD architecture to report instead of the real one."),
        exported("PYTORCH_ENABLE_MPS_FALLBACK", "", "On a Mac, run operations that MPS lacks on the CPU."),
        exported("PYTORCH_CUDA_ALLOC_CONF", "", "Options of torch's CUDA allocator."),
        exported("PYTORCH_NO_CUDA_MEMORY_CACHING", "", "Turn off torch's CUDA cache (for debugging)."),
    ),
    "Chat provider": (
        text("PROVIDER", "embedded", "Provider for chat, and the default for the teacher.", *PROVIDER_NAMES),
        *provider("OpenAI", "OPENAI"),
        *provider("Anthropic", "ANTHROPIC"),
        *provider("Groq", "GROQ"),
        *provider("AI/ML API", "AIMLAPI"),
        *provider("Gemini", "GEMINI"),
        *provider("DeepSeek", "DEEPSEEK"),
        *provider("Mistral", "MISTRAL"),
        *provider("Together", "TOGETHER"),
        *provider("Fireworks", "FIREWORKS"),
        *provider("OpenRouter", "OPENROUTER"),
        *provider("your vLLM server", "VLLM"),
        *provider("your llama.cpp server", "LLAMACPP"),
        *provider("your Ollama server", "OLLAMA"),
        *provider("any OpenAI-compatible server", "CUSTOM"),
        model("HF_MODEL", "", "Hub name or folder of a transformers model."),
    ),
    "Teacher": (
        text("TEACHER_PROVIDER", "${PROVIDER}", "Provider of the teacher.", *PROVIDER_NAMES),
        text("TEACHER_MODEL", "", "The teacher's model; empty = the provider's own setting, such as OPENAI_MODEL."),
        text("TEACHER_BASE_URL", "", "Address of the teacher's API; empty = the provider's own setting."),
        secret("TEACHER_API_KEY", "API key for the teacher; empty = the provider's own key."),
        integer("TEACHER_CTX_LEN", "8192", "Context length of the teacher.", 128, 1 << 24, "tokens"),
        integer("TEACHER_TOP_LOGPROBS", "20", "Candidate tokens to request at each step.", 1, 100),
        number("TEACHER_MEMORY_GB", "", "The teacher's memory for QEI; empty = measured if local.", 0.001, unit="GB"),
        number("TEACHER_BASELINE_TEMPERATURE", "0.0", "Sampling temperature of the baseline.", 0, 2),
        number("TEACHER_BASELINE_TOP_P", "1.0", "Nucleus (top-p) of the baseline.", 0.01, 1),
        integer("TEACHER_BASELINE_MAX_TOKENS", "256", "Longest answer in the baseline.", 1, 1 << 20, "tokens"),
        integer("TEACHER_BASELINE_MAX_PROMPTS", "100", "Number of prompts in the baseline.", 1, 1 << 20),
        path("TEACHER_BASELINE_PROMPTS_FILE", "", "File with the baseline's prompts; empty = the packaged ones."),
    ),
    "Collection": (
        number("KD_TEACHER_TEMPERATURE", "0.8", "Sampling temperature while collecting.", 0, 2),
        number("KD_TEACHER_TOP_P", "0.95", "Nucleus (top-p) while collecting.", 0.01, 1),
        text(
            "KD_HELDOUT_SAMPLING",
            "same",
            "Held-out answers: sampled as the others, or plain, at temperature 1 and top-p 1.",
            *("same", "plain"),
        ),
        integer("KD_MAX_TOKENS_PER_PROMPT", "512", "Longest answer to collect.", 1, 1 << 20, "tokens"),
        path("KD_PROMPTS_FILE", "", "File with prompts (text, JSON lines or Parquet); empty = the packaged ones."),
        path(
            "KD_TEXT_FILE", "", "File with answers or plain text that the teacher scores; empty = it writes its own."
        ),
        text(
            "KD_ROWS",
            "top",
            "A step's candidates: the likeliest, or TEACHER_TOP_LOGPROBS draws (hf, or texts scored by embedded).",
            *("top", "sampled"),
        ),
        integer("KD_NUM_PROMPTS", "100", "Answers to collect; prompts repeat if there are fewer.", 1, 1 << 31),
        integer("KD_CONCURRENCY", "", "Most requests in flight; empty = 4 embedded, 8 hf, 32 others.", 1, 1024),
        integer("KD_MAX_ATTEMPTS", "2", "How many runs ask for an answer before it is given up.", 1, 1000),
        integer("KD_SHARD_SEQUENCES", "256", "Sequences in one shard.", 1, 1 << 20),
        integer("KD_MAX_TOKENS_TOTAL", "", "Most tokens that collecting may use, prompts included.", 1, 1 << 50),
        integer("KD_MAX_REQUESTS", "", "Most requests that collecting may send, the probe's included.", 1, 1 << 40),
        number("KD_MAX_USD", "", "Most US dollars that collecting may spend, by the price file.", 0),
        path("KD_PRICES_FILE", "", "Price file; empty = the packaged, dated one."),
    ),
    "Student": (
        model("TOKENIZER_NAME", "", "The student's tokenizer; empty = SmolLM2's, the embedded teacher's."),
        text("TEMPLATE", "", "Chat template; empty = the tokenizer's own.", multiline=True),
        text(
            "TEMPLATE_SYSTEM",
            "keep",
            "For templates without a system role: merge puts a system message's text before the user's.",
            *("keep", "merge"),
        ),
        model(
            "STUDENT_INIT",
            "random",
            "First weights and shape: random, teacher, or a Llama-shaped model: a folder, a .gguf file, a hub name.",
        ),
        layers(
            "STUDENT_INIT_LAYERS",
            "Layers kept of that model: how many, or their numbers with commas; 0 = only its embedding; empty = all.",
        ),
        integer(
            "STUDENT_INIT_FIT_STEPS",
            "1024",
            "Steps in which the kept layers first learn together to match the model; 0 = none.",
            0,
            1 << 20,
        ),
        text(
            "STUDENT_INIT_EMBEDDING",
            "Q5_0",
            "With kept layers: the type that the model's embedding is rounded to and stays in, or trained.",
            *("Q5_0", "Q4_0", "trained"),
        ),
        text("MINI_PRESET", "nano", "Shape of the student, unless STUDENT_INIT names a model.", *TRAINED),
        integer("MINI_DIM", "", "Hidden size, a multiple of 64; empty = the preset's.", 64, 1 << 16),
        integer("MINI_LAYERS", "", "Number of layers; empty = the preset's.", 1, 1024),
        integer("MINI_HEADS", "", "Number of attention heads; empty = the preset's.", 1, 1024),
        integer("MINI_HEAD_DIM", "", "Size of one attention head; empty = the preset's.", 2, 1024),
        text("STUDENT_PROFILE", "portable", "portable: SiLU, for llama.cpp; b158: squared ReLU.", "portable", "b158"),
        switch("STUDENT_HADAMARD", "0", "Hadamard transform before the o and down projections; not exportable."),
        switch("STUDENT_QUANTIZE", "1", "Quantise the student; 0 trains a full-precision twin for comparison."),
    ),
    "Data": (
        integer("MAX_SEQ_LEN", "256", "Longest training sequence; the rest is cut off.", 16, 1 << 20, "tokens"),
        integer("MAX_TOPK", "20", "Candidate tokens used at each step.", 1, 100),
        integer("TRAIN_BATCH_SIZE", "4", "Sequences in one batch.", 1, 1 << 16),
        integer("NUM_WORKERS", "0", "Threads that prepare batches ahead; 0 = none.", 0, 256),
        path("KD_DATA_PATH", "", "Folder of the traces; empty = DATA_DIR."),
        switch("PACK_SEQUENCES", "1", "Fill each row of MAX_SEQ_LEN with several sequences."),
        switch("RECOMPUTE_ACTIVATIONS", "0", "Compute layers again in the backward pass: less memory, slower steps."),
    ),
    "Optimiser": (
        number("LR", "6e-4", "Peak learning rate.", 1e-9, 1),
        number("ADAM_BETA1", "0.9", "AdamW β₁.", 0, 0.9999),
        number("ADAM_BETA2", "0.95", "AdamW β₂.", 0, 0.99999),
        number("ADAM_EPS", "1e-8", "AdamW ε.", 1e-16, 1e-2),
        number("WEIGHT_DECAY", "0.1", "Decoupled weight decay of the ternary layers' master weights.", 0, 10),
        number("GRAD_CLIP_NORM", "1.0", "Gradients are clipped to this norm.", 1e-6, 1e6),
        integer("GRAD_ACCUM_STEPS", "1", "Batches in one optimizer step.", 1, 1 << 16),
        text("LR_SCHEDULE", "cosine", "Decay shape; two_stage ends without weight decay.", "cosine", "two_stage"),
        integer("SCHEDULER_TMAX", "", "Steps of the learning rate's decay; empty = all.", 1, 1 << 40, "steps"),
        number("SCHEDULER_ETA_MIN", "6e-5", "Learning rate at the end.", 0, 1),
        integer("TOTAL_STEPS", "", "Most optimizer steps; empty = as many as the budget needs.", 1, 1 << 40, "steps"),
        integer(
            "LOG_INTERVAL",
            "",
            "Steps from one metric to the next; empty = a thirtieth of the training, at most 50.",
            1,
            1 << 20,
            "steps",
        ),
        integer(
            "CHECKPOINT_INTERVAL",
            "200",
            "Steps between checkpoints, each measured on held-out answers; newest 3 and best stay.",
            1,
            1 << 31,
            "steps",
        ),
        integer(
            "RESUME_STEP",
            "",
            "Checkpoint to resume from (`train --from STEP`); 0 = start again, empty = the newest.",
            *(0, 1 << 40),
        ),
    ),
    "Flip": (
        integer("BUDGET_TOKENS", "", "Supervised tokens; empty = BUDGET_EPOCHS decides.", 1, 1 << 50, "tokens"),
        number("BUDGET_EPOCHS", "4", "How often to see what was collected.", 0.01, 10_000, "epochs"),
        number("FLIP_FRACTION", "0.9", "Share of the budget after which activations go from 8 to 4 bits.", 0, 1),
        text("FLIP_POLICY", "hard", "hard flips all layers at once, ramp one after the other.", "hard", "ramp"),
        number("FLIP_RAMP_FRACTION", "0.05", "Share of the budget that the ramp takes.", 0, 1),
        number(
            "QUANT_RAMP_FRACTION",
            "0",
            "Share of the budget over which the student becomes ternary; 0 = at once.",
            0,
            1,
        ),
        text(
            "A4_POLICY",
            "hybrid",
            "all: every input goes to 4 bits; hybrid: those of o and down stay at 8.",
            *("all", "hybrid"),
        ),
    ),
    "Loss": (
        number("KD_TAU", "1.3", "Temperature τ of the distillation loss.", 0.05, 100),
        number("KD_WEIGHT", "1.0", "Weight of the distillation loss.", 0, 1000),
        number("KD_CE_WEIGHT", "0.25", "Weight of the cross-entropy.", 0, 1000),
        number(
            "FORMAT_LOSS_WEIGHT", "0.2", "Weight of structural tokens' cross-entropy, averaged over all.", 0, 1000
        ),
        number(
            "ATTENTION_RELATION_WEIGHT",
            "0",
            "Weight of the loss by which the last layer relates tokens as the model in STUDENT_INIT does; 0 = none.",
            *(0, 1000),
        ),
        switch(
            "TRAIN_ONLINE",
            "0",
            "Ask the teacher's model while training, over its whole vocabulary (hf or embedded; `train --online`).",
        ),
        number(
            "ON_POLICY_FRACTION", "0", "With TRAIN_ONLINE: share of steps whose answers the student writes.", 0, 1
        ),
        text("ON_POLICY_KL", "reverse", "Divergence on what the student wrote.", "reverse", "forward"),
    ),
    "Evaluation": (
        integer("EVAL_MAX_NEW_TOKENS", "256", "Longest answer in the evaluation.", 1, 1 << 20, "tokens"),
        integer("EVAL_MAX_PROMPTS", "10", "Number of prompts to answer in the evaluation.", 1, 1 << 20),
        number("EVAL_TEMPERATURE", "0.0", "Sampling temperature of the evaluation.", 0, 2),
        number("EVAL_TOP_P", "1.0", "Nucleus (top-p) of the evaluation.", 0.01, 1),
        path("EVAL_PROMPTS_FILE", "", "File with the evaluation's prompts; empty = held-out ones."),
        switch("SAVE_SAMPLE_GENERATIONS", "1", "Include the answers in the report."),
        text(
            "EVAL_SUITE",
            "checks",
            "Suites for teacher and student, with commas: json, extraction, tools, instructions, arithmetic; "
            "checks = these five; a benchmark's name (bitnet bench list); none.",
        ),
        integer("EVAL_LIMIT", "20", "Items of each suite and passages of fixed text; 0 = all.", 0, 1 << 31),
        integer("EVAL_SUITE_MAX_TOKENS", "96", "Longest answer to an item of a suite.", 1, 1 << 20, "tokens"),
        number("EVAL_TEXT_WEIGHT", "0.5", "Weight of the fixed text in the quality; the items have the rest.", 0, 1),
        path("EVAL_SCORES", "", "File of scores measured elsewhere (JSON, docs/EVALUATION.md); empty = none."),
        path("EVAL_ITEMS_FILE", "", "File of your own items (JSON lines, docs/EVALUATION.md); empty = none."),
        number("EVAL_STUDENT_QUALITY", "", "The student's quality, for QEI; empty = measured.", 0),
        number("EVAL_TEACHER_QUALITY", "", "The teacher's quality, for QEI; empty = measured.", 0),
    ),
    "Gates": (
        number("GATE_INVALID_ROWS", "0.05", "Largest share of the teacher's tokens in rejected answers.", 0, 1),
        integer("GATE_NONFINITE_STEPS", "0", "Most training steps that were not finite; empty = no gate.", 0),
        switch("GATE_FLIP_RECOVERED", "1", "The held-out loss must be back where it was before the flip."),
        number("GATE_JSON_VALIDITY", "0.9", "Least share of valid JSON in answers that ask for it.", 0, 1),
        number("GATE_QUALITY_RATIO", "0.5", "Least quality as a share of the teacher's, Q_s/Q_t.", 0),
        number("GATE_QEI", "1", "Least QEI; 1 is the teacher's.", 0),
        number("GATE_QEI_SPEED", "1", "Least QEI_speed; 1 is the teacher's.", 0),
        switch("GATE_ENFORCE", "0", "End the pipeline with exit code 3 if a gate fails (`bitnet pipeline --gate`)."),
    ),
    "Dry run": (
        integer("DRYRUN_DIM", "4096", "Hidden size.", 256, 1 << 16),
        integer("DRYRUN_LAYERS", "32", "Number of layers.", 1, 1024),
        integer("DRYRUN_HEADS", "32", "Number of attention heads.", 1, 1024),
        integer("DRYRUN_HEAD_DIM", "128", "Size of one attention head.", 2, 1024),
        integer("DRYRUN_SEQ_LEN", "64", "Tokens per sequence in the forward pass.", 1, 1 << 20, "tokens"),
        integer("DRYRUN_BATCH_SIZE", "1", "Sequences in the forward pass.", 1, 1024),
        bits("DRYRUN_ACT_BITS_START", "8", "Activation bits of the first pass."),
        bits("DRYRUN_ACT_BITS_AFTER", "4", "Activation bits of the second pass."),
        switch("DRYRUN_ALLOW_DOWNGRADE", "1", "Use fewer layers when memory is short, and report it."),
        switch("DRYRUN_FORCE_CPU", "0", "Do the dry run on the CPU."),
        number("DRYRUN_MAX_ALLOC_FRAC", "0.85", "Share of the free memory that the dry run may use.", 0.05, 1),
    ),
    "Tracking": (
        switch("WANDB_DISABLED", "1", "Don't report to Weights & Biases."),
        text("WANDB_PROJECT", "bitnet-poc", "Weights & Biases project."),
        text("WANDB_ENTITY", "", "Weights & Biases entity."),
    ),
    "Notifications": (
        text(
            "NOTIFY_COMMAND",
            "",
            "Program to run when a run ends or raises an alert; gets title and text as arguments and JSON on stdin.",
        ),
        secret("NOTIFY_WEBHOOK", "Address to POST the same to; it may hold a key, so it is stored like one."),
        text(
            "NOTIFY_WEBHOOK_FORM",
            "",
            "What the webhook takes; auto = by its address. Empty = auto, for an address in the environment or a "
            ".env; with a form it is also looked for where keys are kept.",
            *("auto", "slack", "discord", "ntfy", "json"),
        ),
        integer("NOTIFY_QUIET_FROM", "", "First quiet hour; notices wait until the quiet hours end.", 0, 23, "h"),
        integer("NOTIFY_QUIET_UNTIL", "", "First hour after the quiet ones.", 0, 23, "h"),
        text(
            "NOTIFY_TERMINAL",
            "all",
            "How the app notifies besides its message: bell and desktop notification, the bell alone, or neither.",
            *("all", "bell", "off"),
        ),
    ),
    "Storage": (
        text("STORAGE_BACKEND", "local", "Where to keep a second copy of the artifacts.", *STORAGE_BACKENDS),
        text("STORAGE_NAME", "", "The experiment's name there; empty = that of its folder."),
        text(
            "STORAGE_SYNC",
            "live",
            "When stages bring the copy up to date: never, when they end, or continuously.",
            *("off", "end", "live"),
        ),
        text(
            "STORAGE_CHECKPOINTS",
            "needed",
            "Checkpoints to send: the newest, the best and the last one before the flip, or all, set-aside ones too.",
            *("needed", "all"),
        ),
        path("STORAGE_LOCAL_DIR", "", "local: the folder for the copy, best on another disk; empty = no copy."),
    ),
    **TARGETS,
}

REGISTRY: dict[str, Setting] = {
    setting.name: setting._replace(section=section) for section, settings in SECTIONS.items() for setting in settings
}
SECRET_NAMES = frozenset(name for name, setting in REGISTRY.items() if setting.secret)


def in_sections(*sections: str) -> tuple[str, ...]:
    """Names of the settings in these sections, without the secrets."""
    return tuple(name for name, setting in REGISTRY.items() if setting.section in sections and not setting.secret)
