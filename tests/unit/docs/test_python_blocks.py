"""Python samples of the documentation do what their pages say."""

import base64
import json
import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.patience import PATIENCE
from tests.unit.docs.blocks import Block
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


Check = Callable[[Block, pytest.MonkeyPatch, pytest.CaptureFixture[str]], Coroutine[Any, Any, None]]
CHECKS: dict[str, Check] = {"docs/howto/verify-a-webhook.md": receives_webhooks}
"""What is tried of the sample of each page."""


def test_every_page_with_samples_has_a_check() -> None:
    assert set(pages_of(Way.EXECUTED)) == CHECKS.keys()


@pytest.mark.parametrize("block", tried(Way.EXECUTED), ids=str)
async def test_a_sample_does_what_it_says(
    block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await CHECKS[block.page](block, monkeypatch, capsys)
