"""Files that something needs which has not ended stay; a resume sees what is gone, and makes it again."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.integration.api.images.test_storage import picture
from tests.integration.api.workflows.conftest import (
    SMALL,
    SubjectPainter,
    by_id,
    draw,
    mapping,
    post,
    run,
    statuses,
    wait_for,
)
from tests.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("engine", "worker")


def redrawn(step_id: str, source: str, **more: Any) -> dict[str, Any]:
    """A step that starts from the picture of another one."""
    return draw(step_id, input_mappings=[mapping(source, "result_image_path", "reference_image_url")], **more)


async def until_held(api: httpx.AsyncClient, workflow_id: str, step_id: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while not by_id(found := (await api.get(f"/workflows/{workflow_id}")).json())[step_id]["awaits_approval"]:
            await asyncio.sleep(0.01)
    return found


async def refused(api: httpx.AsyncClient, workflow_id: str, task_id: str, path: str) -> None:
    for answer in (
        await api.post(f"/tasks/{task_id}/cleanup"),
        await api.delete(f"/tasks/{task_id}"),
        await api.delete(f"/storage/images/{path}"),
    ):
        assert answer.status_code == 409, answer.text
        assert workflow_id in answer.json()["detail"]
    assert (await api.head(f"/storage/images/{path}")).status_code == 200


async def test_files_of_an_open_workflow_stay_until_it_has_ended(api: httpx.AsyncClient) -> None:
    made = await post(api, draw("a"), redrawn("b", "a", requires_approval=True))
    step = by_id(await until_held(api, made, "b"))["a"]
    path = step["result"]["result_image_path"]
    await refused(api, made, step["task_id"], path)
    assert (await api.post(f"/workflows/{made}/pause")).status_code == 200
    await refused(api, made, step["task_id"], path)
    await api.post(f"/workflows/{made}/steps/b/approve")
    await api.post(f"/workflows/{made}/resume")
    await wait_for(api, made, "COMPLETED")
    assert (await api.post(f"/tasks/{step['task_id']}/cleanup")).json()["deleted_files"] == 1


async def test_a_file_to_which_a_workflow_has_a_link_stays(api: httpx.AsyncClient) -> None:
    stored = (await api.post("/storage/images", files={"file": ("a b.png", picture())})).json()
    step = draw("a", requires_approval=True, input_mappings=[mapping("$input", "image", "reference_image_url")])
    made = await post(api, step, input={"image": stored["url"]})
    answer = await api.delete(f"/storage/images/{stored['path']}")
    assert (answer.status_code, made in answer.text) == (409, True)
    assert (await api.delete(f"/workflows/{made}")).status_code == 200
    assert (await api.delete(f"/storage/images/{stored['path']}")).status_code == 200


async def test_what_a_workflow_took_over_from_another_stays_too(api: httpx.AsyncClient) -> None:
    first = await run(api, draw("a"), reuse=True)
    second = await post(api, draw("a"), redrawn("b", "a", requires_approval=True), reuse=True)
    step = by_id(await until_held(api, second, "b"))["a"]
    assert step["reused_from"] == by_id(first)["a"]["id"]
    await refused(api, second, step["task_id"], step["result"]["result_image_path"])
    cleaned = await api.post(f"/workflows/{first['id']}/cleanup")
    assert (cleaned.status_code, second in cleaned.text) == (409, True)
    assert (await api.delete(f"/workflows/{second}")).status_code == 200
    assert (await api.post(f"/workflows/{first['id']}/cleanup")).status_code == 200


@pytest.mark.parametrize("way", ["cleanup", "task", "file"])
async def test_a_resume_makes_again_what_is_gone_and_needed(
    api: httpx.AsyncClient, painter: SubjectPainter, way: str
) -> None:
    steps = [draw("a"), draw("aside"), redrawn("b", "a"), redrawn("c", "b", prompt="impossible", max_retries=0)]
    failed = await run(api, *steps)
    assert statuses(failed) == {"a": "COMPLETED", "aside": "COMPLETED", "b": "COMPLETED", "c": "FAILED"}
    for step in (by_id(failed)["a"], by_id(failed)["aside"], by_id(failed)["b"]):
        if way == "file":
            gone = await api.delete(f"/storage/images/{step['result']['result_image_path']}")
        elif way == "task":
            gone = await api.delete(f"/tasks/{step['task_id']}")
        else:
            gone = await api.post(f"/tasks/{step['task_id']}/cleanup")
        assert gone.status_code == 200, gone.text
    painter.broken = False
    assert (await api.post(f"/workflows/{failed['id']}/resume")).status_code == 200
    done = by_id(await wait_for(api, failed["id"], "COMPLETED", "FAILED"))
    assert {name: step["status"] for name, step in done.items()} == dict.fromkeys(done, "COMPLETED")
    # What nothing takes from any more is left as it is.
    again = {name for name in done if done[name]["task_id"] != by_id(failed)[name]["task_id"]}
    assert again == {"a", "b", "c"}
    assert (await api.head(f"/storage/images/{done['b']['result']['result_image_path']}")).status_code == 200


async def test_a_task_that_was_taken_over_is_not_taken_over_again_once_its_file_is_gone(api: httpx.AsyncClient) -> None:
    first = by_id(await run(api, draw("a"), reuse=True))["a"]
    assert (await api.delete(f"/storage/images/{first['result']['result_image_path']}")).status_code == 200
    assert by_id(await run(api, draw("a"), reuse=True))["a"]["reused_from"] is None


@pytest.mark.parametrize("path", ["refs/one.png", 'refs/a "b" é.png'])
async def test_inputs_of_what_waits_stay(api: httpx.AsyncClient, painter: SubjectPainter, path: str) -> None:
    painter.held = {"long"}
    for _ in range(2):
        # Both hands are busy, so that the next one waits.
        await api.post("/tasks/", json=SMALL | {"prompt": "long"})
    await api.post(f"/storage/images/{path}", files={"file": ("a.png", picture())})
    task = (await api.post("/tasks/", json=SMALL | {"prompt": "x", "reference_image_url": path})).json()
    training = (await api.post("/training/", json={"trigger_word": "zx", "source_images": [path]})).json()
    flow = await post(api, draw("a", config={"reference_image_url": path}), start=False)
    for needed_by, ending in (
        (task["id"], api.post(f"/tasks/{task['id']}/cancel")),
        (training["id"], api.post(f"/training/{training['id']}/cancel")),
        (flow, api.delete(f"/workflows/{flow}")),
    ):
        answer = await api.delete(f"/storage/images/{path}")
        assert (answer.status_code, needed_by in answer.text) == (409, True), answer.text
        assert (await ending).status_code == 200
    assert (await api.delete(f"/storage/images/{path}")).status_code == 200
