"""The typed model section of serve_config.yaml. Does not import torch."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from compute.errors import InvalidInput, NotFound
from compute.pipelines.families import families, get_family
from compute.pipelines.native import NativeSize, OwnSizes
from compute.pipelines.own_models import ensure_current

__all__ = ["Attention", "Compile", "ModelConfig", "StepCacheLevel", "check_size", "resolve_model", "size_multiple"]

Attention = Literal["native", "cudnn", "flash", "flash_3", "sage", "xformers"]
Compile = Literal["off", "default", "max-autotune-no-cudagraphs", "reduce-overhead"]
StepCacheLevel = Literal["off", "light", "balanced", "strong"]


def _written_as_off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


def _written_as_switch(value: object) -> object:
    return "default" if value is True else _written_as_off(value)


class ModelConfig(BaseModel):
    """The settings of one replica's model. An unknown key is refused by name.

    Example:
        ModelConfig(model="black-forest-labs/FLUX.1-dev", dtype="bfloat16", compile="default")
    """

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
        default="auto", description="auto: bfloat16 if the device computes in it, float32 on a CPU."
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    attention: Attention = Field(
        default="native", description="Attention kernels; all but native need a CUDA device, most a package."
    )
    compile: Annotated[Compile, BeforeValidator(_written_as_switch)] = Field(
        default="off", description="torch.compile the transformer's repeated blocks, in this mode."
    )
    compile_cache: Path | None = Field(
        default=None,
        description="Folder of compiled code that outlives the replica; COMPUTE_HOME/cache/compile if unset.",
    )
    quantization: Literal["none", "fp8"] = Field(
        default="none", description="fp8: the transformer's large products in 8 bits; compute capability 8.9 or newer."
    )
    step_cache: Annotated[StepCacheLevel, BeforeValidator(_written_as_off)] = Field(
        default="off", description="Reuse of earlier denoising steps: faster, and less exact."
    )
    vae_tile: int | None = Field(
        default=None, ge=256, multiple_of=16, description="Pixels; the VAE processes larger images in such tiles."
    )
    offload: Literal["none", "model", "sequential"] = Field(
        default="none", description="Keep weights in main memory while unused; needs a CUDA device."
    )
    text_encoders: Literal["device", "host"] = Field(
        default="device",
        description="host: text encoders stay in main memory and are copied to the CUDA device for each new prompt.",
    )
    lora_rank: int = Field(
        default=64,
        ge=0,
        le=1024,
        description="The most ranks of one request's LoRAs together before they are applied by PEFT, which is slower; "
        "each rank costs 11 MB of device memory on FLUX.1. 0: always PEFT.",
    )
    lora_cache: int = Field(default=8, ge=0, description="LoRAs that stay in the replica's memory between requests.")
    lora_device_cache: int = Field(default=4, ge=0, description="Of those, how many stay on a CUDA device as well.")
    native_size: NativeSize | None = Field(
        default=None,
        description="The sizes that the model generates well; others are generated at one of these and resized. Unset: "
        "those of native_size.json in the model's folder, or else the family's.",
    )
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

    @model_validator(mode="after")
    def _sizes_on_the_grid(self) -> Self:
        if self.native_size is not None:
            OwnSizes(self.native_size, get_family(self.family).grid)
        return self

    @model_validator(mode="after")
    def _settings_that_work_together(self) -> Self:
        if self.offload == "sequential" and self.compile != "off":
            raise ValueError("compile needs the weights in place; use offload: none or model")
        if self.offload == "sequential" and self.quantization != "none":
            raise ValueError("quantization needs the weights in place; use offload: none or model")
        if self.offload != "none" and self.compile == "reduce-overhead":
            raise ValueError(
                "compile: reduce-overhead (CUDA graphs) needs weights that stay where they are; offload: none"
            )
        if self.offload != "none" and self.text_encoders != "device":
            raise ValueError(f"offload: {self.offload} moves the text encoders by itself; use text_encoders: device")
        if self.quantization == "fp8" and self.dtype not in ("auto", "bfloat16"):
            raise ValueError(f"quantization: fp8 computes beside bfloat16, not {self.dtype}; use dtype: bfloat16")
        return self


def size_multiple(family: str = "flux") -> int:
    """Pixels that width and height must be multiples of."""
    return get_family(family).size_multiple


def check_size(width: int, height: int, *, family: str = "flux") -> None:
    """Refuse a size in pixels that the model cannot generate exactly.

    Raises:
        InvalidInput: `width` or `height` is not a positive multiple of the family's grid.
    """
    multiple = size_multiple(family)
    for field, value in (("width", width), ("height", height)):
        if value < multiple or value % multiple:
            raise InvalidInput(f"{field} must be a positive multiple of {multiple}, not {value}", field=field)


def resolve_model(config: ModelConfig, models_root: Path) -> str | Path:
    """Locate the model: a local folder, or a Hugging Face repository id.

    One of the project's own models is written to `models_root` if it is not there yet, or is there from an earlier
    version.

    Raises:
        NotFound: neither a folder nor a repository id.
    """
    here, elsewhere = models_root / config.model, Path(config.model)
    own = next((own for family in families().values() if (own := family.own_models.get(config.model))), None)
    if own is not None and (here.exists() or not _is_model(elsewhere)):
        return ensure_current(here, own)
    for folder in (here, elsewhere):
        if _is_model(folder):
            return folder
    if config.model.count("/") == 1 and not config.model.startswith((".", "/", "~")):
        return config.model
    raise NotFound(f"No model `{config.model}`: not a folder, not under {models_root}, not a repository id")


def _is_model(folder: Path) -> bool:
    return (folder / "model_index.json").is_file()
