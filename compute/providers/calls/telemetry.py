"""Telemetry of a paid request to a vendor: a span. Nothing of a trace leaves with the request."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from compute.telemetry.tracing import Span, span

__all__ = ["VendorRequest", "vendor_request"]


class VendorRequest:
    """A request that is on its way; its answer is told once."""

    def __init__(self, sending: Span) -> None:
        self._span = sending

    def answered(self, status: int | None, request_id: str | None) -> None:
        """The vendor's status, and its own id of the request."""
        self._span.set(http__response__status_code=status, compute__vendor__request_id=request_id)
        if status is not None and status >= 400:
            self._span.fail(f"the vendor answered {status}")


@contextmanager
def vendor_request(method: str, url: str) -> Iterator[VendorRequest]:
    """Around one paid request. Of its address host and path are told, never a query."""
    at = _place(url)
    with span(
        f"{method} {at[0]}", kind="client", http__request__method=method, server__address=at[0], url__path=at[1]
    ) as sending:
        yield VendorRequest(sending)


def _place(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.netloc.rpartition("@")[2], parts.path
