"""verify_webhook beside the implementation of Standard Webhooks that the server signs with."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from compute.client import WebhookError, verify_webhook
from compute.secrets.rules import checked_webhook_secret

OLD, NEW, OTHER = ("whsec_" + base64.b64encode(name * 24).decode() for name in (b"o", b"n", b"x"))
BODY = json.dumps({"event_type": "TASK_STATUS", "status": "COMPLETED", "note": "ключ"}, ensure_ascii=False)


def signed(*secrets: str, at: datetime | None = None, message: str = "msg_1", body: str = BODY) -> dict[str, str]:
    now = at or datetime.now(UTC)
    return {
        "Webhook-Id": message,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": " ".join(Webhook(secret).sign(message, now, body) for secret in secrets),
    }


@pytest.mark.parametrize("body", [BODY, BODY.encode()], ids=["text", "bytes"])
def test_what_the_server_signs_is_believed(body: str | bytes) -> None:
    assert verify_webhook(body, signed(OLD), OLD)["status"] == "COMPLETED"


@pytest.mark.parametrize("length", [24, 25, 26, 64])
def test_a_secret_may_have_no_padding(length: int) -> None:
    padded = "whsec_" + base64.b64encode(b"k" * length).decode()
    for secret in (padded, padded.rstrip("=")):
        assert checked_webhook_secret(secret)
        assert verify_webhook(BODY, signed(padded), secret)


def test_while_a_secret_changes_either_is_enough() -> None:
    for given in (OLD, NEW, [OLD, NEW], (OTHER, NEW), f"{OTHER} {NEW}\n", [NEW, ""], OLD.encode(), [b"", OLD.encode()]):
        assert verify_webhook(BODY, signed(OLD, NEW), given)
    assert verify_webhook(BODY, signed(NEW), [OLD, NEW])


REFUSED: dict[str, tuple[Callable[[], tuple[str, dict[str, str], str | list[str]]], str]] = {
    "another secret": (lambda: (BODY, signed(OTHER), OLD), "fits none"),
    "another body": (lambda: (BODY.replace("COMPLETED", "FAILED"), signed(OLD), OLD), "fits none"),
    "another id": (lambda: (BODY, signed(OLD) | {"Webhook-Id": "msg_2"}, OLD), "fits none"),
    "an empty signature": (lambda: (BODY, signed(OLD) | {"Webhook-Signature": "v1,"}, OLD), "fits none"),
    "another version": (lambda: (BODY, signed(OLD) | {"Webhook-Signature": "v2," + "A" * 44}, OLD), "fits none"),
    "no base64": (lambda: (BODY, signed(OLD) | {"Webhook-Signature": "v1,not base64!"}, OLD), "fits none"),
    "a negative time": (lambda: (BODY, signed(OLD) | {"Webhook-Timestamp": "-1"}, OLD), "no number"),
    "a time in floats": (lambda: (BODY, signed(OLD) | {"Webhook-Timestamp": "1e9"}, OLD), "no number"),
    "no time": (lambda: (BODY, without(signed(OLD), "Webhook-Timestamp"), OLD), "timestamp is missing"),
    "no secret": (lambda: (BODY, signed(OLD), []), "secret is empty"),
    "a secret of white space": (lambda: (BODY, signed(OLD), [" \n", ""]), "secret is empty"),
    "an id that is no text": (lambda: (BODY, signed(OLD) | {"Webhook-Id": "\udcff"}, OLD), "fits none"),
    "an id that is nothing": (lambda: (BODY, signed(OLD) | {"Webhook-Id": "\ud800"}, OLD), "no text"),
    "a body that is nothing": (lambda: ("\ud800", signed(OLD), OLD), "no text"),
    "an empty secret": (lambda: (BODY, signed(OLD), "whsec_"), "secret is empty"),
    "a secret that is none": (lambda: (BODY, signed(OLD), "whsec_!no!"), "base64"),
}
"""What must not be believed, made when the test runs, because signatures age; and why not."""


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {one: value for one, value in headers.items() if one != name}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_not(case: str) -> None:
    make, why = REFUSED[case]
    body, headers, secret = make()
    with pytest.raises(WebhookError, match=why):
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
