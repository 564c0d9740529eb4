"""The only reader of the environment. A setting is the variable `RANKLOOP_` plus its name in capitals."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from training.config import CycleConfig, SamplingConfig
from training.errors import ConfigError

DEMO_MODEL = Path(__file__).parent / "demo" / "data" / "model"


class Settings(BaseSettings):
    """Where things are and how the backend behaves. Immutable; created once at startup and passed down."""

    model_config = SettingsConfigDict(env_prefix="RANKLOOP_", frozen=True, extra="ignore", populate_by_name=True)

    data_dir: Path = Field(Path("~/.rankloop"), description="folder for jobs, versions and training runs")
    model: str = Field(str(DEMO_MODEL), description="base model: a local folder, or a hub name such as gpt2")
    model_name: str = Field("rankloop", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="name in the MLflow registry")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu or cuda")

    label_studio_url: str = Field(
        "http://localhost:8080",
        validation_alias=AliasChoices("label_studio_url", "LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"),
        description="Label Studio's address as rankloop sees it",
    )
    label_studio_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("label_studio_api_key", "LABEL_STUDIO_API_KEY"),
        description="personal access token or legacy token",
    )
    label_studio_executable: Path | None = Field(
        None, description="the label-studio command that `rankloop demo` starts; by default the one from `make setup`"
    )

    host: str = Field("127.0.0.1", description="address the backend listens on")
    port: int = Field(9090, ge=1, le=65535, description="port the backend listens on")
    backend_url: str | None = Field(
        None, description="the backend's address as Label Studio sees it; by default http://localhost:PORT"
    )
    basic_auth_user: str | None = Field(
        None,
        validation_alias=AliasChoices("basic_auth_user", "BASIC_AUTH_USER"),
        description="together with BASIC_AUTH_PASS: required on every request but health",
    )
    basic_auth_pass: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("basic_auth_pass", "BASIC_AUTH_PASS"),
        description="see BASIC_AUTH_USER",
    )
    webhook_secret: SecretStr | None = Field(None, description="webhooks must send it in X-Rankloop-Secret")
    allow_open: bool = Field(False, description="allow listening beyond this machine without BASIC_AUTH_USER and _PASS")

    log_format: str = Field("text", pattern=r"^(text|json)$", description="log lines for people, or JSON objects")

    mlflow_tracking_uri: str | None = Field(None, description="MLflow server; by default SQLite in the data folder")
    database_url: str | None = Field(None, description="DBOS system database; by default SQLite in the data folder")

    predict_deadline_s: float = Field(60.0, gt=0, le=95, description="time limit; Label Studio gives up after 100 s")
    predict_at_once: int = Field(32, ge=1, le=48, description="concurrent requests to /predict; any more get a 503")
    predict_waiting: int = Field(20_000, ge=1, description="queued questions at which /predict answers 503")
    propose_batch: int = Field(32, ge=1, description="prompts answered in one batch")
    temperature: float = Field(1.0, gt=0, description="sampling temperature for proposals")
    top_k: int = Field(50, ge=0, description="top-k sampling for proposals; 0 turns it off")
    top_p: float = Field(0.95, gt=0, le=1, description="nucleus (top-p) sampling for proposals; 1 is off")
    max_new_tokens: int = Field(64, ge=1, description="maximum length of a proposed answer, in tokens")
    proposal_precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="number format that proposals are computed in; auto is the fastest the CPU has for a GPT-2 at "
        "least 512 wide, otherwise float32",
    )
    champion_poll_s: float = Field(5.0, gt=0, description="how often the server checks for a new champion")

    train_after: int = Field(50, ge=1, description="new judgements that start a training cycle")
    debounce_s: float = Field(10.0, ge=0, description="quiet time after the last judgement before a cycle starts")
    debounce_max_s: float = Field(300.0, ge=0, description="a cycle starts after this even if judgements keep arriving")
    reconcile_cron: str = Field("*/5 * * * *", description="when to check for judgements whose webhook was lost")
    retry_after_s: float = Field(300.0, ge=0, description="pause after a failed cycle; each further failure doubles it")
    retry_max_s: float = Field(21_600.0, ge=0, description="longest pause after failed cycles")
    ground_truth: Literal["vote", "only", "ignore"] = Field(
        "vote", description="annotations marked as ground truth: a vote each, the only ones that count, or left out"
    )
    lines_in_memory: int = Field(4, ge=1, description="lines whose champions the server keeps loaded at once")
    training_config: Path | None = Field(None, description="JSON file of training settings")

    def home(self) -> Path:
        """The data folder as an absolute path, created if missing."""
        path = self.data_dir.expanduser().resolve()
        path.mkdir(parents=True, exist_ok=True)
        return path

    def public_url(self) -> str:
        """The backend's address as Label Studio sees it."""
        return (self.backend_url or f"http://localhost:{self.port}").rstrip("/")

    def tracking_uri(self) -> str:
        """Where MLflow keeps runs and versions."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home() / 'mlflow.db'}"

    def jobs_database_url(self) -> str:
        """Where DBOS keeps jobs."""
        return self.database_url or f"sqlite:///{self.home() / 'dbos.sqlite'}"

    def sampling(self) -> SamplingConfig:
        """How proposals are sampled."""
        return SamplingConfig(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, max_new_tokens=self.max_new_tokens
        )

    def cycle_config(self) -> CycleConfig:
        """Training settings: from the configured file, else from the model folder, else the defaults."""
        if self.training_config is not None:
            return CycleConfig.from_file(self.training_config)
        return CycleConfig.for_model(self.model)


def load_settings(**overrides: object) -> Settings:
    """Read the environment, then apply `overrides` by field name.

    Raises:
        ConfigError: a variable is out of bounds or malformed; names it and its value (unless it is a secret).
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # field names are checked by pydantic itself
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0]) if fault["loc"] else "settings"
        variable = name if name.isupper() else f"RANKLOOP_{name.upper()}"
        secret = any(word in name.lower() for word in ("pass", "key", "secret"))
        raise ConfigError(
            f"{variable} can't be used", got=None if secret else fault["input"], expected=fault["msg"]
        ) from error
