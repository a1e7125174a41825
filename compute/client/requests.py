"""The fields of requests, for type checkers and editors; made by `python -m tools.request_types`.

A `submit` takes them as arguments: `submit("EDITING", base_image="refs/dress.png", prompt="make it blue")`.
"""

from collections.abc import Mapping
from typing import Any, Literal, Required, TypedDict

__all__ = [
    "BY_TYPE",
    "OTHER_NAMES",
    "BackgroundFixFields",
    "BackgroundRemovalFields",
    "DetailEnhancerFields",
    "EditingFields",
    "EvaluationFields",
    "ExperimentalFalFields",
    "FaceEnhancerFields",
    "GenerationFields",
    "ImageAdjusterFields",
    "LLMInteractionFields",
    "RefineFields",
    "TaskFields",
    "TrainingFields",
    "VideoGenerationFields",
    "WorkflowFields",
]


class TaskFields(TypedDict, total=False):
    """Every task."""

    priority: int
    config: Mapping[str, Any] | None
    webhook_url: str | None
    origin_instance: str
    origin_zone: str | None
    origin_tenant_id: str | None
    origin_reference: str | None
    workflow_id: str | None
    queue_name: str | None
    provider_type: str | None
    provider_config: Mapping[str, Any] | None
    active_provider_capabilities: list[str] | None
    fallback_provider_type: str | None
    fallback_provider_config: Mapping[str, Any] | None
    fallback_provider_capabilities: list[str] | None


class BackgroundFixFields(TaskFields, total=False):
    """A task of the type BACKGROUND_FIX."""

    base_image: Required[str]
    strategy: str | None
    palette_image: str | None
    background_image_url: str | None
    background_prompt: str | None
    seed: int | None
    steps: int | None
    native: bool | None
    mask_expansion_percentage: float | None
    mask_expansion: int | None
    shadow_threshold: float | None
    light_threshold: float | None
    edge_blur_sigma: float | None
    blend_strength: float


class BackgroundRemovalFields(TaskFields, total=False):
    """A task of the type BACKGROUND_REMOVAL."""

    input_image_paths: Required[list[str]]
    output_format: Literal["png", "webp"]


class DetailEnhancerFields(TaskFields, total=False):
    """A task of the type DETAIL_ENHANCER."""

    native: bool
    base_image: Required[str]
    reference_image: str | None
    detail_label: str | None
    strength: float
    prompt: str | None
    preserve_original: bool
    seed: int | None
    steps: int
    working_size: int


class EditingFields(TaskFields, total=False):
    """A task of the type EDITING."""

    native: bool
    base_image: str | None
    base_image_url: str | None
    base_image_data: str | None
    reference_images: list[str | Mapping[str, Any]] | None
    reference_image_url: str | None
    reference_image_data: str | None
    prompt: str
    mask: str | None
    strength: float | None
    width: int | None
    height: int | None
    seed: int | None
    steps: int
    fal_app_id: str | None


class ExperimentalFalFields(TaskFields, total=False):
    """A task of the type EXPERIMENTAL_FAL."""

    fal_app_id: Required[str]
    fal_parameters: Mapping[str, Any] | None


class FaceEnhancerFields(TaskFields, total=False):
    """A task of the type FACE_ENHANCER."""

    native: bool
    input_image: Required[str]
    strength: float
    prompt: str | None
    preserve_identity: bool
    seed: int | None
    steps: int
    working_size: int


class GenerationFields(TaskFields, total=False):
    """A task of the type GENERATION."""

    subject_model_path: str | None
    product_model_path: str | None
    style_model_path: str | None
    product2_model_path: str | None
    subject_lora_weight: float | None
    product_lora_weight: float | None
    style_lora_weight: float | None
    product2_lora_weight: float | None
    native: bool
    prompt: Required[str]
    negative_prompt: str | None
    model: str | None
    width: int
    height: int
    seed: int | None
    num_outputs: int
    steps: int
    guidance_scale: float
    true_cfg_scale: float
    reference_image_url: str | None
    input_image_url: str | None
    reference_image_data: str | None
    reference_image_strength: float | None
    fal_app_id: str | None


class ImageAdjusterFields(TaskFields, total=False):
    """A task of the type IMAGE_ADJUSTER."""

    input_image: Required[str]
    mode: Literal["auto", "crop", "pad", "scale"]
    aspect_ratio: float | None
    target_width: int | None
    target_height: int | None
    margin_left: float | None
    margin_top: float | None
    margin_right: float | None
    margin_bottom: float | None
    reference_image: str | None
    cropping_position: (
        Literal["center", "top", "bottom", "left", "right", "top_left", "top_right", "bottom_left", "bottom_right"]
        | None
    )
    resampling: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    tolerance: float
    scaling_proportions: Literal["height", "width", "stretch"] | None
    brightness: float | None
    contrast: float | None
    saturation: float | None
    warmth: float | None
    prompt: str | None


