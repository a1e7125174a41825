"""Forms are as strict as JSON bodies: what is unknown, comes twice, or is sent as what it is not, is refused whole."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from compute.settings import Settings
from compute.storage.factory import open_store
from tests.integration.api.images.test_storage import picture
from tests.integration.api.loras.lora_bytes import lora

ADMIN_KEY = "admin-test-key"
ROUTES = ["/storage/images", "/storage/images/looks/a.png", "/lora/upload", "/admin/lora/upload"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"admin_api_key": SecretStr(ADMIN_KEY)})


def good(route: str) -> tuple[str, bytes]:
    return ("a.png", picture()) if "images" in route else ("a.safetensors", lora(0.5))


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
    return f"--b\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


WRONG: dict[str, Any] = {
    "two files": lambda name, data: [part("file", data, name), part("file", data, name)],
    "a file and text by its name": lambda name, data: [part("file", data, name), part("file", b"x")],
    "a file sent as text": lambda name, data: [part("file", data)],
    "an unknown field": lambda name, data: [part("file", data, name), part("colour", b"red")],
    "an unknown file": lambda name, data: [part("file", data, name), part("mask", data, name)],
    "a field without a name": lambda name, data: [part("file", data, name), part("", b"x")],
    "text sent as a file": lambda name, data: [part("file", data, name), part("entity_type", b"STYLE", "a.txt")],
    "text twice": lambda name, data: [
        part("file", data, name),
        part("entity_type", b"STYLE"),
        part("entity_type", b"PRODUCT"),
    ],
    "no file": lambda name, data: [part("entity_type", b"STYLE")],
    "another name in capitals": lambda name, data: [part("File", data, name)],
    "no end": lambda name, data: [part("file", data, name)[:-1]],
}


@pytest.mark.parametrize("route", ROUTES)
async def test_a_form_with_anything_wrong_is_refused_and_stores_nothing(
    api: httpx.AsyncClient, settings: Settings, route: str
) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "multipart/form-data; boundary=b"}
    for what, parts in WRONG.items():
        end = b"" if what == "no end" else b"--b--\r\n"
        answer = await api.post(route, content=b"".join(parts(*good(route))) + end, headers=headers)
        assert answer.status_code == 422, (what, answer.text)
        assert "Python" not in answer.text
        assert "UploadFile" not in answer.text
    assert await open_store(settings).list("", 10) == []
    fine = part("file", good(route)[1], good(route)[0]) + b"--b--\r\n"
    assert (await api.post(route, content=fine, headers=headers)).status_code == 201
