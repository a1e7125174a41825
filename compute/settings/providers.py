"""Settings of providers elsewhere: keys, addresses, models, limits. Names are those of the vendors' own clients."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from compute.settings.rules import checked_base

__all__ = ["AccountLimit", "PriceRule", "ProviderSettings", "VendorKey"]


class AccountLimit(BaseModel):
    """Limits of each account at a vendor, over all replicas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Most calls at a time.")
    per_minute: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Most calls that begin in a minute."
    )


class PriceRule(BaseModel):
    """What one unit costs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendor: str = Field(min_length=1, description="fal, fashn, magnific, gemini, openai, anthropic, ollama or local.")
    endpoint: str = Field(default="*", min_length=1, description="Pattern of host and path, such as `*flux/dev`.")
    model: str = Field(default="*", min_length=1, description="Pattern of the model, such as `gemini-3-*`.")
    per: Literal[
        "call", "image", "megapixel", "1k_input_tokens", "1k_output_tokens", "second", "credit", "gpu_second"
    ] = Field(description="The unit.")
    amount: Decimal = Field(ge=0, max_digits=18, decimal_places=9, description="In the currency of the settings.")


def _sendable(key: SecretStr | None) -> SecretStr | None:
    """A key without what surrounds it in a file; one that is blank is none.

    Raises:
        ValueError: no header can carry it. The message continues the setting's name, and does not repeat the key.
    """
    text = "" if key is None else key.get_secret_value().strip()
    if not text:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must consist of visible ASCII characters, without spaces")
    return SecretStr(text)


VendorKey = Annotated[SecretStr | None, AfterValidator(_sendable)]
"""A key that a vendor gets in a header."""
_LIMITS = {
    # What FASHN and Magnific publish; the others depend on the account.
    "fashn": AccountLimit(concurrency=6, per_minute=50),
    "magnific": AccountLimit(per_minute=50),
}
_FAL_APPS = {
    "draw": "fal-ai/flux/dev",
    "image_to_image": "fal-ai/flux/dev/image-to-image",
    "edit": "fal-ai/nano-banana-pro/edit",
    "inpaint": "fal-ai/flux-pro/v1/fill",
    "refine": "fal-ai/clarity-upscaler",
    "animate": "fal-ai/ltx-video-13b-distilled/image-to-video",
    "remove_background": "fal-ai/birefnet/v2",
    "fix_garment": "fal-ai/nano-banana-pro/edit",
}


class ProviderSettings(BaseSettings):
    """The part of `Settings` that providers read. Without its key a provider refuses tasks and names the setting."""

    fal_key: VendorKey = Field(default=None, validation_alias="FAL_KEY", description="Key of fal.")
    fal_queue_url: str = Field(
        default="https://queue.fal.run", validation_alias="FAL_QUEUE_URL", description="Address of fal's queue."
    )
    fal_run_url: str = Field(
        default="https://fal.run",
        validation_alias="FAL_RUN_URL",
        description="Address of fal's synchronous runs. Accepted, and called by nothing: every run goes through the "
        "queue, because a run whose answer is lost could not be found again.",
    )
    fal_jwks_url: str = Field(
        default="https://rest.fal.ai/.well-known/jwks.json",
        description="Address of the keys that fal signs its webhooks with.",
    )
    fal_apps: dict[str, str] = Field(
        default=_FAL_APPS,
        description="fal's apps for what is wanted of them: draw, image_to_image, edit, inpaint, refine, animate, "
        "remove_background, fix_garment.",
    )

    fashn_api_key: VendorKey = Field(default=None, validation_alias="FASHN_API_KEY", description="Key of FASHN.")
    fashn_base_url: str = Field(
        default="https://api.fashn.ai/v1", validation_alias="FASHN_BASE_URL", description="Address of FASHN."
    )
    fashn_try_on_model: str = Field(default="tryon-max", description="FASHN's model for edits with a garment.")
    fashn_edit_model: str = Field(default="edit", description="FASHN's model for other edits.")

    magnific_api_key: VendorKey = Field(
        default=None,
        validation_alias=AliasChoices("MAGNIFIC_API_KEY", "FREEPIK_API_KEY"),
        description="Key of Magnific, formerly Freepik.",
    )
    magnific_base_url: str = Field(
        default="https://api.magnific.com",
        validation_alias=AliasChoices("MAGNIFIC_BASE_URL", "FREEPIK_BASE_URL"),
        description="Address of Magnific.",
    )
    magnific_key_header: str = Field(
        default="x-magnific-api-key",
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header of the key; x-freepik-api-key for the old address.",
    )

    gemini_api_key: VendorKey = Field(
        default=None,
        validation_alias=AliasChoices("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        description="Key of Google's Gemini API.",
    )
    gemini_base_url: str | None = Field(
        default=None, validation_alias="GOOGLE_GEMINI_BASE_URL", description="Address of Google's Gemini API or Vertex."
    )
    google_vertex: bool = Field(
        default=False,
        validation_alias=AliasChoices("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"),
        description="Use Vertex rather than the Gemini API.",
    )
    google_cloud_project: str | None = Field(
        default=None, validation_alias="GOOGLE_CLOUD_PROJECT", description="Project that Vertex is billed to."
    )
    google_cloud_location: str | None = Field(
        default=None, validation_alias="GOOGLE_CLOUD_LOCATION", description="Location of Vertex."
    )
    google_credentials_file: Path | None = Field(
        default=None,
        validation_alias="GOOGLE_APPLICATION_CREDENTIALS",
        description="File with the credentials that Vertex is used with, such as a service account's key.",
    )
    gemini_image_model: str = Field(default="gemini-3-pro-image", description="Google's model for images.")

    openai_api_key: VendorKey = Field(default=None, validation_alias="OPENAI_API_KEY", description="Key of OpenAI.")
    openai_base_url: str = Field(
        default="https://api.openai.com/v1", validation_alias="OPENAI_BASE_URL", description="Address of OpenAI."
    )
    anthropic_api_key: VendorKey = Field(
        default=None, validation_alias="ANTHROPIC_API_KEY", description="Key of Anthropic."
    )
    anthropic_base_url: str = Field(
        default="https://api.anthropic.com", validation_alias="ANTHROPIC_BASE_URL", description="Address of Anthropic."
    )
    ollama_host: str = Field(
        default="http://127.0.0.1:11434", validation_alias="OLLAMA_HOST", description="Address of Ollama."
    )
    chat_models: dict[str, str] = Field(
        default={
            "openai": "gpt-5.4-mini",
            "anthropic": "claude-haiku-4-5",
            "gemini": "gemini-3.8-flash",
            "ollama": "llama3.2-vision",
        },
        description="Language models that requests without `model` get, by vendor.",
    )
    vision_provider: Literal["openai", "anthropic", "gemini", "ollama"] | None = Field(
        default=None,
        description="Vendor whose language model evaluates images and writes captions; by default the first that has "
        "a key.",
    )
    evaluation_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest evaluation of an image, its download included."
    )
    evaluation_concurrency: int = Field(
        default=16, ge=1, description="Evaluations of one ingress at a time; as many more may wait."
    )
    image_editor: str = Field(
        default="VERTEX",
        description="Provider that edits tiles and faces for SARTIQ_ULTIMATE_*: VERTEX, FAL_STANDARD, FASHN_STANDARD, "
        "or LOCAL for the pool of the queue inference.",
    )

    provider_limits: dict[str, AccountLimit] = Field(
        default=_LIMITS,
        description="Limits by vendor: fal, fashn, magnific, gemini, openai, anthropic and ollama.",
    )
    prices: list[PriceRule] = Field(
        default=[], description="What is paid for; of several prices for one unit the first that fits counts."
    )
    currency: str = Field(
        default="USD", pattern=r"^[A-Z]{3}$", description="Currency of all prices and amounts, as ISO 4217 calls it."
    )
    provider_jobs: int = Field(
        default=500, ge=1, description="Tasks at providers elsewhere that one queue holds at a time."
    )
    provider_refiner_jobs: int = Field(
        default=4,
        ge=1,
        description="The same for SARTIQ_ULTIMATE_*, whose tasks hold whole images in memory and compute on them.",
    )
    provider_wait_seconds: float = Field(
        default=1800.0, gt=0, description="Longest a vendor's queue may take for one call."
    )
    provider_budget_seconds: float = Field(
        default=7200.0, gt=0, description="Longest that all calls of one task may take, fallbacks included."
    )
    provider_uncertain_seconds: float = Field(
        default=900.0, gt=0, description="Longest a task waits for news of a call whose outcome is unknown."
    )
    provider_result_max_bytes: int = Field(
        default=128 * 2**20, ge=1024, description="Largest file that a provider may return."
    )

    @field_validator(
        "fal_queue_url",
        "fal_run_url",
        "fal_jwks_url",
        "fashn_base_url",
        "magnific_base_url",
        "gemini_base_url",
        "openai_base_url",
        "anthropic_base_url",
    )
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        return value if value is None else checked_base(value)
