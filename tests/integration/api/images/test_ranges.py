"""Parts of stored files, and files that a client has already: what a browser's video player asks for."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import httpx
import pytest

from compute.settings import Settings
from compute.storage.factory import open_store

VIDEO = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 9000
PATH = "videos/1/1/0.mp4"


@pytest.fixture
def storage_settings(request: pytest.FixtureRequest) -> dict[str, object]:
    """A folder, which this process serves; `s3` for a bucket, which serves itself."""
    if getattr(request, "param", "local") == "local":
        return {"storage": "local"}
    server = request.getfixturevalue("s3_environment")
    return {"storage": "s3", "s3_bucket": request.getfixturevalue("bucket"), "s3_endpoint_url": server}


@pytest.fixture
async def url(settings: Settings, api: httpx.AsyncClient) -> str:
    """A video in the store, as a worker leaves it there."""
    store = open_store(settings)
    await store.put(PATH, VIDEO, "video/mp4")
    await store.put("videos/empty.mp4", b"", "video/mp4")
    await store.close()
    return f"/storage/images/{PATH}"


async def test_the_whole_file_says_that_parts_can_be_had(api: httpx.AsyncClient, url: str) -> None:
    whole = await api.get(url)
    assert (whole.status_code, whole.content) == (200, VIDEO)
    head = await api.head(url)
    assert (head.status_code, head.content) == (200, b"")
    for answer in (whole, head):
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-length"] == str(len(VIDEO))
    assert head.headers["etag"] == whole.headers["etag"]


PARTS = {
    "bytes=0-1": (0, 2),
    "bytes=0-": (0, len(VIDEO)),
    "bytes=1000000-2000000": (1_000_000, 2_000_001),
    f"bytes={len(VIDEO) - 5}-": (len(VIDEO) - 5, len(VIDEO)),
    f"bytes=100-{len(VIDEO) + 10**9}": (100, len(VIDEO)),
    "bytes=-7": (len(VIDEO) - 7, len(VIDEO)),
    f"bytes=-{10**12}": (0, len(VIDEO)),
    "Bytes = 5-5": (5, 6),
}


async def test_parts(api: httpx.AsyncClient, url: str) -> None:
    for asked, (start, end) in PARTS.items():
        answer = await api.get(url, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, VIDEO[start:end]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(VIDEO)}"
        assert answer.headers["content-length"] == str(end - start)
        assert answer.headers["content-type"] == "video/mp4"


async def test_a_link_without_a_key_serves_parts_too(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, url: str
) -> None:
    listed = (await api.get("/storage/images", params={"prefix": PATH})).json()["images"]
    answer = await anonymous.get(listed[0]["url"], headers={"Range": "bytes=4-7"})
    assert (answer.status_code, answer.content) == (206, b"ftyp")


@pytest.mark.parametrize("storage_settings", ["s3"], indirect=True)
async def test_a_bucket_serves_parts_by_redirect(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, url: str
) -> None:
    redirect = await api.get(url, headers={"Range": "bytes=4-7"})
    assert redirect.status_code == 307
    answer = await anonymous.get(redirect.headers["location"], headers={"Range": "bytes=4-7"})
    assert (answer.status_code, answer.content) == (206, b"ftyp")
    assert answer.headers["content-type"] == "video/mp4"
    head = await api.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(VIDEO)))
    assert (await api.head(url, headers={"If-None-Match": head.headers["etag"]})).status_code == 304


async def test_what_is_behind_the_end_is_416(api: httpx.AsyncClient, url: str) -> None:
    for asked in (f"bytes={len(VIDEO)}-", f"bytes={10**17}-", "bytes=-0"):
        answer = await api.get(url, headers={"Range": asked})
        assert answer.status_code == 416, asked
        assert answer.headers["content-range"] == f"bytes */{len(VIDEO)}"
    empty = await api.get("/storage/images/videos/empty.mp4", headers={"Range": "bytes=0-"})
    assert empty.status_code == 416


async def test_what_is_no_single_range_is_ignored(api: httpx.AsyncClient, url: str) -> None:
    for asked in ("bytes=0-1,5-6", "bytes=5-2", "items=0-1", "bytes=a-b", "bytes=-", "0-1", f"bytes={'9' * 30}-"):
        answer = await api.get(url, headers={"Range": asked})
        assert (answer.status_code, len(answer.content)) == (200, len(VIDEO)), asked


async def test_a_part_of_what_has_changed_is_not_mixed_in(api: httpx.AsyncClient, url: str) -> None:
    head = await api.head(url)
    etag, modified = head.headers["etag"], head.headers["last-modified"]
    for condition, status in ((etag, 206), (modified, 206), ('"other"', 200), (f"W/{etag}", 200), ("junk", 200)):
        answer = await api.get(url, headers={"Range": "bytes=0-1", "If-Range": condition})
        assert answer.status_code == status, condition
    late = format_datetime(parsedate_to_datetime(modified) + timedelta(seconds=1), usegmt=True)
    assert (await api.get(url, headers={"Range": "bytes=0-1", "If-Range": late})).status_code == 200


async def test_what_the_client_has_is_not_sent_again(api: httpx.AsyncClient, url: str) -> None:
    head = await api.head(url)
    etag, modified = head.headers["etag"], head.headers["last-modified"]
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    conditions = [
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f'W/"x", W/{etag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": modified}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": past}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Match": etag}, 200),
        ({"If-Match": f"W/{etag}"}, 412),
        ({"If-Match": '"x"'}, 412),
        ({"If-Unmodified-Since": modified}, 200),
        ({"If-Unmodified-Since": past}, 412),
        ({"If-None-Match": etag, "Range": "bytes=0-1"}, 304),
    ]
    for headers, status in conditions:
        for method in ("GET", "HEAD"):
            answer = await api.request(method, url, headers=headers)
            assert answer.status_code == status, (method, headers)
            assert status != 304 or (answer.content, answer.headers["etag"]) == (b"", etag)


async def test_a_listing_is_not_crowded_out_by_loras(api: httpx.AsyncClient, url: str, settings: Settings) -> None:
    store = open_store(settings)
    for number in range(5):
        await store.put(f"loras/styles/{number}.safetensors", b"x", "application/octet-stream")
        await store.put(f"bin/loras/styles/{number}.safetensors", b"x", "application/octet-stream")
    await store.close()
    listed = (await api.get("/storage/images", params={"limit": 2})).json()
    assert [image["path"] for image in listed["images"]] == [PATH, "videos/empty.mp4"]
