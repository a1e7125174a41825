"""EXPERIMENTAL_FAL: calls any app of fal with the arguments that the request gives it."""

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from compute.db.tables import Task
from compute.schemas.enums import ProviderType, TaskType
from compute.schemas.fields import FreeObject, bounded_depth_of
from compute.schemas.tasks import MAX_SHORT_TEXT, CreateTask, TaskPublic, TaskUpdate
from compute.tasks.operations import CallApp
from compute.tasks.registry import Inputs, ProviderOnlyKind
from compute.tasks.results import first_path, metadata_of

__all__ = [
    "CreateExperimentalFalTask",
    "ExperimentalFal",
    "ExperimentalFalTaskPublic",
    "ExperimentalFalTaskPublicUpdate",
]

MAX_LEVELS = 32

FalApp = Annotated[
    str,
    Field(
        min_length=3,
        max_length=MAX_SHORT_TEXT,
        # Its parts are parts of an address: none of them is `.` or `..`.
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$",
        description="The app, as owner/name, with the path of one of its endpoints if it has several.",
        examples=["fal-ai/flux/dev"],
    ),
]
FalParameters = Annotated[FreeObject, AfterValidator(partial(bounded_depth_of, most=MAX_LEVELS))]


class CreateExperimentalFalTask(CreateTask):
    """Call an app of fal. What it makes is stored; an answer without files is in `metadata`."""

    task_type: Literal[TaskType.EXPERIMENTAL_FAL] = TaskType.EXPERIMENTAL_FAL
    fal_app_id: FalApp
    fal_parameters: FalParameters | None = Field(
        default=None, description="The arguments of the app, as it wants them."
    )


class ExperimentalFalTaskPublic(TaskPublic):
    """A call of an app of fal."""

    task_type: Literal[TaskType.EXPERIMENTAL_FAL] = TaskType.EXPERIMENTAL_FAL
    fal_app_id: str
    fal_parameters: dict[str, Any] | None = None
    fal_request_id: str | None = Field(default=None, description="fal's id of the request.")
    result_path: str | None = Field(default=None, description="Storage path of the first file that the app made.")
    result_url: str | None = Field(default=None, description="A link to it that needs no key and expires.")


class ExperimentalFalTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`. The app and its arguments may change while the task waits."""

    fal_app_id: FalApp | None = None
    fal_parameters: FalParameters | None = None


class ExperimentalFal(ProviderOnlyKind[CreateExperimentalFalTask]):
    """Calls one app, once."""

    name = TaskType.EXPERIMENTAL_FAL
    queue = "fal"
    image_fields = ()
    folder = "experimental_fal"
    default_provider = ProviderType.FAL_STANDARD
    create_model = CreateExperimentalFalTask
    public_model = ExperimentalFalTaskPublic
    update_model = ExperimentalFalTaskPublicUpdate

    async def prepare(self, request: CreateExperimentalFalTask, inputs: Inputs) -> dict[str, Any]:
        self.refuse_local(request)
        return {"fal_app_id": request.fal_app_id, "fal_parameters": request.fal_parameters or {}}

    async def prepare_update(self, changes: dict[str, Any], spec: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
        return {name: value for name, value in changes.items() if name in ("fal_app_id", "fal_parameters")}

    def operation(self, spec: dict[str, Any]) -> CallApp:
        return CallApp(spec["fal_app_id"], spec.get("fal_parameters") or {})

    def public_fields(self, task: Task) -> dict[str, Any]:
        spec = task.spec
        return {
            "fal_app_id": spec["fal_app_id"],
            "fal_parameters": spec.get("fal_parameters"),
            "fal_request_id": spec.get("fal_request_id") or metadata_of(task).get("provider_request_id"),
            "result_path": first_path(task),
        }
