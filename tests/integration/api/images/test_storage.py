import hashlib
import io

import httpx
import pytest
from PIL import Image


def picture(colour: str = "teal", kind: str = "PNG", size: tuple[int, int] = (30, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


async def upload(api: httpx.AsyncClient, path: str = "", data: bytes | None = None, **headers: str) -> httpx.Response:
    return await api.post(f"/storage/images{path}", files={"file": ("name.bin", data or picture())}, headers=headers)


async def test_an_upload_is_listed_read_checked_and_deleted(api: httpx.AsyncClient) -> None:
    answer = await upload(api, "/looks/spring/dress.png")
    assert answer.status_code == 201
    stored = answer.json()
    assert (stored["path"], stored["width"], stored["height"]) == ("looks/spring/dress.png", 30, 20)

    listed = (await api.get("/storage/images", params={"prefix": "looks/"})).json()
    assert [image["path"] for image in listed["images"]] == ["looks/spring/dress.png"]
    assert (await api.get("/storage/images", params={"prefix": "other/"})).json()["count"] == 0

    got = await api.get("/storage/images/looks/spring/dress.png")
    assert hashlib.sha256(got.content).hexdigest() == stored["sha256"]
    assert got.headers["x-content-type-options"] == "nosniff"
    head = await api.head("/storage/images/looks/spring/dress.png")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    unchanged = await api.get("/storage/images/looks/spring/dress.png", headers={"If-None-Match": got.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")

    assert (await api.delete("/storage/images/looks/spring/dress.png")).json()["deleted"] is True
    for method in ("GET", "HEAD", "DELETE"):
        assert (await api.request(method, "/storage/images/looks/spring/dress.png")).status_code == 404


async def test_without_a_path_the_content_names_the_image(api: httpx.AsyncClient) -> None:
    first, second = (await upload(api)).json(), (await upload(api)).json()
    assert first["path"] == second["path"]
    assert first["path"].startswith("uploads/")
    assert (await api.get("/storage/images", params={"prefix": "uploads/"})).json()["count"] == 1


async def test_a_link_works_without_a_key_until_it_is_tampered_with(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    url = (await upload(api, "/a/b.png")).json()["url"]
    await upload(api, "/a/c.png", picture("red"))
    assert (await anonymous.get(url)).status_code == 200
    for bad in (
        url.replace("/a/b.png", "/a/c.png"),
        url[:-3] + "abc",
        url.replace("expires=1", "expires=2"),
        url.replace("expires=", "expires=-"),
    ):
        if bad != url:
            assert (await anonymous.get(bad)).status_code == 403, bad
    assert (await anonymous.get(url.split("?")[0])).status_code == 401


@pytest.mark.parametrize("data", [b"hello", b"", picture()[:-20], b"GIF89a" + b"\0" * 20])
async def test_what_is_no_image_is_refused(api: httpx.AsyncClient, data: bytes) -> None:
    answer = await api.post("/storage/images/x/y.png", files={"file": ("y.png", data)})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "file"]
    assert (await api.get("/storage/images")).json()["count"] == 0


async def test_an_upload_without_a_file_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("/storage/images/x/y.png", data={"other": "1"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "file"]


@pytest.mark.parametrize(
    "path",
    ["../x.png", "a/../../x.png", "/etc/x.png", "a//b.png", "a\\b.png", "x" * 600 + ".png", "a/%00.png", "./x.png"],
)
async def test_a_path_that_leaves_its_root_is_refused(api: httpx.AsyncClient, path: str) -> None:
    quoted = path.replace("..", "%2e%2e").replace("./", "%2e/")
    for method in ("POST", "GET", "HEAD", "DELETE"):
        files = {"file": ("x.png", picture())} if method == "POST" else None
        answer = await api.request(method, f"/storage/images/{quoted}", files=files)
        assert answer.status_code in {400, 404, 422}, (method, answer.status_code)
    assert (await api.get("/storage/images")).json()["count"] == 0


@pytest.mark.parametrize("path", ["generations/x.png", "inputs/x.png", "loras/styles/x.png"])
async def test_folders_of_the_system_cannot_be_written(api: httpx.AsyncClient, path: str) -> None:
    assert (await upload(api, f"/{path}")).status_code == 403


async def test_an_upload_with_an_idempotency_key_is_answered_once(api: httpx.AsyncClient) -> None:
    first = await upload(api, "/a/b.png", **{"Idempotency-Key": "k1"})
    again = await upload(api, "/a/b.png", **{"Idempotency-Key": "k1"})
    other = await upload(api, "/a/b.png", picture("red"), **{"Idempotency-Key": "k1"})
    assert again.text == first.text
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status_code == 422
