"""Posts signed webhooks, in a thread of its own."""

import base64
import hashlib
import hmac
import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from typing import Any
from uuid import uuid4

__all__ = ["WebhookPost"]

_SECONDS = 10.0


class WebhookPost:
    """Signs events as Standard Webhooks has it, and posts each once. Nothing is sent through a proxy."""

    def __init__(self, secret: str, deliveries: list[tuple[dict[str, Any], int | None]]) -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._deliveries = deliveries
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue()
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._thread = threading.Thread(target=self._run, name="compute-testing-webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def put(self, url: str, body: str) -> None:
        """Post this soon."""
        self._waiting.put((url, body))

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            url, body = item
            self._deliveries.append((json.loads(body), self._post(url, body.encode())))

    def _post(self, url: str, body: bytes) -> int | None:
        if not url.startswith(("http://", "https://")):
            return None
        try:
            request = urllib.request.Request(url, body, self._headers(body), method="POST")  # noqa: S310 - checked above
            with self._open(request, timeout=_SECONDS) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except (OSError, OverflowError, ValueError, http.client.HTTPException):
            # Nobody is there, or the address is none.
            return None

    def _headers(self, body: bytes) -> dict[str, str]:
        message, at = f"msg_{uuid4().hex}", str(int(time.time()))
        signed = hmac.digest(self._key, f"{message}.{at}.".encode() + body, hashlib.sha256)
        return {
            "Content-Type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }
