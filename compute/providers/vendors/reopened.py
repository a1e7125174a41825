"""The protocol of a vendor's queue for a call that the ledger knows: to stop it, or to ask how it goes."""

from compute.providers.base import RemoteProvider
from compute.providers.calls.protocol import QueueProtocol
from compute.providers.registry import all_providers
from compute.settings import Settings

__all__ = ["reopened"]


def reopened(vendor: str, endpoint: str, settings: Settings) -> QueueProtocol | None:
    """The protocol that a call to `endpoint` (host and path) was made with; None for a vendor without a queue.

    Raises:
        InvalidInput: the vendor's key is not set any more.
    """
    for provider in all_providers().values():
        if isinstance(provider, RemoteProvider) and (found := provider.reopen(vendor, endpoint, settings)) is not None:
            return found
    return None
