"""Bodies that the guarded client receives into memory or into files."""

from pathlib import Path

import pytest
from aiohttp import web

from compute.errors import InvalidInput
from tests.integration.outbound.conftest import Connect, Serve, Site
from tests.patience import PATIENCE


@pytest.mark.parametrize(("size", "in_memory"), [(1000, True), (1001, False), (300_000, False)])
async def test_only_a_large_body_becomes_a_file(
    size: int, in_memory: bool, serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    url = f"http://{await serve(Site(lambda request: web.Response(body=body)))}/a"
    file, asked = tmp_path / "body", []

    def destination() -> Path:
        asked.append(file)
        return file

    received = await connect("127.0.0.1").receive(
        url, destination, in_memory=1000, max_bytes=400_000, timeout=PATIENCE, field="result"
    )
    assert (received if isinstance(received, bytes) else received.read_bytes()) == body
    assert (received == body) == in_memory
    assert asked == ([] if in_memory else [file])


async def test_a_body_that_grows_too_large_is_not_received(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    url = f"http://{await serve(Site(lambda request: web.Response(body=b'x' * 5000)))}/a"
    with pytest.raises(InvalidInput, match="larger than 2000 bytes"):
        await connect("127.0.0.1").receive(
            url, lambda: tmp_path / "body", in_memory=100, max_bytes=2000, timeout=PATIENCE, field="result"
        )
