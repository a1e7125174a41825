"""LLM_INTERACTION: asks a language model, about images if the request names some."""

from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from compute.db.tables import Task
from compute.schemas.enums import ProviderType, TaskType
from compute.schemas.fields import MAX_PROMPT, ImageSource, Prompt, bounded_depth_of, bounded_text_of
from compute.schemas.rules.text import VISIBLE
from compute.schemas.tasks import CreateTask, TaskPublic, WholeTaskUpdate
from compute.tasks.operations import Converse, Picture
from compute.tasks.registry import Inputs, ProviderOnlyKind
from compute.tasks.results import metadata_of

__all__ = [
    "CreateLLMInteractionTask",
    "LLMInteraction",
    "LLMInteractionTaskPublic",
    "LLMInteractionTaskPublicUpdate",
]

MAX_IMAGES = 16
MAX_ANSWER_TOKENS = 1_000_000
MAX_SCHEMA_CHARACTERS = 50_000
MAX_SCHEMA_LEVELS = 32
"""Of nested objects and lists. Each property takes two of them."""


def _check_type(value: TaskType) -> TaskType:
    if value is not TaskType.LLM_INTERACTION:
        raise ValueError(f"must be {TaskType.LLM_INTERACTION}")
    return value


def _describes_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    """Check what every vendor asks of the root."""
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        raise ValueError("must be a JSON Schema with `type` object and `properties`")
    return schema


# The contract has the whole enumeration here, where other types have their own word.
_ThisType = Annotated[TaskType, AfterValidator(_check_type)]
AnswerSchema = Annotated[
    dict[str, Any],
    AfterValidator(partial(bounded_text_of, most=MAX_SCHEMA_CHARACTERS)),
    AfterValidator(partial(bounded_depth_of, most=MAX_SCHEMA_LEVELS)),
    AfterValidator(_describes_an_object),
]


class CreateLLMInteractionTask(CreateTask):
    """Ask a language model. The vendor and the model are chosen in `provider_config`."""

    task_type: _ThisType = TaskType.LLM_INTERACTION
    prompt: Annotated[str, VISIBLE] = Field(
        min_length=1, max_length=MAX_PROMPT, pattern=r"\S", description="What the model is asked."
    )
    system_prompt: Prompt | None = Field(default=None, description="How the model should answer.")
    input_images: list[ImageSource] | None = Field(
        default=None, max_length=MAX_IMAGES, description=f"Images that the prompt is about, at most {MAX_IMAGES}."
    )
    response_schema: AnswerSchema | None = Field(
        default=None,
        description="A JSON Schema that the answer must fit; its root is an object. The answer is then JSON; one that "
        "does not fit, or was cut off, fails the task, and is not asked for again by itself. Vendors "
        "ask for `additionalProperties: false` and all properties in `required`, in each object of the schema.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ANSWER_TOKENS,
        description="Most tokens of the answer; by default what `provider_config` says.",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="How freely the model answers; by default what `provider_config` says."
    )


class LLMInteractionTaskPublic(TaskPublic):
    """A question to a language model, and its answer."""

    task_type: _ThisType = TaskType.LLM_INTERACTION
    prompt: str = ""
    system_prompt: str | None = None
    input_images: list[str] | None = Field(default=None, description="Storage paths of the images.")
    response_schema: dict[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    result_text: str | None = Field(default=None, description="The answer; JSON if the request has a schema.")
    input_tokens: int | None = Field(default=None, description="Tokens of the question, images included.")
    output_tokens: int | None = Field(default=None, description="Tokens of the answer.")


class LLMInteractionTaskPublicUpdate(WholeTaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class LLMInteraction(ProviderOnlyKind[CreateLLMInteractionTask]):
    """Asks one question. The answer is in the result's metadata, with its tokens."""

    name = TaskType.LLM_INTERACTION
    queue = "llm"
    image_fields = ("input_images",)
    folder = "llm_interactions"
    default_provider = ProviderType.AI_CORE
    create_model = CreateLLMInteractionTask
    public_model = LLMInteractionTaskPublic
    update_model = LLMInteractionTaskPublicUpdate

    async def prepare(self, request: CreateLLMInteractionTask, inputs: Inputs) -> dict[str, Any]:
        self.refuse_local(request)
        images = [
            (await inputs.image(source, field=f"input_images.{index}")).path
            for index, source in enumerate(request.input_images or ())
        ]
        return request.model_dump(mode="json", include=_KEPT_FIELDS) | {"input_images": images}

    def operation(self, spec: dict[str, Any]) -> Converse:
        return Converse(
            spec["prompt"],
            system=spec.get("system_prompt"),
            images=tuple(
                Picture(path, f"input_images.{index}") for index, path in enumerate(spec.get("input_images") or ())
            ),
            answer_schema=spec.get("response_schema"),
            max_tokens=spec.get("max_tokens"),
            temperature=spec.get("temperature"),
        )

    def public_fields(self, task: Task) -> dict[str, Any]:
        said = metadata_of(task)
        return {name: task.spec.get(name) for name in _KEPT_FIELDS} | {
            "input_images": task.spec.get("input_images") or None,
            "result_text": said.get("text"),
            "input_tokens": said.get("input_tokens"),
            "output_tokens": said.get("output_tokens"),
        }


_KEPT_FIELDS = {"prompt", "system_prompt", "response_schema", "max_tokens", "temperature"}
