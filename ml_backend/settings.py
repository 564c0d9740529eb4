"""The only reader of the environment. A setting is the variable `RANKLOOP_` plus its name in capitals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, BaseModel, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from training.config import CycleConfig, SamplingConfig
from training.errors import ConfigError

Selection = Literal["random", "gap", "uncertain", "mixed"]  # as drawn, scored far apart, close together, half and half
DEMO_MODEL = Path(__file__).parent / "demo" / "data" / "model"


class Settings(BaseSettings):
    """Where things are and how the backend behaves. Immutable; created once at startup and passed down."""

    model_config = SettingsConfigDict(env_prefix="RANKLOOP_", frozen=True, extra="ignore", populate_by_name=True)

    data_dir: Path = Field(Path("~/.rankloop"), description="folder for jobs, versions and training runs")
    model: str = Field(
        str(DEMO_MODEL), description="base model: a local folder, a .gguf file, or a hub name such as gpt2"
    )
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
    label_studio_page_url: str | None = Field(
        None, description="Label Studio's address as browsers see it, for links; by default LABEL_STUDIO_URL"
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
    mlflow_page_url: str | None = Field(
        None, description="MLflow's address as browsers see it, for links; by default RANKLOOP_MLFLOW_TRACKING_URI"
    )
    database_url: str | None = Field(None, description="DBOS system database; by default SQLite in the data folder")

    predict_deadline_s: float = Field(60.0, gt=0, le=95, description="time limit; Label Studio gives up after 100 s")
    predict_at_once: int = Field(32, ge=1, le=48, description="concurrent requests to /predict; any more get a 503")
    predict_waiting: int = Field(20_000, ge=1, description="queued questions at which /predict answers 503")
    propose_batch: int = Field(32, ge=1, description="prompts answered in one batch")
    temperature: float | None = Field(None, gt=0, description="sampling temperature; by default the version's own")
    top_k: int | None = Field(None, ge=0, description="top-k sampling; 0 turns it off; by default the version's own")
    top_p: float | None = Field(
        None, gt=0, le=1, description="nucleus (top-p) sampling; 1 turns it off; by default the version's own"
    )
    max_new_tokens: int | None = Field(None, ge=1, description="longest answer in tokens; by default the version's own")
    system_prompt: str | None = Field(None, description="what a chat model is told first; by default the model's own")
    proposal_precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="number format that proposals are computed in; auto is bfloat16 where the hardware has it and the "
        "model is at least 512 wide, otherwise float32; int8 rounds weights only",
    )
    selection: Selection = Field("random", description="which two of the candidates people compare")
    candidates: int = Field(4, ge=3, le=32, description="answers drawn to choose a pair from, unless it is random")
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

    # Trust and size: secrets that are being replaced, the databases' password, the look-ahead of proposals.
    basic_auth_pass_previous: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("basic_auth_pass_previous", "BASIC_AUTH_PASS_PREVIOUS"),
        description="the password before BASIC_AUTH_PASS, accepted as well while it is being replaced",
    )
    webhook_secret_previous: SecretStr | None = Field(
        None, description="the secret before RANKLOOP_WEBHOOK_SECRET, accepted as well while it is being replaced"
    )
    database_password: SecretStr | None = Field(
        None, description="password for RANKLOOP_DATABASE_URL and RANKLOOP_MLFLOW_TRACKING_URI where they have none"
    )
    propose_ahead: int = Field(
        300, ge=1, le=100_000, description="open tasks of a project that are kept proposed for; others when opened"
    )

    # Who promotes, rounds, and what is kept of what is over.
    promotion: Literal["automatic", "people"] = Field("automatic", description="who promotes what passed its gates")
    contest_share: float = Field(0.5, gt=0, le=1, description="share of new pairs that set challenger against champion")
    contest_pairs: int = Field(300, ge=10, description="pairs after which an undecided challenger is rejected")
    rounds: int = Field(1, ge=1, le=100, description="rounds in which a prompt gets a fresh pair from a newer version")
    tries: int = Field(3, ge=1, le=100, description="pairs a prompt gets per round at most, while both answers are bad")
    top_up: int = Field(0, ge=0, le=1000, description="tasks with fresh answers that always wait; 0 adds none")
    repeats: float = Field(0.0, ge=0, le=0.5, description="share of judged pairs shown once more; 0 shows none")
    keep_versions: int = Field(10, ge=0, description="newest versions of a line whose weights are kept; 0 keeps all")
    keep_cycles: int = Field(20, ge=0, description="newest training cycles whose folders are kept; 0 keeps all")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # unused: nothing else is read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the files that the environment names."""
        return init_settings, env_settings, _SecretFiles(settings_cls)

    def home(self) -> Path:
        """The data folder as an absolute path, created if missing."""
        path = self.data_dir.expanduser().resolve()
        path.mkdir(parents=True, exist_ok=True)
        return path

    def public_url(self) -> str:
        """The backend's address as Label Studio sees it."""
        return (self.backend_url or f"http://localhost:{self.port}").rstrip("/")

    def page_url(self) -> str:
        """The address of the page, for a browser on this machine."""
        host = self.host.strip("[]")
        name = "localhost" if host in ("0.0.0.0", "::", "127.0.0.1", "::1") else host  # noqa: S104  # read, not bound
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"

    def label_studio_pages(self) -> str:
        """Label Studio's address as browsers see it."""
        return (self.label_studio_page_url or self.label_studio_url).rstrip("/")

    def mlflow_pages(self) -> str | None:
        """MLflow's address as browsers see it; None if it is only files. Never with a password."""
        url = self.mlflow_page_url or self.mlflow_tracking_uri or ""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return None
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")

    def tracking_uri(self) -> str:
        """Where MLflow keeps runs and versions."""
        return self._with_password(self.mlflow_tracking_uri) or f"sqlite:///{self.home() / 'mlflow.db'}"

    def jobs_database_url(self) -> str:
        """Where DBOS keeps jobs."""
        return self._with_password(self.database_url) or f"sqlite:///{self.home() / 'dbos.sqlite'}"

    def sampling(self, own: SamplingConfig) -> SamplingConfig:
        """How a version's answers are sampled: as it was trained, but for what the environment sets."""
        return own.changed(**self._sampling_set())

    def cycle_config(self) -> CycleConfig:
        """Training settings: from the configured file, else from the model folder, else the defaults.

        The environment's sampling and system prompt replace a model folder's.

        Raises:
            ConfigError: the configured file says otherwise than the environment, or PPO can't learn from answers
                sampled like that.
        """
        file = self.training_config
        config = CycleConfig.from_file(file) if file is not None else CycleConfig.in_folder(self.model)
        if file is not None:
            for name, value in self._sampling_set().items():
                _refuse_contradiction(name, value, config.sampling, f"sampling.{name} in {file}")
            _refuse_contradiction("system_prompt", self.system_prompt, config.text, f"text.system_prompt in {file}")
        if self.system_prompt is not None:
            text = config.text.model_copy(update={"system_prompt": self.system_prompt})
            config = config.model_copy(update={"text": text})
        config = config.sampled(self.sampling(config.sampling)).suited_to(self.model)
        if config.sampling.top_k or config.sampling.top_p < 1:
            raise ConfigError(
                "answers for people and in PPO are sampled alike, and PPO has to sample from the full distribution",
                got=f"top_k = {config.sampling.top_k}, top_p = {config.sampling.top_p}",
                expected="top_k = 0 and top_p = 1",
                remedy="Unset RANKLOOP_TOP_K and RANKLOOP_TOP_P (and sampling.top_k and top_p in a file), and lower "
                "RANKLOOP_TEMPERATURE instead.",
            )
        return config

    def _with_password(self, url: str | None) -> str | None:
        """A PostgreSQL URL with the databases' password, whatever characters that has; any other URL as it is."""
        if not url or self.database_password is None or not url.startswith("postgresql"):
            return url
        parts = urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        if not at or ":" in user:
            return url
        password = quote(self.database_password.get_secret_value(), safe="")
        return parts._replace(netloc=f"{user}:{password}@{host}").geturl()

    def _sampling_set(self) -> dict[str, float]:
        names = ("temperature", "top_k", "top_p", "max_new_tokens")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def _refuse_contradiction(name: str, value: object, part: BaseModel, where: str) -> None:
    """Refuse a setting of the environment that a file states otherwise."""
    if value is not None and name in part.model_fields_set and getattr(part, name) != value:
        raise ConfigError(
            f"RANKLOOP_{name.upper()} contradicts the training settings",
            got=value,
            expected=f"{getattr(part, name)!r}, as {where}",
            remedy="Remove one of the two.",
        )


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets from files, as containers get them: `BASIC_AUTH_PASS_FILE` names the file with BASIC_AUTH_PASS."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the file that a secret's variable names, without the line break at its end."""
        if not is_secret(field):
            return None, field_name, False
        variable = variable_of(field_name, field)
        name = os.environ.get(f"{variable}_FILE")
        if not name:
            return None, field_name, False
        if os.environ.get(variable):
            raise ConfigError(f"{variable} and {variable}_FILE are both set", expected="one of them")
        try:
            content = Path(name).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8 text"
            raise ConfigError(f"the file that {variable}_FILE names can't be read", got=f"{name}: {reason}") from error
        secret = content.removesuffix("\n").removesuffix("\r")
        if not secret:
            raise ConfigError(f"the file that {variable}_FILE names is empty", got=name, expected="the secret")
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        """All secrets that files hold, by field name."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting is a secret, which a file may hold as well."""
    return SecretStr in get_args(field.annotation)


def variable_of(name: str, field: FieldInfo) -> str:
    """The environment variable of a setting; the first one where it has several."""
    if isinstance(field.validation_alias, AliasChoices):
        return str(next(choice for choice in field.validation_alias.choices if str(choice).isupper()))
    return f"RANKLOOP_{name.upper()}"


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
