"""Workers as a tenant sees them: without hosts, processes and the loads of others."""

from compute.db.session import Database
from compute.monitoring.workers import note
from compute.worker.vitals import Gpu
from tests.integration.api.access.conftest import GiveKey
from tests.integration.api.access.scene import MINE, client, key_of
from tests.integration.monitoring.test_workers import vitals

INNER = ["host-of-ours", "NVIDIA", "4711", "987654"]


async def test_a_tenant_is_told_of_capacity_alone(base_url: str, give: GiveKey, database: Database) -> None:
    gpu = Gpu("NVIDIA H200", 0.85, 2 * 10**9, 10**11)
    seen = vitals(
        "Flux#a", active=1, gpu=gpu, completed=987654, name="Flux-a@host-of-ours", host="host-of-ours", pid=4711
    )
    await note(database, [seen], cluster="one")
    bound, free = await key_of(give, MINE), (await give(scope="read"))["key"]
    for key, is_told in [(bound, False), (free, True)]:
        async with client(base_url, key) as api:
            stats = await api.get("/monitoring/workers")
            health = await api.get("/monitoring/workers/health")
        for inner in INNER:
            assert (inner in stats.text) is is_told, inner
        assert ("host-of-ours" in health.text) is is_told
        [worker] = stats.json()["workers"]
        assert (worker["queues"], worker["concurrency"], worker["status"]) == (["inference"], 1, "busy")
        assert worker["has_capacity"] is True
        assert health.json()["healthy"] is True
