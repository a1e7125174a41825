"""The secret that signs links to results: set by the operator, or generated once and stored.

It is independent of the API key: the holder of a link could otherwise test keys against its signature offline.
"""

import secrets

from compute.secrets.file import stored_secret
from compute.secrets.rules import checked_link_secret, valid_at_once
from compute.settings import Settings

__all__ = ["FILE", "load_link_secrets", "made_link_secret"]

FILE = "link_secret"


def load_link_secrets(settings: Settings) -> tuple[bytes, ...]:
    """`COMPUTE_LINK_SECRET`, or else the content of `link_secret` in COMPUTE_HOME, generated on first use.

    The first secret signs; links signed with any of them are valid. Blocks on the disk: call it during startup.

    Raises:
        ValueError: one of them is too short, or there are more than two.
        OSError: the file can be neither read nor created.
    """
    if settings.link_secret is not None:
        source, text = "COMPUTE_LINK_SECRET", settings.link_secret.get_secret_value()
    else:
        file = settings.home / FILE
        source, text = str(file), stored_secret(file, made_link_secret)
    try:
        return tuple(secret.encode() for secret in valid_at_once(text, checked_link_secret))
    except ValueError as error:
        raise ValueError(f"{source} {error}") from None


def made_link_secret() -> str:
    """Generate a link secret."""
    return secrets.token_urlsafe(32)
