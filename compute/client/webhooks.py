"""Webhooks that the server sent: whether they are its own, and what they say."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from time import time
from typing import Any

from compute.client.common.text import json_value
from compute.client.errors import WebhookError

__all__ = ["verify_webhook"]

_PREFIX = "whsec_"
_VERSION = "v1"
_MOST_SIGNATURES = 32


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | bytes | Iterable[str | bytes],
    *,
    tolerance: float = 300.0,
) -> dict[str, Any]:
    """Check that a webhook was signed with a secret, as Standard Webhooks has it, and return its event.

    Args:
        body: The raw bytes, before they are parsed.
        headers: Of the request; case does not matter.
        secret: The server's, or several while they are changed: a list, or a text with white space between them, as a
            file has it. Any of them may have signed; empty ones are left out.
        tolerance: How many seconds the clocks of sender and receiver may differ, and a message may be old.

    Raises:
        WebhookError: it is not signed with any of them, was signed too long ago or in the future, or holds no event.

    Example:
        event = verify_webhook(request.body, request.headers, os.environ["WEBHOOK_SECRET"])
        print(event["event_type"], event["status"])
    """
    raw = _bytes(body) if isinstance(body, str) else body
    named = {name.lower(): value for name, value in headers.items()}
    try:
        message, at, signatures = (named[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise WebhookError(f"the header {error.args[0]} is missing") from error
    _check_time(at, tolerance)
    several = [secret] if isinstance(secret, str | bytes) else secret
    secrets = [word for one in several for word in (one if isinstance(one, str) else one.decode("latin-1")).split()]
    if not secrets:
        raise WebhookError("the secret is empty")
    signed = _bytes(f"{message}.{at}.") + raw
    expected = [hmac.digest(_key(one), signed, hashlib.sha256) for one in secrets]
    given = [found for one in signatures.split(" ")[:_MOST_SIGNATURES] if (found := _signature(one)) is not None]
    # All are compared, so that the time says nothing of which one fits.
    if not sum(hmac.compare_digest(one, other) for one in expected for other in given):
        raise WebhookError("the signature fits none of the secrets")
    try:
        event = json_value(raw)
    except ValueError as error:
        raise WebhookError("the body is no JSON") from error
    if not isinstance(event, dict):
        raise WebhookError("the body is no event")
    return event


def _check_time(at: str, tolerance: float) -> None:
    if not (at.isascii() and at.isdecimal() and len(at) <= 12):
        raise WebhookError("webhook-timestamp is no number of seconds")
    late = time() - int(at)
    if abs(late) > tolerance:
        which = f"{late:.0f} s ago" if late > 0 else f"{-late:.0f} s in the future"
        raise WebhookError(f"it was signed {which}: it is a repetition, or the clocks of both machines differ")


def _bytes(text: str) -> bytes:
    """The bytes of a text: those that came, if it was made of bytes that are none."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise WebhookError("the message is no text") from error


def _key(secret: str) -> bytes:
    try:
        bare = secret.removeprefix(_PREFIX)
        # Base64 with and without padding is in use.
        found = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (ValueError, binascii.Error) as error:
        raise WebhookError("a secret is `whsec_` and base64") from error
    if not found:
        raise WebhookError("the secret is empty")
    return found


def _signature(text: str) -> bytes | None:
    version, _, encoded = text.partition(",")
    if version != _VERSION:
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        return None
