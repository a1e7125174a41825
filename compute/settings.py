"""Everything an operator can set from the environment, in one place.

Names start with `COMPUTE_`, except those that the outside world already knows: API_KEY, ADMIN_API_KEY,
DATABASE_URL and S3_*. AWS credentials are read by boto3 itself. What belongs to one deployment (models,
replicas, devices) lives in serve_config.yaml instead.
"""

import secrets
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from compute.secret_file import kept_secret

__all__ = ["Settings", "TrainableModel", "get_settings", "with_api_key"]


class TrainableModel(BaseModel):
    """A base model that trainings may start from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        min_length=1, description="A folder, a name under the folder of models, or a Hugging Face repository."
    )
    family: Literal["flux", "sdxl"] = "flux"
    resolution: int = Field(
        default=512, ge=32, le=2048, description="Side in pixels of the square it is trained at unless asked otherwise."
    )
    revision: str | None = Field(default=None, description="Of a Hugging Face repository.")


_DEMO = TrainableModel(model="demo-flux", resolution=128)
_TRAINING_MODELS = {
    # On a fresh installation every name leads to the model that comes with it; an operator sets the real ones.
    "default": _DEMO,
    "sd-xl-base": _DEMO,
    "black-forest-labs/FLUX.1-dev": _DEMO,
    "tiny-flux": TrainableModel(model="tiny-flux", resolution=64),
    "tiny-sdxl": TrainableModel(model="tiny-sdxl", family="sdxl", resolution=64),
}


class Settings(BaseSettings):
    """Settings of one process; immutable once read."""

    model_config = SettingsConfigDict(env_prefix="COMPUTE_", frozen=True, populate_by_name=True, extra="forbid")

    home: Path = Field(
        default=Path(".compute"),
        description="The folder of everything that lasts: database, files, models, keys.",
    )
    api_key: SecretStr | None = Field(default=None, validation_alias="API_KEY")
    admin_api_key: SecretStr | None = Field(default=None, validation_alias="ADMIN_API_KEY")
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")

    storage: Literal["local", "s3"] = "local"
    s3_bucket: str | None = Field(default=None, validation_alias="S3_BUCKET")
    s3_endpoint_url: str | None = Field(default=None, validation_alias="S3_ENDPOINT_URL")
    s3_public_url: str | None = Field(
        default=None,
        validation_alias="S3_PUBLIC_URL",
        description="A CDN in front of the bucket, if there is one.",
    )
    s3_prefix: str = Field(default="", validation_alias="S3_PREFIX", description="Put before every key.")
    public_url: str | None = Field(
        default=None, description="Base of the links in answers; the request's own host when unset."
    )
    link_ttl_seconds: int = Field(default=24 * 3600, ge=60, description="How long a signed result link works.")

    media_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts that may be fetched from, or called back, though their address is private.",
    )
    media_max_bytes: int = Field(default=32 * 2**20, ge=1, description="Largest image a user may send or name.")
    media_max_pixels: int = Field(default=8192 * 8192, ge=1, description="Largest image by decoded size.")
    media_timeout_seconds: float = Field(default=15.0, gt=0, description="For one whole download, redirects included.")
    metadata_policy: Literal["strip", "keep-rights"] = Field(
        default="strip",
        description="What of an image's metadata is stored: nothing, or its author and owner (EXIF Artist, Copyright).",
    )
    body_max_bytes: int = Field(default=48 * 2**20, ge=1024, description="Largest request body.")
    lora_max_bytes: int = Field(default=500 * 2**20, ge=1024, description="Largest LoRA file that may be uploaded.")
    lora_convert_seconds: float = Field(
        default=120.0, gt=0, description="Longest a checkpoint may take to become safetensors."
    )
    bulk_max_tasks: int = Field(default=1000, ge=1, description="Tasks that one bulk request may bring.")

    lease_seconds: float = Field(default=15.0, gt=0.5, description="A claim that is not renewed this long is lost.")
    max_retries: int = Field(default=3, ge=0, description="Runs after the first, for failures that may pass.")
    retry_backoff_seconds: float = Field(default=2.0, ge=0, description="Delay of the first retry; it doubles.")
    task_timeout_seconds: float = Field(default=3600.0, gt=0, description="Longest one run of a task may take.")
    webhook_secret: SecretStr | None = Field(default=None, description="Standard Webhooks secret (whsec_…).")
    webhook_max_attempts: int = Field(default=10, ge=1)
    webhook_timeout_seconds: float = Field(default=15.0, gt=0)

    training_models: dict[str, TrainableModel] = Field(
        default=_TRAINING_MODELS,
        description="What trainings may start from, by the names that requests use; `default` is one of them.",
    )
    training_archive_max_bytes: int = Field(default=2 * 2**30, ge=1024, description="Largest zip file of pictures.")
    training_log_bytes: int = Field(default=64 * 1024, ge=1024, description="How much of a training's log is kept.")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

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


def with_api_key(settings: Settings) -> Settings:
    """The settings with an API key: API_KEY, or else the one kept in `home`/api_key, made on first use.

    Raises:
        OSError: the file can be neither read nor made.
    """
    if settings.api_key is not None:
        return settings
    key = kept_secret(settings.home / "api_key", lambda: f"sk-{secrets.token_urlsafe(24)}")
    return settings.model_copy(update={"api_key": SecretStr(key)})


@lru_cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
