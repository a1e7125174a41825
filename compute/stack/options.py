"""The supervisor's own settings, and one-line messages for invalid settings."""

from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from compute.settings import SECRETS_VARIABLE, Settings
from compute.stack.errors import StackError

__all__ = ["StackOptions", "load_options", "load_settings"]

AnySettings = TypeVar("AnySettings", bound=BaseSettings)


class StackOptions(BaseSettings):
    """Settings of `compute up` alone."""

    model_config = SettingsConfigDict(env_prefix="COMPUTE_", frozen=True, extra="ignore")

    http_host: str | None = Field(default=None, min_length=1, description="Overrides serve_config.yaml's host.")
    http_port: int | None = Field(default=None, ge=1, le=65535, description="Overrides serve_config.yaml's port.")
    dashboard_port: int = Field(default=8265, ge=1, le=65535, description="Where the Ray dashboard listens.")
    ready_timeout_seconds: float = Field(
        default=1800.0, gt=0, description="How long to wait for the models before giving up."
    )


def load_settings() -> Settings:
    """Read the system's settings from the environment.

    Raises:
        StackError: one of them is wrong.
    """
    return _load(Settings)


def load_options() -> StackOptions:
    """Read the supervisor's settings from the environment.

    Raises:
        StackError: one of them is wrong.
    """
    return _load(StackOptions)


def _load(model: type[AnySettings]) -> AnySettings:
    try:
        return model()
    except ValidationError as error:
        # The value itself is never shown: it may be a secret in the wrong place.
        raise StackError(f"bad setting: {'; '.join(_fault(model, fault) for fault in error.errors())}") from None
    except UnicodeDecodeError:
        raise StackError(f"bad setting: a file in the folder that {SECRETS_VARIABLE} names is not text") from None
    except SettingsError as error:
        raise StackError(f"bad setting: {error}") from error


def _fault(model: type[BaseSettings], fault: ErrorDetails) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    # A fault of several settings names them itself.
    return f"{_variable(model, fault['loc'])}: {message}" if fault["loc"] else message


def _variable(model: type[BaseSettings], location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return f"COMPUTE_{name.upper()}" if name in model.model_fields else name.upper()
