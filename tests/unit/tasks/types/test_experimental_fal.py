"""EXPERIMENTAL_FAL: which apps may be named, what may change while it waits, and how its result is shown."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.schemas.enums import ProviderType, TaskType
from compute.tasks.operations import CallApp
from compute.tasks.types.experimental_fal import (
    CreateExperimentalFalTask,
    ExperimentalFal,
    ExperimentalFalTaskPublicUpdate,
)
from compute.worker.protocol import Job
from tests.unit.tasks.types.worker import make_worker, prepare

APP = "fal-ai/flux/dev"


async def spec_of(home: Path, **fields: Any) -> dict[str, Any]:
    return await prepare(ExperimentalFal(), {"fal_app_id": APP} | fields, make_worker(home), {})


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


async def test_app_and_arguments_reach_the_operation(tmp_path: Path) -> None:
    arguments = {"prompt": "a red coat", "loras": [{"scale": 0.5}]}
    spec = await spec_of(tmp_path, fal_parameters=arguments)
    assert ExperimentalFal().operation(spec) == CallApp(APP, arguments)
    assert ExperimentalFal().operation(await spec_of(tmp_path)) == CallApp(APP)


@pytest.mark.parametrize("app", ["fal-ai/flux", "workflows/me/my_flow.v2", "fal-ai/flux-pro/v1/fill"])
def test_an_app_is_named_by_owner_name_and_path(app: str) -> None:
    assert CreateExperimentalFalTask(fal_app_id=app).fal_app_id == app


@pytest.mark.parametrize(
    "app",
    ["", "flux", "/flux", "fal-ai/", "fal-ai//dev", "fal-ai/..", "../x", "a/./b", "a/b?c=d", "a/b#c", "a b/c", "a@b/c"],
)
@pytest.mark.parametrize("model", [CreateExperimentalFalTask, ExperimentalFalTaskPublicUpdate])
def test_a_name_that_is_no_app_is_refused(app: str, model: type[Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"fal_app_id": app})
    assert refused.value.errors()[0]["loc"] == ("fal_app_id",)


@pytest.mark.parametrize("arguments", [{"a": "x" * 1_000_001}, nested(33), [1]])
@pytest.mark.parametrize("model", [CreateExperimentalFalTask, ExperimentalFalTaskPublicUpdate])
def test_arguments_are_bounded(arguments: Any, model: type[Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"fal_app_id": APP, "fal_parameters": arguments})
    assert refused.value.errors()[0]["loc"] == ("fal_parameters",)
    model.model_validate({"fal_app_id": APP, "fal_parameters": nested(32)})


@pytest.mark.parametrize("field", ["provider_type", "fallback_provider_type"])
async def test_this_cluster_is_no_provider_of_it(field: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="such as FAL_STANDARD, not on this cluster") as refused:
        await spec_of(tmp_path, **{field: "LOCAL"})
    assert refused.value.field == field


async def test_a_task_that_came_to_this_cluster_all_the_same_ends_in_plain_words(tmp_path: Path) -> None:
    job = Job(uuid.uuid4(), TaskType.EXPERIMENTAL_FAL, 1, await spec_of(tmp_path))
    with pytest.raises(InvalidInput, match="not on this cluster"):
        await anext(ExperimentalFal().run(job, make_worker(tmp_path).worker))


def test_it_goes_to_fal_by_default_and_needs_no_model() -> None:
    kind = ExperimentalFal()
    assert (kind.default_provider, kind.queue, kind.roles) == (ProviderType.FAL_STANDARD, "fal", frozenset())


async def test_an_update_replaces_app_and_arguments(tmp_path: Path) -> None:
    changes = {"fal_app_id": "fal-ai/flux", "fal_parameters": {"seed": 7}, "priority": 2}
    replaced = await ExperimentalFal().prepare_update(changes, await spec_of(tmp_path), None)  # type: ignore[arg-type]
    assert replaced == {"fal_app_id": "fal-ai/flux", "fal_parameters": {"seed": 7}}


async def test_the_first_file_of_its_result_is_shown_and_fals_id(tmp_path: Path) -> None:
    task = Task(spec=await spec_of(tmp_path, fal_parameters={"seed": 7}))
    assert ExperimentalFal().public_fields(task) == {
        "fal_app_id": APP,
        "fal_parameters": {"seed": 7},
        "fal_request_id": None,
        "result_path": None,
    }
    task.result = {
        "artifacts": [{"path": "experimental_fal/a/0.png"}, {"path": "experimental_fal/a/1.png"}],
        "metadata": {"provider_request_id": "r-1"},
    }
    shown = ExperimentalFal().public_fields(task)
    assert (shown["result_path"], shown["fal_request_id"]) == ("experimental_fal/a/0.png", "r-1")
