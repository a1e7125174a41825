"""All settings that an operator can set in the environment.

Names start with `COMPUTE_`, except well-known ones: API_KEY, ADMIN_API_KEY, those of providers,
DATABASE_URL and S3_*. AWS credentials are read by boto3 itself. Settings of one deployment (models,
replicas, devices) are in serve_config.yaml instead.
"""

import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from compute.secrets.file import stored_secret
from compute.secrets.rules import checked_key, checked_link_secret, checked_webhook_secret, valid_at_once
from compute.settings.providers import ProviderSettings
from compute.settings.rules import checked_base, checked_origin, misspelt
from compute.settings.telemetry import TelemetrySettings

__all__ = [
    "SECRETS_VARIABLE",
    "Settings",
    "TrainableModel",
    "get_settings",
    "ingress_settings",
    "setting_variables",
    "variables_of",
    "with_api_keys",
]

SECRETS_VARIABLE = "COMPUTE_SECRETS"
"""Names a folder with a file for each variable that should not be in the environment."""


class TrainableModel(BaseModel):
    """A base model that trainings may start from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        min_length=1, description="A folder, a name under the folder of models, or a Hugging Face repository."
    )
    family: Literal["flux", "sdxl"] = "flux"
    resolution: int = Field(
        default=512,
        ge=32,
        le=2048,
        description="Default training resolution: side in pixels of a square of an image's area.",
    )
    revision: str | None = Field(default=None, description="Revision of a Hugging Face repository.")


_DEMO = TrainableModel(model="demo-flux", resolution=128)
_TRAINING_MODELS = {
    # On a fresh installation every name refers to the built-in demo model; an operator sets the real ones.
    "default": _DEMO,
    "sd-xl-base": _DEMO,
    "black-forest-labs/FLUX.1-dev": _DEMO,
    "tiny-flux": TrainableModel(model="tiny-flux", resolution=64),
    "tiny-sdxl": TrainableModel(model="tiny-sdxl", family="sdxl", resolution=64),
}


class Settings(ProviderSettings, TelemetrySettings):
    """Settings of one process; immutable once read."""

    model_config = SettingsConfigDict(
        env_prefix="COMPUTE_", frozen=True, populate_by_name=True, extra="forbid", hide_input_in_errors=True
    )

    home: Path = Field(
        default=Path(".compute"),
        description="The folder of persistent data: database, files, models, keys.",
    )
    secrets: Path | None = Field(
        default=None, description="A folder with a file for each variable that should not be in the environment."
    )
    api_key: SecretStr | None = Field(default=None, validation_alias="API_KEY")
    admin_api_key: SecretStr | None = Field(default=None, validation_alias="ADMIN_API_KEY")
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    database_pooled: bool = Field(
        default=False, description="DATABASE_URL is that of a PgBouncer that pools by transaction."
    )
    database_direct_url: str | None = Field(
        default=None, description="URL of the server behind that PgBouncer, for migrations and for LISTEN/NOTIFY."
    )

    storage: Literal["local", "s3"] = "local"
    s3_bucket: str | None = Field(default=None, validation_alias="S3_BUCKET")
    s3_endpoint_url: str | None = Field(default=None, validation_alias="S3_ENDPOINT_URL")
    s3_public_url: str | None = Field(
        default=None,
        validation_alias="S3_PUBLIC_URL",
        description="URL of a CDN in front of the bucket, if there is one.",
    )
    s3_prefix: str = Field(default="", validation_alias="S3_PREFIX", description="Prefix of every key.")
    public_url: str | None = Field(
        default=None, description="Base of the links in answers; the request's own host when unset."
    )
    link_secret: SecretStr | None = Field(
        default=None, description="Secret that signs links to results; or two, of which the second is still accepted."
    )
    local_url: str = Field(
        default="http://127.0.0.1:8000",
        description="URL of the API on this machine: base of links outside a request, or of one without a host. Its "
        "scheme is used for all links that are not public.",
    )
    ray_dashboard_url: str | None = Field(
        default=None,
        description="Address of Ray's dashboard as people reach it, for the links to it in answers; `compute up` sets "
        "its own.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins whose pages may call the API from a browser; `*` for all."
    )
    link_ttl_seconds: int = Field(default=24 * 3600, ge=60, description="Lifetime of a signed link to a result.")

    media_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts with private addresses that may be fetched from or called back.",
    )
    media_max_bytes: int = Field(default=32 * 2**20, ge=1, description="Largest image that a user may send or name.")
    media_max_pixels: int = Field(default=8192 * 8192, ge=1, description="Largest image by decoded size.")
    media_decode_bytes: int = Field(
        default=2 * 2**30, ge=2**20, description="Memory for images that one process decodes at a time, in bytes."
    )
    media_timeout_seconds: float = Field(
        default=15.0, gt=0, description="Timeout of one whole download, redirects included."
    )
    metadata_policy: Literal["strip", "keep-rights"] = Field(
        default="strip",
        description="Metadata of images that is stored: none, or the author and owner (EXIF Artist, Copyright).",
    )
    body_max_bytes: int = Field(default=48 * 2**20, ge=1024, description="Largest request body.")
    body_memory_bytes: int = Field(
        default=512 * 2**20, ge=1024, description="Memory for the bodies that one ingress reads at a time."
    )
    lora_max_bytes: int = Field(default=500 * 2**20, ge=1024, description="Largest LoRA file that may be uploaded.")
    lora_convert_seconds: float = Field(
        default=120.0, gt=0, description="Longest conversion of a checkpoint to safetensors."
    )
    lora_uploads_bytes: int = Field(
        default=4 * 2**30,
        ge=2048,
        description="Disk space for LoRAs that one ingress receives at a time; each counts twice its size.",
    )
    lora_conversions_waiting: int = Field(
        default=4, ge=0, description="Checkpoints that may wait while another one is converted to safetensors."
    )
    bulk_max_tasks: int = Field(default=1000, ge=1, description="Most tasks of one bulk request.")

    lease_seconds: float = Field(default=15.0, gt=0.5, description="A claim that is not renewed for so long is lost.")
    max_retries: int = Field(default=3, ge=0, description="Retries after transient failures.")
    retry_backoff_seconds: float = Field(
        default=2.0, ge=0, description="Delay of the first retry; it doubles with each one."
    )
    task_timeout_seconds: float = Field(default=3600.0, gt=0, description="Longest run of a task.")
    queued_timeout_seconds: float = Field(
        default=600.0, gt=0, description="Longest a claimed task may wait for its turn before it is handed back."
    )
    stall_seconds: float = Field(
        default=600.0, gt=0, description="A thread of a replica without a step for so long counts as hanging."
    )
    retention_days: float | None = Field(
        default=None,
        gt=0,
        le=36500,
        description="Days after its end for which anything is kept, with its files; for ever when unset.",
    )
    audit_days: float = Field(
        default=365.0, gt=0, le=36500, description="Days for which entries of the audit log are kept."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="Standard Webhooks secret (whsec_…); or two, for receivers that know either."
    )
    webhook_max_attempts: int = Field(default=10, ge=1)
    webhook_max_age_seconds: float = Field(
        default=36 * 3600.0, gt=0, description="A webhook older than this is given up."
    )
    webhook_timeout_seconds: float = Field(default=15.0, gt=0)
    webhook_concurrency: int = Field(default=256, ge=1, description="Most webhooks that one sender has in flight.")
    webhook_receiver_concurrency: int = Field(
        default=32, ge=1, description="Most webhooks that one sender has in flight to one receiver."
    )

    training_models: dict[str, TrainableModel] = Field(
        default=_TRAINING_MODELS,
        description="Base models of trainings, by the names that requests use; `default` must be one of them.",
    )
    training_archive_max_bytes: int = Field(default=2 * 2**30, ge=1024, description="Largest zip file of images.")
    training_log_bytes: int = Field(
        default=64 * 1024, ge=1024, description="Size of the end of a training's log that is kept."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then the files of COMPUTE_SECRETS."""
        folder = os.environ.get(SECRETS_VARIABLE, "")
        # A missing folder is refused below, by name.
        files = (SecretsSettingsSource(settings_cls, folder),) if Path(folder or os.devnull).is_dir() else ()
        return (init_settings, env_settings, *files)

    @field_validator("secrets")
    @classmethod
    def _there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("there is no such folder")
        if value is not None:
            files = [file.name for file in value.iterdir() if file.is_file()]
            given = {name.upper() for name in (*files, *os.environ)}
            if (found := misspelt(files, setting_variables(), given)) is not None:
                raise ValueError(f"it holds {found[0]}, which is no setting; {found[1]} is one")
        return value

    @field_validator("api_key", "admin_api_key")
    @classmethod
    def _strong_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            checked_key(value.get_secret_value())
        return value

    @field_validator("link_secret")
    @classmethod
    def _strong_link_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            valid_at_once(value.get_secret_value(), checked_link_secret)
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _standard_webhook_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            valid_at_once(value.get_secret_value(), checked_webhook_secret)
        return value

    @model_validator(mode="after")
    def _two_keys(self) -> "Settings":
        if self.admin_api_key is not None and self.admin_api_key == self.api_key:
            raise ValueError("ADMIN_API_KEY: must differ from API_KEY, or every client is an administrator")
        return self

    @model_validator(mode="after")
    def _room_for_a_body(self) -> "Settings":
        if self.body_memory_bytes < self.body_max_bytes:
            raise ValueError(
                f"COMPUTE_BODY_MEMORY_BYTES: must be at least COMPUTE_BODY_MAX_BYTES ({self.body_max_bytes}), or a "
                "body of the largest size never finds room"
            )
        return self

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("media_allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(host.strip().lower() for host in value.split(",") if host.strip())
        return value

    @field_validator("public_url", "local_url", "ray_dashboard_url", "s3_public_url", "s3_endpoint_url")
    @classmethod
    def _check_base(cls, value: str | None) -> str | None:
        return value if value is None else checked_base(value)

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin if origin == "*" else checked_origin(origin) for origin in value)

    @field_validator("training_models")
    @classmethod
    def _with_default(cls, value: dict[str, TrainableModel]) -> dict[str, TrainableModel]:
        if "default" not in value:
            raise ValueError("one of the models is named `default`")
        return value

    @property
    def storage_root(self) -> Path:
        return self.home / "storage"

    @property
    def models_root(self) -> Path:
        return self.home / "models"

    @property
    def cache_root(self) -> Path:
        return self.home / "cache"


