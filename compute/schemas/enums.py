"""Enumerations of the API. New values may be added; none is ever renamed."""

from enum import IntEnum, StrEnum
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

__all__ = [
    "ErrorCategory",
    "EventType",
    "ProviderCapability",
    "ProviderType",
    "StepStatus",
    "TaskPriority",
    "TaskStatus",
    "TaskType",
    "TransformType",
    "WorkflowStatus",
]


def _whole_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


class TaskType(StrEnum):
    """The type of a task."""

    GENERATION = "GENERATION"
    EDITING = "EDITING"
    REFINE = "REFINE"
    EXPERIMENTAL_FAL = "EXPERIMENTAL_FAL"
    VIDEO_GENERATION = "VIDEO_GENERATION"
    LLM_INTERACTION = "LLM_INTERACTION"
    BACKGROUND_REMOVAL = "BACKGROUND_REMOVAL"
    DETAIL_ENHANCER = "DETAIL_ENHANCER"
    BACKGROUND_FIX = "BACKGROUND_FIX"
    IMAGE_ADJUSTER = "IMAGE_ADJUSTER"
    FACE_ENHANCER = "FACE_ENHANCER"


class TaskStatus(StrEnum):
    """The status of a task; `compute.tasks.states` has the allowed transitions."""

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @classmethod
    def _missing_(cls, value: object) -> "TaskStatus | None":
        """Accept the quick start's lower-case words, and `processing` for a running task."""
        word = value.upper() if isinstance(value, str) else ""
        return cls.EXECUTING if word in ("PROCESSING", "RUNNING") else cls.__members__.get(word)


class TaskPriority(IntEnum):
    """The priority of a task; a higher number runs first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept whole numbers only: neither `"2"` nor `2.0` nor `true`."""
        return no_info_before_validator_function(_whole_number, handler(source))


class ErrorCategory(StrEnum):
    """The reason why a task failed. INVALID_INPUT and CONTENT_POLICY are never retried."""

    PROVIDER_TIMEOUT = "PROVIDER_TIMEOUT"
    PROVIDER_ERROR = "PROVIDER_ERROR"
    INVALID_INPUT = "INVALID_INPUT"
    CONTENT_POLICY = "CONTENT_POLICY"
    STORAGE_ERROR = "STORAGE_ERROR"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


class ProviderType(StrEnum):
    """The provider that executes a task: LOCAL is this cluster, the others are outside services."""

    LOCAL = "LOCAL"
    FAL_STANDARD = "FAL_STANDARD"
    FAL_SHOOTIFY_REFINER = "FAL_SHOOTIFY_REFINER"
    FAL_GARMENT_FIXER = "FAL_GARMENT_FIXER"
    FASHN_STANDARD = "FASHN_STANDARD"
    FREEPIK_MAGNIFIC = "FREEPIK_MAGNIFIC"
    FREEPIK_MAGNIFIC_PRECISION = "FREEPIK_MAGNIFIC_PRECISION"
    VERTEX = "VERTEX"
    AI_CORE = "AI_CORE"
    NANO_BANANA_UPSCALER = "NANO_BANANA_UPSCALER"
    SARTIQ_ULTIMATE_REFINER = "SARTIQ_ULTIMATE_REFINER"
    SARTIQ_ULTIMATE_FACE_FIXER = "SARTIQ_ULTIMATE_FACE_FIXER"
    SARTIQ_ULTIMATE_GARMENT_FIXER = "SARTIQ_ULTIMATE_GARMENT_FIXER"


class ProviderCapability(StrEnum):
    """A capability of a provider."""

    TEXT_TO_IMAGE = "TEXT_TO_IMAGE"
    IMAGE_TO_IMAGE = "IMAGE_TO_IMAGE"
    IMAGE_EDIT = "IMAGE_EDIT"
    INPAINT = "INPAINT"
    LORA = "LORA"
    REFERENCE_IMAGE = "REFERENCE_IMAGE"
    UPSCALE_2X = "UPSCALE_2X"
    UPSCALE_4X = "UPSCALE_4X"
    UPSCALE_8X = "UPSCALE_8X"
    UPSCALE_FLOAT = "UPSCALE_FLOAT"
    OUTPUT_SIZE = "OUTPUT_SIZE"
    FACE_DETAIL = "FACE_DETAIL"
    IMAGE_TO_VIDEO = "IMAGE_TO_VIDEO"
    BACKGROUND_REMOVAL = "BACKGROUND_REMOVAL"
    TEXT = "TEXT"
    VISION = "VISION"


class EventType(StrEnum):
    """The type of a row in the event log."""

    TASK_CREATED = "TASK_CREATED"
    TASK_STATUS = "TASK_STATUS"
    TASK_UPDATED = "TASK_UPDATED"
    INFERENCE_STATUS = "INFERENCE_STATUS"
    WORKFLOW_STATUS = "WORKFLOW_STATUS"
    STEP_STATUS = "STEP_STATUS"
    TRAINING_STATUS = "TRAINING_STATUS"
    PREPROCESSING_STATUS = "PREPROCESSING_STATUS"
    TRAINING_PROGRESS = "TRAINING_PROGRESS"


class WorkflowStatus(StrEnum):
    """The status of a workflow; `compute.workflows.states` has the allowed transitions."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class StepStatus(StrEnum):
    """The status of a step of a workflow."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"


class TransformType(StrEnum):
    """A conversion of a value on its way from one step to another.

    FIRST, LAST and INDEX take one element of a list; LIST makes a list of one value. URL makes a link of a storage
    path and BASE64 the file's content; STRING makes text of a value; each of the three goes through a list one by
    one. JSON makes one text of the whole value.
    """

    FIRST = "FIRST"
    LAST = "LAST"
    LIST = "LIST"
    INDEX = "INDEX"
    URL = "URL"
    BASE64 = "BASE64"
    STRING = "STRING"
    JSON = "JSON"
