"""Cross-origin requests from browsers, for the origins that the operator names."""

from typing import Any

from compute.api.access.headers import LIMIT_HEADERS
from compute.api.http.request_ids import REQUEST_ID_HEADER
from compute.api.idempotency.keys import REPLAYED_HEADER
from compute.settings import Settings

__all__ = ["cors_options"]

_SENT = (
    "Authorization",
    "Idempotency-Key",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Last-Event-ID",
    "Range",
    REQUEST_ID_HEADER,
    "traceparent",
)
_SHOWN = (
    "Accept",
    "Accept-Encoding",
    "Accept-Ranges",
    "Allow",
    "Content-Length",
    "Content-Range",
    "ETag",
    REPLAYED_HEADER,
    "Last-Modified",
    "Link",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Next-Cursor",
    *LIMIT_HEADERS,
    REQUEST_ID_HEADER,
)


def cors_options(settings: Settings) -> dict[str, Any]:
    """The arguments of Starlette's `CORSMiddleware`. The key travels in a header, so no cookies are allowed."""
    return {
        "allow_origins": settings.cors_origins,
        "allow_methods": ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"),
        "allow_headers": _SENT,
        "expose_headers": _SHOWN,
    }
