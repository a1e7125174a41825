"""Links to results that need no key: the store's own where it has them, else signed ones to this API."""

from dataclasses import dataclass

from starlette.requests import Request

from compute.api.http.host import public_base
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.links import signed as links
from compute.storage.links.signed import LinkSigner

__all__ = ["Links", "RequestLinks"]


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and checks links. `ttl_seconds` is how long they work."""

    objects: ObjectStore
    signer: LinkSigner
    ttl_seconds: int
    settings: Settings

    def seen_from(self, request: Request) -> "RequestLinks":
        """Links whose host is the one that this client used, unless a public one is set."""
        return RequestLinks(self, public_base(request.scope, self.settings))

    def verify(self, path: str, expires: int, signature: str) -> None:
        """Raises:
        Forbidden: the link is not ours, is for something else, or has expired.
        """
        links.verify(path, expires, signature, self.signer.secrets)


@dataclass(frozen=True, slots=True)
class RequestLinks:
    """`Links` for the answers to one request."""

    links: Links
    base_url: str

    async def to(self, path: str, *, model: bool = False) -> str:
        """A link to the object at `path`, which may be read, or with `model` is the LoRA that a training made."""
        made = self.links
        return await links.link_to(
            path, made.objects, made.signer, ttl_seconds=made.ttl_seconds, base_url=self.base_url, model=model
        )
