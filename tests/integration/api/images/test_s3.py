"""The same API over S3: images are served by the store, through links that need no key."""

import io

import httpx
import pytest
from PIL import Image

from tests.integration.api.conftest import Painter, wait_for


@pytest.fixture(params=["presigned", "cdn"])
def storage_settings(request: pytest.FixtureRequest, bucket: str, s3_server: str) -> dict[str, object]:
    settings = {"storage": "s3", "s3_bucket": bucket, "s3_endpoint_url": s3_server}
    return settings | ({"s3_public_url": "https://cdn.example.com"} if request.param == "cdn" else {})


@pytest.fixture
def cdn(storage_settings: dict[str, object]) -> bool:
    return "s3_public_url" in storage_settings


async def test_results_are_stored_in_the_bucket_and_read_by_redirect(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, worker: Painter, cdn: bool
) -> None:
    body = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1, "seed": 1, "num_outputs": 2}
    created = (await api.post("/tasks/generation", json=body)).json()
    task = await wait_for(api, created["id"], "completed")
    urls = [image["url"] for image in task["output"]["images"]]
    path = (await api.get(f"/tasks/generation/{created['id']}")).json()
    assert path["id"] == created["id"]

    canonical = (await api.get("/tasks/", params={"status": "COMPLETED"})).json()[0]
    redirect = await api.get(f"/storage/images/{canonical['result_image_path']}")
    assert redirect.status_code == 307
    if cdn:
        assert urls[0] == f"https://cdn.example.com/{canonical['result_image_path']}"
        assert redirect.headers["location"] == urls[0]
        return
    for url in (*urls, redirect.headers["location"]):
        picture = await anonymous.get(url)
        assert picture.status_code == 200
        assert Image.open(io.BytesIO(picture.content)).size == (64, 64)


async def test_a_key_is_needed_before_a_redirect_is_given(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.get("/api/v1/storage/images/generations/x/1/0.png")).status_code == 401


async def test_cleanup_empties_the_bucket(api: httpx.AsyncClient, worker: Painter) -> None:
    body = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1, "task_type": "GENERATION"}
    created = (await api.post("/tasks/", json=body)).json()
    await wait_for(api, created["id"], "COMPLETED")
    assert (await api.get("/storage/images")).json()["count"] == 1
    assert (await api.post(f"/tasks/{created['id']}/cleanup")).json()["deleted_files"] == 1
    assert (await api.get("/storage/images")).json()["count"] == 0


async def test_a_bucket_that_is_gone_refuses_requests_clearly_and_readiness_says_so(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, bucket: str, s3_server: str
) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    client.delete_bucket(Bucket=bucket)
    client.close()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    answer = await api.post("/storage/images/a/b.png", files={"file": ("b.png", buffer.getvalue())})
    assert answer.status_code == 503
    assert answer.json()["code"] == "STORAGE_ERROR"
    assert (await anonymous.get("/health", params={"ready": 1})).status_code == 503
