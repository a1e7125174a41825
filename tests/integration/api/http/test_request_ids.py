"""Every answer has the name of its request."""

import httpx
import pytest


@pytest.mark.parametrize("given", ["a", "0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10", "Job_7.try-2", "x" * 128])
async def test_a_well_formed_name_is_kept(api: httpx.AsyncClient, given: str) -> None:
    answer = await api.get("/tasks/", headers={"X-Request-Id": given})
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, given)


@pytest.mark.parametrize("given", ["", "-a", "a b", "x" * 129, "a;b", "a\tb"])
async def test_another_one_is_replaced(api: httpx.AsyncClient, given: str) -> None:
    answers = [await api.get("/tasks/", headers={"X-Request-Id": given}) for _ in range(2)]
    names = {answer.headers["x-request-id"] for answer in answers}
    assert len(names) == 2
    assert given not in names


async def test_refusals_have_one_too(anonymous: httpx.AsyncClient) -> None:
    for method, path, status in [
        ("GET", "/api/v1/tasks/", 401),
        ("GET", "/nothing", 404),
        ("PUT", "/api/v1/tasks/bulk", 405),
        ("GET", "/api/v1/tasks", 307),
        ("GET", "/health", 200),
    ]:
        answer = await anonymous.request(method, path, headers={"X-Request-Id": "mine"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "mine"), path
