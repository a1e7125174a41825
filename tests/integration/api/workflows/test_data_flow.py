"""Results that a step hands to those behind it."""

import base64
import io
import json
from typing import Any

import httpx
from PIL import Image

from tests.integration.api.workflows.conftest import by_id, draw, mapping, post, run, statuses, wait_for

ADJUST = {"task_type": "IMAGE_ADJUSTER", "config": {"brightness": 0.1}}


async def test_the_contracts_example_hands_a_picture_on(api: httpx.AsyncClient, worker: object, engine: None) -> None:
    refine = {
        "id": "refine",
        "task_type": "REFINE",
        "config": {"upscale_factor": 2.0},
        "depends_on": ["generate"],
        "input_mappings": [mapping("generate", "result_image_path", "base_image_url")],
    }
    ended = await run(api, draw("generate"), refine)
    assert ended["status"] == "COMPLETED", ended["errors"]
    steps = by_id(ended)
    assert steps["refine"]["result"]["base_image_path"] == steps["generate"]["result"]["result_image_path"]
    assert (ended["final_step_id"], ended["final_step_result"]) == ("refine", steps["refine"]["result"])
    task = (await api.get(f"/tasks/{steps['refine']['task_id']}")).json()
    assert (task["workflow_id"], task["step_id"]) == (ended["id"], "refine")


async def test_a_list_makes_a_task_for_each_element_and_so_do_the_steps_behind(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    ended = await run(
        api,
        {
            **draw("draw", input_mappings=[mapping("$input", "prompts", "prompt")]),
            "config": {"width": 64, "height": 64, "steps": 1},
        },
        {"id": "brighten", **ADJUST, "input_mappings": [mapping("draw", "result_image_path", "input_image")]},
        {
            "id": "cut",
            "task_type": "BACKGROUND_REMOVAL",
            "input_mappings": [mapping("brighten", "result_image_path", "input_image_paths")],
        },
        input={"prompts": ["one", "two", "three"]},
    )
    assert ended["status"] == "COMPLETED", ended["errors"]
    steps = by_id(ended)
    assert {name: len(step["task_ids"]) for name, step in steps.items()} == {"draw": 3, "brighten": 3, "cut": 1}
    prompts = [(await api.get(f"/tasks/{task}")).json()["prompt"] for task in steps["draw"]["task_ids"]]
    assert prompts == ["one", "two", "three"]
    assert len(steps["cut"]["result"]["result_image_paths"]) == 3


async def test_every_transform_reaches_the_field_it_is_meant_for(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    def adjust(name: str, field: str, **how: Any) -> dict[str, Any]:
        return {"id": name, **ADJUST, "input_mappings": [mapping("many", field, "input_image", **how)]}

    ended = await run(
        api,
        draw("many", config={"num_outputs": 3}),
        adjust("first", "result_image_paths", transform="FIRST"),
        adjust("last", "result_image_paths", transform="LAST"),
        adjust("second", "result_image_paths", transform="INDEX", index=1),
        adjust("link", "result_image_path", transform="URL"),
        adjust("implied", "result_image_url"),
        adjust("inline", "result_image_path", transform="BASE64"),
        draw("told", config={"prompt": "x"}, input_mappings=[mapping("many", "seed", "prompt", transform="STRING")]),
        draw("all", input_mappings=[mapping("many", "result_image_paths", "prompt", transform="JSON")]),
    )
    assert ended["status"] == "COMPLETED", ended["errors"]
    steps = by_id(ended)
    paths = steps["many"]["result"]["result_image_paths"]

    async def source(name: str) -> str:
        return str((await api.get(f"/tasks/{steps[name]['task_id']}")).json()["input_image_path"])

    assert [await source(name) for name in ("first", "last", "second", "link", "implied")] == [
        paths[0],
        paths[2],
        paths[1],
        paths[0],
        paths[0],
    ]
    # Taken in as any other image that comes with a request: the same pixels, stored under their content.
    inline = await source("inline")
    pixels = [
        Image.open(io.BytesIO((await api.get(f"/storage/images/{path}")).content)).tobytes()
        for path in (paths[0], inline)
    ]
    assert inline.startswith("inputs/")
    assert pixels[0] == pixels[1]
    assert steps["told"]["result"]["prompt"] == "1"
    assert json.loads(steps["all"]["result"]["prompt"]) == paths


async def test_input_and_configuration_are_visible_to_steps(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    step = draw(
        "draw",
        input_mappings=[mapping("$input", "what.prompt", "prompt"), mapping("$config", "seeds.0", "seed")],
    )
    workflow_id = await post(api, step, start=False, config={"seeds": [7, 8]})
    answer = await api.post(f"/workflows/{workflow_id}/start", json={"input": {"what": {"prompt": "a hat"}}})
    assert answer.status_code == 200, answer.text
    result = by_id(await wait_for(api, workflow_id, "COMPLETED"))["draw"]["result"]
    assert (result["prompt"], result["seed"]) == ("a hat", 7)


async def test_an_image_of_the_input_is_kept_when_the_workflow_is_started(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(buffer, "PNG")
    data = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    ended = await run(
        api,
        {"id": "brighten", **ADJUST, "input_mappings": [mapping("$input", "picture", "input_image")]},
        input={"picture": data},
    )
    assert ended["status"] == "COMPLETED", ended["errors"]
    assert by_id(ended)["brighten"]["result"]["input_image_path"].startswith("inputs/")


async def test_a_condition_decides_which_branch_runs_and_a_join_takes_what_there_is(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    def branch(name: str, op: str) -> dict[str, Any]:
        return draw(name, when={"from_step": "first", "from_field": "seed", "op": op, "value": 1})

    join = {
        "id": "join",
        **ADJUST,
        "input_mappings": [
            mapping("taken", "result_image_path", "input_image"),
            mapping("left", "result_image_path", "input_image"),
        ],
    }
    needy = {"id": "needy", **ADJUST, "input_mappings": [mapping("taken", "result_image_path", "input_image")]}
    ended = await run(api, draw("first"), branch("taken", "ne"), branch("left", "eq"), join, needy)
    assert ended["status"] == "COMPLETED", ended["errors"]
    assert statuses(ended) == {
        "first": "COMPLETED",
        "taken": "SKIPPED",
        "left": "COMPLETED",
        "join": "COMPLETED",
        "needy": "SKIPPED",
    }
    assert by_id(ended)["needy"]["error_message"] == "input_image has no value, because the steps before have none."


async def test_lists_that_do_not_match_fail_the_step_and_name_the_field(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    ended = await run(
        api,
        draw("two", config={"num_outputs": 2}),
        draw("three", config={"num_outputs": 3}),
        draw(
            "both",
            input_mappings=[
                mapping("two", "result_image_paths", "reference_image_url"),
                mapping("three", "result_image_paths", "prompt"),
            ],
        ),
    )
    assert (ended["status"], statuses(ended)["both"]) == ("FAILED", "FAILED")
    assert "Lists that are dealt together must be of one length" in ended["error_message"]
    assert by_id(ended)["both"]["error_category"] == "INVALID_INPUT"


async def test_an_empty_list_is_no_work_and_no_failure(api: httpx.AsyncClient, worker: object, engine: None) -> None:
    ended = await run(
        api,
        draw("none", input_mappings=[mapping("$input", "prompts", "prompt")]),
        {"id": "behind", **ADJUST, "input_mappings": [mapping("none", "result_image_path", "input_image")]},
        input={"prompts": []},
    )
    assert ended["status"] == "COMPLETED", ended["errors"]
    assert [step["task_ids"] for step in ended["steps"]] == [[], []]
