"""Workflows, LoRAs, usage, providers, evaluations' health and monitoring through the client."""

import asyncio
import io
from pathlib import Path

import pytest
from httpx import URL
from PIL import Image
from pydantic import SecretStr

from benchmarks.client.cutting import Cut, CuttingProxy, Plan
from compute.client import (
    AsyncCompute,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    SecretLostError,
)
from compute.settings import Settings
from tests.integration.api.conftest import Painter, serving_api
from tests.integration.rows import UNKNOWN
from tests.patience import PATIENCE

STEP = {"id": "draw", "task_type": "GENERATION", "config": {"prompt": "a hat", "width": 64, "height": 64}}


async def test_a_workflow_is_created_listed_and_cancelled(client: AsyncCompute) -> None:
    made = await client.workflows.create(name="hats", steps=[STEP], start=False)
    assert (made.status, made.total_steps, made.steps[0].step_id) == ("PENDING", 1, "draw")
    quick = await client.workflows.create(
        {"name": "quick", "steps": [{"name": "draw", "type": "generation", "config": {"prompt": "a hat"}}]}
    )
    assert quick.total_steps == 1
    named = [workflow.name async for workflow in client.workflows.list(page_size=1)]
    assert named == ["quick", "hats"]
    assert (await client.workflows.update(made, name="coats")).name == "coats"
    started = await client.workflows.start(f"wf_{made.id.hex}", {})
    assert started.status == "RUNNING"
    assert (await client.workflows.pause(made)).status == "PAUSED"
    assert (await client.workflows.resume(made)).status == "RUNNING"
    with pytest.raises(ConflictError):
        await client.workflows.approve(made, "draw")
    assert (await client.workflows.cancel(made)).status == "CANCELLED"
    assert (await client.workflows.wait(made, check=False)).status == "CANCELLED"
    assert (await client.workflows.clean_up(made)).workflow.is_deleted
    with pytest.raises(NotFoundError):
        await client.workflows.get(UNKNOWN)


async def test_a_training_is_begun_watched_and_cancelled(client: AsyncCompute) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "PNG")
    stored = await client.files.upload(picture.getvalue())
    training = await client.trainings.train(trigger_word="zxdress", source_images=[stored.path], steps=5, rank=4)
    assert (training.status, training.trigger_word, training.ended) == ("PENDING", "zxdress", False)
    assert [one.id async for one in client.trainings.list()] == [training.id]
    assert (await client.trainings.cancel(training)).status == "CANCELLED"
    ended = await client.trainings.wait(f"train_{training.id.hex}", check=False)
    assert ended.ended
    statuses = [event.status async for event in client.trainings.history(training, page_size=1)]
    assert statuses == ["PENDING", "CANCELLED"]


async def test_a_lora_that_is_none_is_refused_and_lists_are_empty(client: AsyncCompute, tmp_path: Path) -> None:
    file = tmp_path / "look.safetensors"
    file.write_bytes(b"no safetensors")
    with pytest.raises(InvalidInputError) as refused:
        await client.loras.upload(file, entity_type="styles", use_safe_filename=True)
    assert refused.value.request_id
    assert [lora async for lora in client.loras.list()] == []
    assert [sums async for sums in client.usage.list(group_by="day,tenant")] == []
    with pytest.raises(ForbiddenError):
        await client.providers.calls().first()
    local = next(provider for provider in await client.providers.list() if provider.name == "LOCAL")
    assert local.ready


async def test_the_server_says_how_it_is(client: AsyncCompute, base_url: str) -> None:
    assert (await client.health())["status"]
    async with AsyncCompute(base_url, "another-key-of-no-use") as stranger:
        assert await stranger.health()


async def test_monitoring_is_read_like_everything_else(client: AsyncCompute, worker: Painter) -> None:
    task = await client.tasks.run(prompt="a hat", width=64, height=64, steps=1)
    await client.tasks.submit_all([{"prompt": f"hat {number}", "width": 64, "height": 64} for number in range(3)])
    assert (await client.monitoring.stats()).total_tasks == 4
    assert {queue.name for queue in (await client.monitoring.queues()).queues} >= {"inference"}
    assert (await client.monitoring.task(task)).id == task.id
    assert await client.monitoring.media(task)
    newest = [one.id async for one in client.monitoring.tasks(page_size=1)]
    # By another order there is no cursor: the pages have numbers.
    sorted_by_end = [one.id async for one in client.monitoring.tasks(page_size=1, sort_by="completed_at")]
    assert len(newest) == 4
    assert sorted(map(str, sorted_by_end)) == sorted(map(str, newest))
    workflow = await client.workflows.create(name="hats", steps=[STEP], start=False)
    assert [one.id async for one in client.monitoring.workflows()] == [workflow.id]
    assert (await client.monitoring.workflow(workflow)).id == workflow.id
    assert (await client.monitoring.workflow_stats()).total_workflows == 1


ADMIN_KEY = "admin-key-long-enough"


async def test_an_administrator_makes_keys_and_sets_limits(settings: Settings) -> None:
    settings = settings.model_copy(update={"admin_api_key": SecretStr(ADMIN_KEY)})
    async with serving_api(settings) as url, AsyncCompute(url, ADMIN_KEY) as client:
        made = await client.admin.keys.create("Shop", scope="submit", tenant="shop")
        assert (made.name, made.tenant) == ("Shop", "shop")
        assert made.key
        async with AsyncCompute(url, made.key) as shop:
            assert (await shop.tasks.submit(prompt="a hat", width=64)).origin_tenant_id == "shop"
        assert (await client.admin.keys.rotate(made, grace_seconds=0)).key != made.key
        assert (await client.admin.keys.update(made, scope="read")).scope == "read"
        assert [key.id async for key in client.admin.keys.list(tenant="shop")] == [made.id]
        assert (await client.admin.keys.get(made.id)).id == made.id
        await client.admin.keys.revoke(made)
        limited = await client.admin.set_limits("shop", requests_per_minute=600)
        assert limited.limits.requests_per_minute == 600
        assert (await client.admin.tenant("shop")).name == "shop"
        assert [tenant.name async for tenant in client.admin.tenants()] == ["shop"]
        async with asyncio.timeout(PATIENCE):
            # They are written beside the requests, a moment later.
            while not [entry async for entry in client.admin.audit()]:
                await asyncio.sleep(0.05)


async def test_a_key_whose_secret_was_lost_on_the_way_is_named_and_can_be_rotated(settings: Settings) -> None:
    settings = settings.model_copy(update={"admin_api_key": SecretStr(ADMIN_KEY)})
    async with serving_api(settings) as url, AsyncCompute(url, ADMIN_KEY) as client:
        address = URL(url)
        proxy = CuttingProxy((address.host, address.port or 0), iter([Plan(Cut.AFTER_REQUEST)]))
        async with proxy.listening(), AsyncCompute(proxy.url, ADMIN_KEY) as between:
            with pytest.raises(SecretLostError) as lost:
                await between.admin.keys.create("Shop")
        assert [key.id async for key in client.admin.keys.list()] == [lost.value.row.id]
        assert (await client.admin.keys.rotate(lost.value.row)).key
