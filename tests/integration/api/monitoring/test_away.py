"""While the database is away, every monitoring route says so at once."""

from uuid import uuid4

import httpx

from compute.settings import Settings
from tests.integration.api.conftest import KEY, serving_api
from tests.patience import PATIENCE
from tests.servers import PLAIN_HTTP

NOBODY = "postgresql://compute@127.0.0.1:9/compute"


async def test_every_route_answers_503_and_when_to_try_again(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": NOBODY})
    async with serving_api(away) as url:
        headers = {"Authorization": f"Bearer {KEY}"}
        base = f"{url}/api/v1/monitoring"
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=PATIENCE, verify=PLAIN_HTTP) as api:
            one = uuid4()
            for path in (
                "/tasks",
                f"/tasks/{one}",
                f"/tasks/{one}/media",
                "/stats",
                "/workflows",
                "/workflows/stats",
                f"/workflows/{one}",
                "/queues",
                "/workers",
                "/workers/health",
            ):
                answer = await api.get(path)
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) > 0
