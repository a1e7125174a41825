"""Makes one attempt at one webhook: signs it, posts it, and describes the outcome."""

import json
import logging
import time
import traceback
from datetime import UTC, datetime

from standardwebhooks import Webhook

from compute import __version__
from compute.errors import InvalidInput, Unavailable
from compute.outbound.client import GuardedClient
from compute.telemetry.tracing import current_traceparent
from compute.webhooks.retry import AttemptOutcome, parse_retry_after
from compute.webhooks.secret import signing_secrets
from compute.webhooks.store import ClaimedDelivery

__all__ = ["SignedPost"]

_log = logging.getLogger(__name__)


class SignedPost:
    """Signs and sends deliveries."""

    def __init__(self, client: GuardedClient, *, secret: str, timeout_seconds: float) -> None:
        """`secret` may hold two secrets, separated by white space: both sign. The caller closes the client.

        Raises:
            ValueError: a secret is not of the form `whsec_<base64>`.
        """
        self._client = client
        self._signers = [Webhook(one) for one in signing_secrets(secret)]
        self._timeout_seconds = timeout_seconds

    async def __call__(self, claimed: ClaimedDelivery) -> AttemptOutcome:
        """Send the delivery once. Errors are reported in the outcome; nothing is raised."""
        started_at = datetime.now(UTC)
        begun = time.perf_counter()
        status: int | None = None
        retry_after: float | None = None
        try:
            # Escaped to ASCII, so a receiver that decodes the body wrongly before it verifies sees the same bytes.
            body = json.dumps(claimed.payload, separators=(",", ":"))
            answer = await self._client.post(
                claimed.url,
                body.encode(),
                self._headers(claimed, started_at, body),
                self._timeout_seconds,
                field="webhook_url",
            )
            status = answer.status
            error = _complaint(status)
            retry_after = parse_retry_after(answer.retry_after, datetime.now(UTC))
        except InvalidInput as refusal:
            error = f"not sent: {refusal.detail}"
        except Unavailable as failure:
            error = failure.detail
        except Exception as surprise:
            # One odd URL must not stop the sender. The message is left out, as it could repeat the URL
            # and secrets in it.
            _log.error("webhook %s: %s\n%s", claimed.id, type(surprise).__name__, _where(surprise))
            error = "not sent: the request could not be made"
        return AttemptOutcome(started_at, round((time.perf_counter() - begun) * 1000), status, error, retry_after)

    def _headers(self, claimed: ClaimedDelivery, at: datetime, body: str) -> dict[str, str]:
        traced = {"traceparent": present} if (present := current_traceparent()) else {}
        return {
            "Content-Type": "application/json",
            "User-Agent": f"compute/{__version__}",
            "webhook-id": str(claimed.id),
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signer.sign(str(claimed.id), at, body) for signer in self._signers),
            **traced,
        }


def _complaint(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"the receiver answered {status}; redirects are not followed"
    return f"the receiver answered {status}"


def _where(error: Exception) -> str:
    return "".join(traceback.format_tb(error.__traceback__))
