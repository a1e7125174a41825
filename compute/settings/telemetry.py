"""Settings of what a process tells about its work: log lines and traces."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from compute.settings.rules import checked_base

__all__ = ["TelemetrySettings"]


class TelemetrySettings(BaseSettings):
    """The part of `Settings` that `compute.telemetry` reads."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines as text for people, or as one JSON object a line."
    )
    otel_endpoint: str | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Base URL of an OTLP receiver (HTTP, protobuf), which gets traces. Without it nothing is traced.",
    )
    otel_headers: SecretStr | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_HEADERS",
        description="Headers of requests to that receiver, such as `api-key=…`, with commas between them.",
    )

    @field_validator("otel_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        # A variable that is set to nothing counts as unset, as OpenTelemetry says.
        return checked_base(value) if value else None
