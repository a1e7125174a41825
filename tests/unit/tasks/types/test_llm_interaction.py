"""LLM_INTERACTION: every field reaches the operation, wrong ones are named, and the answer is shown."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.schemas.enums import ProviderType, TaskType
from compute.schemas.tasks import TaskPublic
from compute.tasks.operations import Converse, Picture
from compute.tasks.registry import all_kinds
from compute.tasks.types.llm_interaction import (
    CreateLLMInteractionTask,
    LLMInteraction,
    LLMInteractionTaskPublic,
    LLMInteractionTaskPublicUpdate,
)
from compute.worker.protocol import Job
from tests.pictures import scene
from tests.unit.tasks.types.worker import make_worker, prepare

SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}}


async def spec_of(home: Path, **fields: Any) -> dict[str, Any]:
    files = {"a.png": scene((40, 30)), "b.png": scene((30, 40))}
    return await prepare(LLMInteraction(), {"prompt": "Which colour?"} | fields, make_worker(home), files)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


async def test_every_field_reaches_the_operation(tmp_path: Path) -> None:
    spec = await spec_of(
        tmp_path,
        system_prompt="Be brief.",
        input_images=["a.png", "b.png"],
        response_schema=SCHEMA,
        max_tokens=64,
        temperature=0.5,
    )
    assert LLMInteraction().operation(spec) == Converse(
        "Which colour?",
        system="Be brief.",
        images=(Picture("a.png", "input_images.0"), Picture("b.png", "input_images.1")),
        answer_schema=SCHEMA,
        max_tokens=64,
        temperature=0.5,
    )


async def test_a_prompt_alone_leaves_the_rest_to_the_provider(tmp_path: Path) -> None:
    assert LLMInteraction().operation(await spec_of(tmp_path)) == Converse("Which colour?")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"task_type": "GENERATION"}, "task_type"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x" * 10_001}, "prompt"),
        ({"system_prompt": "x" * 10_001}, "system_prompt"),
        ({"input_images": ["a.png"] * 17}, "input_images"),
        ({"response_schema": {"type": "string"}}, "response_schema"),
        ({"response_schema": {"type": "object"}}, "response_schema"),
        ({"response_schema": SCHEMA | {"description": "x" * 50_001}}, "response_schema"),
        ({"response_schema": nested(17)}, "response_schema"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2_000_000}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_what_is_out_of_bounds_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CreateLLMInteractionTask.model_validate({"prompt": "Which colour?"} | fields)
    assert {error["loc"][0] for error in refused.value.errors()} == {field}


def test_a_schema_of_the_deepest_kind_is_taken() -> None:
    CreateLLMInteractionTask.model_validate({"prompt": "Which colour?", "response_schema": nested(15)})


async def test_an_image_that_there_is_not_is_named_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        await spec_of(tmp_path, input_images=["a.png", "c.png"])
    assert refused.value.field == "input_images.1"


@pytest.mark.parametrize("field", ["provider_type", "fallback_provider_type"])
async def test_this_cluster_is_no_provider_of_it(field: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="run at other providers, such as AI_CORE") as refused:
        await spec_of(tmp_path, **{field: "LOCAL"})
    assert refused.value.field == field


async def test_a_task_that_came_to_this_cluster_all_the_same_ends_in_plain_words(tmp_path: Path) -> None:
    job = Job(uuid.uuid4(), TaskType.LLM_INTERACTION, 1, await spec_of(tmp_path))
    with pytest.raises(InvalidInput, match="not on this cluster"):
        await anext(LLMInteraction().run(job, make_worker(tmp_path).worker))


def test_it_goes_to_ai_core_by_default_and_needs_no_model() -> None:
    kind = LLMInteraction()
    assert (kind.default_provider, kind.queue, kind.roles) == (ProviderType.AI_CORE, "llm", frozenset())


async def test_the_answer_is_shown_with_its_tokens(tmp_path: Path) -> None:
    task = Task(spec=await spec_of(tmp_path, input_images=["a.png"], max_tokens=9))
    waiting = LLMInteraction().public_fields(task)
    assert (waiting["result_text"], waiting["input_tokens"], waiting["output_tokens"]) == (None, None, None)
    task.result = {"metadata": {"text": "Red.", "input_tokens": 12, "output_tokens": 2, "model": "m"}}
    shown = LLMInteraction().public_fields(task)
    assert (shown["prompt"], shown["input_images"], shown["max_tokens"]) == ("Which colour?", ["a.png"], 9)
    assert (shown["result_text"], shown["input_tokens"], shown["output_tokens"]) == ("Red.", 12, 2)


def test_its_answer_is_told_from_those_of_other_types() -> None:
    kinds = TypeAdapter(LLMInteractionTaskPublic)
    base = {
        "id": uuid.uuid4(),
        "priority": 1,
        "status": "PENDING",
        "origin_instance": "test",
        "created_at": "2026-11-30T12:00:00Z",
        "updated_at": "2026-11-30T12:00:00Z",
    }
    assert isinstance(kinds.validate_python(base | {"task_type": "LLM_INTERACTION"}), TaskPublic)
    for other in all_kinds().keys() - {TaskType.LLM_INTERACTION}:
        with pytest.raises(ValidationError):
            kinds.validate_python(base | {"task_type": other})


def test_an_update_takes_the_whole_task_back() -> None:
    sent = {
        "progress": 0.0,
        "retry_count": 0,
        "task_type": "LLM_INTERACTION",
        "provider_type": "AI_CORE",
        "priority": 2,
    }
    update = LLMInteractionTaskPublicUpdate.model_validate(sent | {"is_resumed": False, "service_requests": [{"a": 1}]})
    assert update.model_fields_set == {*sent, "is_resumed", "service_requests"}
    with pytest.raises(ValidationError):
        LLMInteractionTaskPublicUpdate.model_validate({"prompt": "another"})
