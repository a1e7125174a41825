"""Links to results that need no key: the store's own where it has them, else signed ones to this API."""

import time
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request

from compute.storage import links
from compute.storage.base import ObjectStore

__all__ = ["Links", "RequestLinks"]

IMAGES_ROUTE = "/api/v1/storage/images/"


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and checks links. `ttl_seconds` is how long they work."""

    objects: ObjectStore
    secret: bytes
    ttl_seconds: int
    public_url: str | None

    def seen_from(self, request: Request) -> "RequestLinks":
        """Links whose host is the one that this client used, unless a public one is set."""
        return RequestLinks(self, (self.public_url or str(request.base_url)).rstrip("/"))

    def verify(self, path: str, expires: int, signature: str) -> None:
        """Raises:
        Forbidden: the link is not ours, is for something else, or has expired.
        """
        links.verify(path, expires, signature, self.secret)


@dataclass(frozen=True, slots=True)
class RequestLinks:
    """`Links` for the answers to one request."""

    links: Links
    base_url: str

    async def to(self, path: str) -> str:
        """A link to the object at `path`."""
        direct = await self.links.objects.url(path, self.links.ttl_seconds)
        if direct is not None:
            return direct
        expires = int(time.time()) + self.links.ttl_seconds
        signature = links.sign(path, expires, self.links.secret)
        return f"{self.base_url}{IMAGES_ROUTE}{quote(path)}?expires={expires}&signature={signature}"
