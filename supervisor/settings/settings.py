"""What the user chose. Built once by the command line, then passed down; nothing re-reads it."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)

Port = Annotated[int, Field(ge=1, le=65535)]
SPAN = re.compile(r"([1-9][0-9]{0,5})(m|h|d)")


def span(text: object) -> object:
    """``24h`` as the time that it means; what is no text is for pydantic to judge."""
    if not isinstance(text, str):
        return text
    if (found := SPAN.fullmatch(text.strip())) is None:
        raise ValueError("should be minutes, hours or days, such as 30m, 24h or 7d")
    units = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
    return int(found[1]) * units[found[2]]


Span = Annotated[timedelta, BeforeValidator(span), Field(ge=timedelta(minutes=1))]


def named(own: str, *others: str) -> AliasChoices:
    """Our name first, then the names that other projects gave the same thing."""
    return AliasChoices(own, *others)


class Settings(BaseModel):
    """Every setting with its default and meaning; the README's table is made from this class."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_by_name=True)

    data: Path = Field(Path("/data"), validation_alias=named("CLAWLAMA_DATA"))
    """Folder for everything worth keeping: journal, adapters, secrets, OpenClaw's state.
    Outside a container: `~/.local/share/clawlama`."""

    model: str | None = Field(None, validation_alias=named("CLAWLAMA_MODEL", "CLAAS_BASE_MODEL_ID", "MODEL"))
    """Base model: `tiny-chat` (bundled), a `.gguf` file or a folder with one, or a name that Ollama knows, such as
    `qwen3:8b`. Unset: `tiny-chat`; with the engine `ollama`, what this machine is recommended."""

    models: tuple[str, ...] = Field((), validation_alias=named("CLAWLAMA_MODELS"))
    """Further Ollama models to pull and to offer, comma separated; they serve as they are."""

    engine: Literal["auto", "llama", "ollama"] = Field("auto", validation_alias=named("CLAWLAMA_ENGINE"))
    """What serves the model: `llama` is the embedded llama.cpp, `ollama` a server of that name; `auto` goes by the
    model. What is bundled or a file is served by `llama` in any case."""

    ollama_host: str = Field("127.0.0.1:11434", validation_alias=named("CLAWLAMA_OLLAMA_HOST", "OLLAMA_HOST"))
    """Address of the Ollama server. When none answers at an address of this machine, we start one, if installed."""

    ollama_models: Path | None = Field(None, validation_alias=named("CLAWLAMA_OLLAMA_MODELS", "OLLAMA_MODELS"))
    """Folder of that server's models, which lessons read; unset: its usual places, `ollama/` in the data folder for a
    server of our own."""

    ollama_keep_alive: str = Field("24h", validation_alias=named("CLAWLAMA_OLLAMA_KEEP_ALIVE", "OLLAMA_KEEP_ALIVE"))
    """How long Ollama keeps a model in memory after a request; `-1`: for ever."""

    ollama_max_loaded_models: PositiveInt = Field(
        1, validation_alias=named("CLAWLAMA_OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MAX_LOADED_MODELS")
    )
    """Models that a server of our own holds in memory at the same time."""

    publish: Literal["auto", "create", "manifest", "merge"] = Field("auto", validation_alias=named("CLAWLAMA_PUBLISH"))
    """How Ollama gets a new adapter version: by its create API, by a manifest written into its store, or merged into
    a copy of the weights; `auto` takes the first that works."""

    keep_versions: PositiveInt = Field(3, validation_alias=named("CLAWLAMA_KEEP_VERSIONS"))
    """Versions that stay in Ollama's store; older ones stay in the data folder only."""

    adapter: str = Field("openclaw/assistant", validation_alias=named("CLAWLAMA_ADAPTER", "LORA_NAME"))
    """Name of the adapter that learns."""

    context_window: PositiveInt = Field(131072, validation_alias=named("CLAWLAMA_CONTEXT_WINDOW", "MAX_MODEL_LEN"))
    """Longest context in tokens; cut to what the model and the memory hold."""

    max_tokens: PositiveInt = Field(8192, validation_alias=named("CLAWLAMA_MAX_TOKENS"))
    """Longest reply in tokens."""

    threads: PositiveInt | None = Field(None, validation_alias=named("CLAWLAMA_THREADS", "OLLAMA_NUM_THREADS"))
    """CPU threads for serving and for lessons; unset: the physical cores this container may use."""

    parallel: PositiveInt = Field(2, validation_alias=named("CLAWLAMA_PARALLEL", "OLLAMA_NUM_PARALLEL"))
    """Requests served at the same time; they share the context window's memory."""

    api_host: str = Field("127.0.0.1", validation_alias=named("CLAWLAMA_API_HOST", "CLAAS_API_HOST"))
    """Address of our API."""

    api_port: Port = Field(8080, validation_alias=named("CLAWLAMA_API_PORT", "CLAAS_API_PORT"))
    """Port of our API."""

    openclaw_port: Port = Field(18789, validation_alias=named("CLAWLAMA_OPENCLAW_PORT", "OPENCLAW_PORT"))
    """Port of OpenClaw: web UI and gateway."""

    openclaw_bind: Literal["loopback", "lan"] = Field("loopback", validation_alias=named("CLAWLAMA_OPENCLAW_BIND"))
    """Who may reach OpenClaw's port: this machine, or the network."""

    openclaw_origins: tuple[str, ...] = Field((), validation_alias=named("CLAWLAMA_OPENCLAW_ORIGINS"))
    """Addresses at which people open OpenClaw in a browser, comma separated, such as `http://nas:18789`; needed for a
    name that is neither an IP address of a private network nor ends in `.local`."""

    openclaw_config: Path | None = Field(None, validation_alias=named("CLAWLAMA_OPENCLAW_CONFIG"))
    """Your own `openclaw.json`, used instead of the one we render; unset: `openclaw.json` in the data folder, if there
    is one."""

    openclaw_token: SecretStr | None = Field(
        None, validation_alias=named("CLAWLAMA_OPENCLAW_TOKEN", "OPENCLAW_GATEWAY_TOKEN")
    )
    """Token for OpenClaw; unset: made on the first start."""

    api_token: SecretStr | None = Field(None, validation_alias=named("CLAWLAMA_API_TOKEN"))
    """Token for our API; unset: made on the first start."""

    telegram_bot_token: SecretStr | None = Field(
        None, validation_alias=named("CLAWLAMA_TELEGRAM_BOT_TOKEN", "TELEGRAM_BOT_TOKEN")
    )
    """Turns the Telegram channel on."""

    telegram_allow_from: tuple[int, ...] = Field((), validation_alias=named("CLAWLAMA_TELEGRAM_ALLOW_FROM"))
    """Telegram user ids that may talk to the assistant, comma separated."""

    max_concurrent: PositiveInt = Field(4, validation_alias=named("CLAWLAMA_MAX_CONCURRENT"))
    """OpenClaw runs at the same time."""

    subagent_concurrent: PositiveInt = Field(8, validation_alias=named("CLAWLAMA_SUBAGENT_CONCURRENT"))
    """OpenClaw subagent runs at the same time."""

    lean: Literal["auto", "on", "off"] = Field("auto", validation_alias=named("CLAWLAMA_LEAN"))
    """Keep OpenClaw's prompt small, without tools; `auto`: for small models, and where no GPU reads it."""

    node_prefix: Path | None = Field(None, validation_alias=named("CLAWLAMA_NODE_PREFIX"))
    """npm prefix that holds Node and OpenClaw; unset: look on PATH."""

    feedback_batch_size: PositiveInt = Field(
        4, validation_alias=named("CLAWLAMA_FEEDBACK_BATCH_SIZE", "FEEDBACK_BATCH_SIZE")
    )
    """Feedback that makes one lesson when the caller does not wait."""

    feedback_patience_s: PositiveFloat = Field(20.0, validation_alias=named("CLAWLAMA_FEEDBACK_PATIENCE_S"))
    """Seconds without new feedback after which a lesson starts although its batch is not full."""

    lesson_timeout_s: PositiveFloat = Field(1800.0, validation_alias=named("CLAWLAMA_LESSON_TIMEOUT_S"))
    """Seconds after which a lesson that has not ended is stopped."""

    trainer_warm_s: NonNegativeFloat = Field(300.0, validation_alias=named("CLAWLAMA_TRAINER_WARM_S"))
    """Seconds that the trainer stays after a lesson, with what the next one would have to load first; 0: it ends with
    each, as it always does on a GPU and where the engine rests for lessons."""

    drain_timeout_s: PositiveFloat = Field(
        30.0, validation_alias=named("CLAWLAMA_FEEDBACK_DRAIN_TIMEOUT_S", "FEEDBACK_DRAIN_TIMEOUT_S")
    )
    """Seconds that running replies get before the engine changes versions."""

    feedback_log_dir: Path | None = Field(None, validation_alias=named("CLAWLAMA_FEEDBACK_LOG_DIR", "FEEDBACK_LOG_DIR"))
    """One JSON file per lesson is written here; unset: `feedback/` in the data folder."""

    gpu_packs: Literal["auto", "on", "off"] = Field("auto", validation_alias=named("CLAWLAMA_GPU_PACKS"))
    """Whether to download what an NVIDIA GPU needs (Ollama's CUDA libraries, CUDA torch for lessons) into the data
    folder; `auto`: where a GPU is seen."""

    package_index: str | None = Field(None, validation_alias=named("CLAWLAMA_PACKAGE_INDEX", "PIP_INDEX_URL"))
    """Python package index that CUDA torch is downloaded from; unset: the one that pip asks by default."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias=named("CLAWLAMA_LOG_LEVEL")
    )
    """How much we say on the terminal."""

    log_format: Literal["auto", "text", "json"] = Field("auto", validation_alias=named("CLAWLAMA_LOG_FORMAT"))
    """What the terminal gets: readable lines, or one JSON object per line; `auto`: text for a person who looks on, JSON
    elsewhere. Files in `logs/` are text."""

    log_file_mb: PositiveInt = Field(10, validation_alias=named("CLAWLAMA_LOG_FILE_MB"))
    """Megabytes at which the log file of a service is put aside and a new one begun."""

    log_files: PositiveInt = Field(3, validation_alias=named("CLAWLAMA_LOG_FILES"))
    """Log files that are kept of each service, the current one included."""

    open_metrics: bool = Field(False, validation_alias=named("CLAWLAMA_OPEN_METRICS"))
    """Answer `/metrics` without a token, for a scraper that cannot send one."""

    backup_every: Span | None = Field(None, validation_alias=named("CLAWLAMA_BACKUP_EVERY"))
    """Time between two backups that are made by themselves, such as `24h` or `7d`; unset: none are."""

    backup_keep: PositiveInt = Field(7, validation_alias=named("CLAWLAMA_BACKUP_KEEP"))
    """How many of those stay; the oldest go, backups that you made yourself never do."""

    backup_dir: Path | None = Field(None, validation_alias=named("CLAWLAMA_BACKUP_DIR"))
    """Folder for backups, best on another disk; unset: `backups/` in the data folder."""