class LLMInteractionFields(TaskFields, total=False):
    """A task of the type LLM_INTERACTION."""

    prompt: Required[str]
    system_prompt: str | None
    input_images: list[str] | None
    response_schema: Mapping[str, Any] | None
    max_tokens: int | None
    temperature: float | None


class RefineFields(TaskFields, total=False):
    """A task of the type REFINE."""

    native: bool
    base_image_url: Required[str]
    target_width: int | None
    target_height: int | None
    upscale_enabled: bool
    upscale_factor: float | None
    upscale_steps: int
    upscale_denoise: float
    upscale_prompt: str | None
    upscale_seed: int | None
    face_detail_enabled: bool
    face_detail_steps: int
    face_detail_denoise: float
    face_detail_prompt: str | None
    face_detail_seed: int | None
    fal_app_id: str | None


class VideoGenerationFields(TaskFields, total=False):
    """A task of the type VIDEO_GENERATION."""

    native: bool
    prompt: str
    negative_prompt: str | None
    input_image_url: str | None
    input_image_data: str | None
    cfg_scale: float
    duration_seconds: int | float
    fps: int
    motion_bucket_id: int
    width: int | None
    height: int | None
    steps: int
    seed: int | None


class TrainingFields(TypedDict, total=False):
    """A request: training."""

    training_type: str
    entity_type: str
    entity_id: str | None
    dataset_url: str | None
    output_name: str | None
    priority: int | None
    webhook_url: str | None
    origin_instance: str | None
    origin_zone: str | None
    origin_version: str | None
    origin_tenant_id: str | None
    rank: int | None
    steps: int | None
    epochs: int | None
    learning_rate: float | None
    batch_size: int | None
    gradient_accumulation: int | None
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "sgd"] | None
    save_every: int | None
    max_step_saves_to_keep: int | None
    sample_prompts: list[str] | None
    sample_every: int | None
    sample_steps: int | None
    seed: int | None
    resolution: int | None
    bypass_guidance_embedding: bool | None
    guidance: tuple[float, float] | None
    timesteps: Literal["logit_normal", "uniform", "mode", "shifted"] | None
    weighting: Literal["none", "min_snr", "sigma_sqrt", "cosmap"] | None
    caption_dropout: float | None
    base_precision: Literal["full", "fp8"] | None
    gradient_checkpointing: bool | None
    compile: bool | None
    ema_decay: float | None
    workers: int | None
    preprocessing_transforms: list[Mapping[str, Any]] | None
    preprocessing_captioning_strategy: str | None
    preprocessing_captioning_prompt: str | None
    trigger_word: Required[str]
    source_images: list[str] | None
    base_model_path: str | None


class WorkflowFields(TypedDict, total=False):
    """A request: workflow."""

    name: Required[str]
    description: str | None
    steps: Required[list[Mapping[str, Any]]]
    config: Mapping[str, Any]
    input: Mapping[str, Any] | None
    origin_instance: str
    origin_zone: str | None
    origin_tenant_id: str | None
    origin_reference: str | None
    webhook_url: str | None
    suppress_subtask_events: bool
    reuse: bool


class EvaluationFields(TypedDict, total=False):
    """A request: evaluation."""

    image_data: str | None
    image_url: str | None
    expected_framing: Required[str]
    expected_view_angle: Required[str]
    expected_gender: str | None
    custom_instructions: str | None
    include_descriptions: bool


BY_TYPE: Mapping[str, type] = {
    "BACKGROUND_FIX": BackgroundFixFields,
    "BACKGROUND_REMOVAL": BackgroundRemovalFields,
    "DETAIL_ENHANCER": DetailEnhancerFields,
    "EDITING": EditingFields,
    "EXPERIMENTAL_FAL": ExperimentalFalFields,
    "FACE_ENHANCER": FaceEnhancerFields,
    "GENERATION": GenerationFields,
    "IMAGE_ADJUSTER": ImageAdjusterFields,
    "LLM_INTERACTION": LLMInteractionFields,
    "REFINE": RefineFields,
    "VIDEO_GENERATION": VideoGenerationFields,
}
"""The fields of each type of task."""
OTHER_NAMES: Mapping[str, Mapping[str, str]] = {
    "BACKGROUND_FIX": {"base_image_url": "base_image"},
    "BACKGROUND_REMOVAL": {"image_url": "input_image_paths"},
    "DETAIL_ENHANCER": {"base_image_url": "base_image", "reference_image_url": "reference_image"},
    "EDITING": {"mask_url": "mask"},
    "EXPERIMENTAL_FAL": {},
    "FACE_ENHANCER": {"base_image_url": "input_image"},
    "GENERATION": {},
    "IMAGE_ADJUSTER": {"base_image_url": "input_image"},
    "LLM_INTERACTION": {},
    "REFINE": {"base_image": "base_image_url"},
    "VIDEO_GENERATION": {"base_image_url": "input_image_url", "duration": "duration_seconds"},
}
"""Other names of some fields that the server takes, with the usual one of each, by type of task."""
