"""Python samples of the documentation do what their pages say."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import chdir
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from compute.client import Compute
from compute.testing import ComputeServer
from compute.testing.pictures import png
from tests.patience import PATIENCE
from tests.unit.docs.blocks import ROOT, Block
from tests.unit.docs.ways import Way, pages_of, tried

SECRET = "whsec_" + base64.b64encode(b"of the documentation's receiver!").decode()
BODY = json.dumps({"event_type": "TASK_STATUS", "status": "COMPLETED", "result_image_path": "generations/17/1/0.png"})


def signed(message: str) -> dict[str, str]:
    """The headers of a webhook of ours."""
    now = datetime.now(UTC)
    signature = Webhook(SECRET).sign(message, now, BODY)
    return {"webhook-id": message, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}


async def receives_webhooks(block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It takes what is signed, once, and refuses what is not."""
    monkeypatch.setitem(os.environ, "WEBHOOK_SECRET", SECRET)
    namespace: dict[str, Any] = {"__name__": "receiver"}
    exec(compile(block.text, str(block), "exec"), namespace)  # noqa: S102
    transport = httpx.ASGITransport(app=namespace["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver", timeout=PATIENCE) as client:
        answers = [
            await client.post("/hooks/compute", content=BODY, headers=headers)
            for headers in (signed("msg_1"), signed("msg_1"), signed("msg_2") | {"webhook-id": "msg_3"})
        ]
    assert [answer.status_code for answer in answers] == [204, 204, 401]
    assert capsys.readouterr().out == "TASK_STATUS COMPLETED generations/17/1/0.png\n"


def speaks_to_a_server(block: Block, folder: Path) -> None:
    """It does what it says, with a server that speaks the API, and the names that the page has introduced."""
    with ComputeServer() as server, Compute(server.url, server.key) as client:
        server.store("refs/dress.png", png(8, 8, 1))
        (folder / "dress.png").write_bytes(png(8, 8, 2))
        given = {"client": client, "KEY": server.key, "BODY": BODY, "HEADERS": signed("msg_1"), "SECRET": SECRET}
        text = block.text.replace("http://127.0.0.1:8000", server.url)
        with pytest.MonkeyPatch.context() as patch, chdir(folder):
            patch.setenv("COMPUTE_URL", server.url)
            patch.setenv("COMPUTE_API_KEY", server.key)
            exec(compile(text, str(block), "exec"), given)  # noqa: S102
        assert "newest" not in given or given["newest"] is None
        assert "stored" not in given or (folder / "copy.png").exists()


async def uses_the_client(block: Block, _: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each sample of the page by itself."""
    with TemporaryDirectory() as folder:
        await asyncio.to_thread(speaks_to_a_server, block, Path(folder))
    if "Which colour" in block.text:
        assert capsys.readouterr().out == "The coat is red."
    elif "promt" in block.text:
        assert "['promt'" in capsys.readouterr().out


async def passes_as_tests(block: Block, _: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's tests pass in a folder of their own."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "test_shop.py"
        file.write_text(block.text)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, str(file)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        run = partial(subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        ended = await asyncio.to_thread(run)
    assert ended.stdout.splitlines()[-1].startswith("5 passed"), ended.stdout + ended.stderr


Check = Callable[[Block, pytest.MonkeyPatch, pytest.CaptureFixture[str]], Coroutine[Any, Any, None]]
CHECKS: dict[str, Check] = {
    "README.md": uses_the_client,
    "docs/client.md": uses_the_client,
    "docs/howto/test-your-code.md": passes_as_tests,
    "docs/howto/verify-a-webhook.md": receives_webhooks,
}
"""What is tried of the sample of each page."""


def test_every_page_with_samples_has_a_check() -> None:
    assert set(pages_of(Way.EXECUTED)) == CHECKS.keys()


@pytest.mark.parametrize("block", tried(Way.EXECUTED), ids=str)
async def test_a_sample_does_what_it_says(
    block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await CHECKS[block.page](block, monkeypatch, capsys)
