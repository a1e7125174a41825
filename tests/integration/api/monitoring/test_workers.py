"""/monitoring/workers and /monitoring/workers/health over HTTP, and what queues say of workers."""

from datetime import timedelta

import httpx

from compute.db.session import Database
from compute.monitoring.workers import STALE, note
from compute.worker.vitals import Gpu
from tests.integration.api.monitoring.test_monitoring import ask
from tests.integration.monitoring.test_workers import silent_for, vitals
from tests.integration.rows import add

HTTP = ("name", "queues", "concurrency", "active_tasks", "utilization_pct", "has_capacity", "memory_mb")


async def test_without_workers_nothing_is_healthy(api: httpx.AsyncClient) -> None:
    health = await ask(api, "/monitoring/workers/health")
    assert (health["healthy"], health["total_workers"], health["unhealthy"], health["total"]) == (False, 0, 0, 0)
    assert (health["queues_with_workers"], health["queues_without_workers"]) == ([], ["image", "inference"])
    stats = await ask(api, "/monitoring/workers")
    assert (stats["workers"], stats["total_workers"], stats["total_utilization_pct"]) == ([], 0, 0.0)


async def test_workers_and_their_sums(api: httpx.AsyncClient, database: Database) -> None:
    gpu = Gpu("NVIDIA H200", 0.85, 2 * 10**9, 10**11)
    await note(
        database,
        [vitals("Flux#a", active=1, reserved=2, gpu=gpu), vitals("Flux#b"), vitals("Image#c", "image", active=1)],
        cluster="one",
    )
    stats = await ask(api, "/monitoring/workers")
    assert (stats["total_workers"], stats["total_capacity"], stats["total_active"]) == (3, 3, 2)
    assert (stats["total_utilization_pct"], stats["workers_at_capacity"]) == (66.67, 2)
    first = next(worker for worker in stats["workers"] if worker["id"] == "Flux#a")
    assert [first[name] for name in HTTP] == ["Flux-1@host", ["inference"], 1, 1, 100.0, False, 1000.0]
    assert (first["gpu_utilization"], first["gpu_memory_mb"], first["gpu_memory_total_mb"]) == (0.85, 2000.0, 100_000.0)
    assert (first["status"], first["tasks_completed_total"], first["tasks_per_minute"]) == ("busy", 5, 1.5)
    queues = {queue["name"]: queue for queue in (await ask(api, "/monitoring/queues"))["queues"]}
    assert {name: (queue["active_workers"], queue["workers"]) for name, queue in queues.items()} == {
        "image": (1, 1),
        "inference": (2, 2),
        "training": (0, 0),
    }


async def test_health_has_both_sets_of_names_and_finds_queues_without_workers(
    api: httpx.AsyncClient, database: Database
) -> None:
    await note(database, [vitals("Flux#a", active=1, reserved=2), vitals("Image#b", "image")], cluster="one")
    await add(database, queue="nobody")
    health = await ask(api, "/monitoring/workers/health")
    assert (health["healthy"], health["workers_with_capacity"], health["total_workers"]) == (True, 1, 2)
    assert health["queues_with_workers"] == ["image", "inference"]
    assert health["queues_without_workers"] == ["nobody"]
    await silent_for(database, "Image#b", STALE + timedelta(seconds=1))
    health = await ask(api, "/monitoring/workers/health")
    assert (health["healthy"], health["unhealthy"], health["total"]) == (False, 1, 2)
    assert health["queues_without_workers"] == ["image", "nobody"]
    by_id = {worker["id"]: worker for worker in health["workers"]}
    assert (by_id["Flux-1@host"]["status"], by_id["Image-1@host"]["status"]) == ("busy", "unhealthy")
    assert by_id["Flux-1@host"]["last_heartbeat"] > by_id["Image-1@host"]["last_heartbeat"]
    refused = await api.get("/monitoring/workers/health", params={"page": "1"})
    assert refused.status_code == 400
