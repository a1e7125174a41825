"""Rules for secrets: long enough not to be guessed, of characters that survive a header and a shell."""

import base64
import binascii
import string
from collections.abc import Callable

__all__ = [
    "FEWEST_KEY_CHARACTERS",
    "FEWEST_LINK_CHARACTERS",
    "checked_key",
    "checked_link_secret",
    "checked_webhook_secret",
    "valid_at_once",
]

FEWEST_KEY_CHARACTERS = 16
FEWEST_LINK_CHARACTERS = 32
WEBHOOK_PREFIX = "whsec_"
FEWEST_WEBHOOK_BYTES = 24
MOST_WEBHOOK_BYTES = 64
MOST_AT_ONCE = 2

_VISIBLE = frozenset(string.ascii_letters + string.digits + string.punctuation)


def checked_key(key: str) -> str:
    """Return the key if it is valid.

    Raises:
        ValueError: it is not. The message continues the key's name, and does not repeat the key.
    """
    return _visible(key, FEWEST_KEY_CHARACTERS)


def checked_link_secret(secret: str) -> str:
    """Return the secret if it can sign links.

    Raises:
        ValueError: it cannot.
    """
    return _visible(secret, FEWEST_LINK_CHARACTERS)


def checked_webhook_secret(secret: str) -> str:
    """Return the secret if it has the form that Standard Webhooks asks for.

    Raises:
        ValueError: it has not.
    """
    bare = secret.removeprefix(WEBHOOK_PREFIX)
    try:
        # Base64 with and without padding is in use.
        length = len(base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if bare == secret or not FEWEST_WEBHOOK_BYTES <= length <= MOST_WEBHOOK_BYTES:
        raise ValueError(
            f"must be {WEBHOOK_PREFIX} followed by "
            f"{FEWEST_WEBHOOK_BYTES} to {MOST_WEBHOOK_BYTES} random bytes in base64"
        )
    return secret


def valid_at_once(text: str, check: Callable[[str], str]) -> tuple[str, ...]:
    """Split `text` at white space into the valid secrets: the new one and, during a rotation, the old one.

    Raises:
        ValueError: there is none or more than two, two are the same, or one does not pass `check`.

    Example:
        new, old = valid_at_once(f"{new_secret} {old_secret}", checked_link_secret)
    """
    secrets = text.split() or [""]
    for secret in secrets:
        check(secret)
    if len(secrets) > MOST_AT_ONCE or len(set(secrets)) < len(secrets):
        raise ValueError("must be one secret, or the new and the old one, separated by a space")
    return tuple(secrets)


def _visible(secret: str, fewest: int) -> str:
    if len(secret) < fewest or not _VISIBLE.issuperset(secret):
        raise ValueError(f"must have at least {fewest} characters, all visible ASCII: no spaces, no line breaks")
    return secret
