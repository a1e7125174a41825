"""The two keys of the settings, API_KEY and ADMIN_API_KEY."""

import hmac

from compute.api.access.caller import ADMINISTRATOR, PLAIN, Caller
from compute.settings import Settings

__all__ = ["builtin_caller"]


def builtin_caller(given: str, settings: Settings) -> Caller | None:
    """Whose key this is, of the two that the settings hold; None if it is neither. Takes the same time for any text."""
    offered = given.encode("utf-8", "surrogateescape")
    found: Caller | None = None
    for key, caller in ((settings.api_key, PLAIN), (settings.admin_api_key, ADMINISTRATOR)):
        # Both are compared, so that the time does not tell which one came close.
        if key is not None and hmac.compare_digest(offered, key.get_secret_value().encode()):
            found = caller
    return found
