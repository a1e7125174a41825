"""The secret that links to results are signed with: given by the operator, or made once and kept.

It has nothing to do with the API key: whoever has a link could otherwise try keys against its signature, at home.
"""

import secrets

from compute.secrets.file import kept_secret
from compute.secrets.rules import checked_link_secret, valid_at_once
from compute.settings import Settings

__all__ = ["FILE", "load_link_secrets", "made_link_secret"]

FILE = "link_secret"


def load_link_secrets(settings: Settings) -> tuple[bytes, ...]:
    """`COMPUTE_LINK_SECRET`, or else the content of `link_secret` in COMPUTE_HOME, made on first use.

    The first one signs; links that were signed with any of them are good. It blocks on the disk: call it while
    starting.

    Raises:
        ValueError: one of them is too short, or there are more than two.
        OSError: the file can be neither read nor made.
    """
    if settings.link_secret is not None:
        source, text = "COMPUTE_LINK_SECRET", settings.link_secret.get_secret_value()
    else:
        file = settings.home / FILE
        source, text = str(file), kept_secret(file, made_link_secret)
    try:
        return tuple(secret.encode() for secret in valid_at_once(text, checked_link_secret))
    except ValueError as error:
        raise ValueError(f"{source} {error}") from None


def made_link_secret() -> str:
    """A new one."""
    return secrets.token_urlsafe(32)
