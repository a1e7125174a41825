"""verify_webhook beside the implementation of Standard Webhooks that the server signs with."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from compute.client import WebhookError, verify_webhook

OLD, NEW, OTHER = ("whsec_" + base64.b64encode(name * 24).decode() for name in (b"o", b"n", b"x"))
BODY = json.dumps({"event_type": "TASK_STATUS", "status": "COMPLETED", "note": "ключ"}, ensure_ascii=False)


def signed(*secrets: str, at: datetime | None = None, message: str = "msg_1") -> dict[str, str]:
    now = at or datetime.now(UTC)
    return {
        "Webhook-Id": message,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": " ".join(Webhook(secret).sign(message, now, BODY) for secret in secrets),
    }


@pytest.mark.parametrize("body", [BODY, BODY.encode()], ids=["text", "bytes"])
def test_what_the_server_signs_is_believed(body: str | bytes) -> None:
    assert verify_webhook(body, signed(OLD), OLD)["status"] == "COMPLETED"


def test_while_a_secret_changes_either_is_enough() -> None:
    for given in (OLD, NEW, [OLD, NEW], (OTHER, NEW)):
        assert verify_webhook(BODY, signed(OLD, NEW), given)
    assert verify_webhook(BODY, signed(NEW), [OLD, NEW])


@pytest.mark.parametrize(
    ("body", "headers", "secret"),
    [
        (BODY, signed(OTHER), OLD),
        (BODY.replace("COMPLETED", "FAILED"), signed(OLD), OLD),
        (BODY, signed(OLD) | {"Webhook-Id": "msg_2"}, OLD),
        (BODY, signed(OLD) | {"Webhook-Signature": "v1,"}, OLD),
        (BODY, signed(OLD) | {"Webhook-Signature": "v2," + "A" * 44}, OLD),
        (BODY, signed(OLD) | {"Webhook-Signature": "v1,not base64!"}, OLD),
        (BODY, signed(OLD) | {"Webhook-Timestamp": "-1"}, OLD),
        (BODY, signed(OLD) | {"Webhook-Timestamp": "1e9"}, OLD),
        (BODY, {name: value for name, value in signed(OLD).items() if name != "Webhook-Timestamp"}, OLD),
        (BODY, signed(OLD), []),
        (BODY, signed(OLD), "whsec_"),
        (BODY, signed(OLD), "whsec_no base64"),
    ],
    ids=[
        "another secret", "another body", "another id", "an empty signature", "another version", "no base64",
        "a negative time", "a time in floats", "no time", "no secret", "an empty secret", "a secret that is none",
    ],
)  # fmt: skip
def test_anything_else_is_not(body: str, headers: dict[str, str], secret: str) -> None:
    with pytest.raises(WebhookError):
        verify_webhook(body, headers, secret)


def test_clocks_may_differ_by_five_minutes() -> None:
    now = datetime.now(UTC)
    for seconds in (-290, 290):
        assert verify_webhook(BODY, signed(OLD, at=now + timedelta(seconds=seconds)), OLD)
    for seconds, words in ((-310, "ago"), (310, "in the future")):
        with pytest.raises(WebhookError, match=words):
            verify_webhook(BODY, signed(OLD, at=now + timedelta(seconds=seconds)), OLD)
    assert verify_webhook(BODY, signed(OLD, at=now - timedelta(days=1)), OLD, tolerance=100_000)


def test_what_is_signed_must_be_an_event() -> None:
    for body in ("[]", "no json"):
        now = datetime.now(UTC)
        headers = signed(OLD, at=now) | {"Webhook-Signature": Webhook(OLD).sign("msg_1", now, body)}
        with pytest.raises(WebhookError):
            verify_webhook(body, headers, OLD)
