"""The model part of serve_config.yaml, typed. Nothing here imports torch."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from compute.errors import InvalidInput, NotFound
from compute.pipelines.families import families, get_family

__all__ = ["ModelConfig", "check_size", "resolve_model", "size_multiple"]


class ModelConfig(BaseModel):
    """How one replica loads and runs its model. An unknown key is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field(
        default="tiny-flux",
        min_length=1,
        description="Hugging Face repository, local folder, or a name under the models root; "
        "`tiny-flux` is a random-weight model that is built on first use.",
    )
    family: str = Field(default="flux", description="The architecture; see compute/pipelines/families.")
    revision: str | None = Field(default=None, description="Branch, tag or commit of a Hugging Face repository.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: bfloat16 where the device computes in it, float32 on a CPU."
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    attention: Literal["native", "xformers", "flash"] = Field(
        default="native", description="xformers and flash need their package and a CUDA device."
    )
    compile: bool = Field(default=False, description="torch.compile the transformer's repeated blocks.")
    offload: Literal["none", "model", "sequential"] = Field(
        default="none", description="Keep weights in main memory while unused; needs a CUDA device."
    )
    lora_cache: int = Field(default=8, ge=0, description="LoRAs that stay loaded on the replica between requests.")
    prompt_cache: int = Field(default=32, ge=1, description="Encoded prompts kept on the replica.")
    max_sequence_length: int = Field(
        default=512, ge=16, le=512, description="Tokens of the long prompt; 256 for FLUX.1-schnell."
    )

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str) -> str:
        if value not in families():
            raise ValueError(f"unknown family {value!r}; known: {', '.join(families())}")
        return value


def size_multiple(family: str = "flux") -> int:
    """Pixels that width and height must be multiples of."""
    return get_family(family).size_multiple


def check_size(width: int, height: int, *, family: str = "flux") -> None:
    """Refuse a size in pixels that the model cannot draw exactly.

    Raises:
        InvalidInput: `width` or `height` is not a positive multiple of the family's grid.
    """
    multiple = size_multiple(family)
    for field, value in (("width", width), ("height", height)):
        if value < multiple or value % multiple:
            raise InvalidInput(f"{field} must be a positive multiple of {multiple}, not {value}", field=field)


def resolve_model(config: ModelConfig, models_root: Path) -> str | Path:
    """Where the model is: a local folder, or a Hugging Face repository id.

    A family's tiny model is built under `models_root` when it is named and not there yet.

    Raises:
        NotFound: neither a folder nor a repository id.
    """
    from compute.pipelines.tiny import ensure_tiny

    for folder in (models_root / config.model, Path(config.model)):
        if (folder / "model_index.json").is_file():
            return folder
    for family in families().values():
        if config.model == family.tiny_name:
            return ensure_tiny(family, models_root)
    if config.model.count("/") == 1 and not config.model.startswith((".", "/", "~")):
        return config.model
    raise NotFound(f"No model {config.model!r}: not a folder, not under {models_root}, not a repository id")