def with_api_keys(settings: Settings, *, make_admin: bool = False) -> Settings:
    """Return the settings with the keys that are stored in `home` where none were given.

    `home`/api_key is generated on first use; `home`/admin_api_key only if `make_admin` is set, for a server whose
    operator never names an administrator may do without.

    Raises:
        OSError: a file can be neither read nor made.
        ValueError: a file's content is not a valid key.
    """
    plain, admin = settings.home / "api_key", settings.home / "admin_api_key"
    stored: dict[str, SecretStr] = {}
    if settings.api_key is None:
        stored["api_key"] = _stored_key(plain)
    if settings.admin_api_key is None and (make_admin or admin.is_file()):
        stored["admin_api_key"] = _stored_key(admin)
    found = settings.model_copy(update=stored)
    if found.admin_api_key == found.api_key:
        raise ValueError("ADMIN_API_KEY: must differ from the API key, or every client is an administrator")
    return found


def _stored_key(file: Path) -> SecretStr:
    key = stored_secret(file, lambda: f"sk-{secrets.token_urlsafe(24)}")
    try:
        checked_key(key)
    except ValueError as error:
        raise ValueError(f"{file} {error}") from None
    return SecretStr(key)


def setting_variables() -> tuple[str, ...]:
    """Return the names of the environment variables that are settings; some settings have two."""
    return tuple(
        variable.upper()
        for name, field in Settings.model_fields.items()
        for variable in variables_of(field.validation_alias, f"COMPUTE_{name}")
    )


def variables_of(alias: str | AliasPath | AliasChoices | None, name: str) -> list[str]:
    """The variables that a setting with this alias is read from; `name` without one."""
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [str(alias or name)]


@lru_cache
def get_settings() -> Settings:
    """Return the settings of this process, read once, without the API keys: only the ingress may have those."""
    return Settings().model_copy(update={"api_key": None, "admin_api_key": None})


def ingress_settings() -> Settings:
    """Return the settings of a process that authenticates clients, with the API keys.

    Raises:
        OSError: `home`/api_key can be neither read nor made, or `home`/admin_api_key cannot be read.
        ValueError: their content is not a valid key.
    """
    return with_api_keys(Settings())
