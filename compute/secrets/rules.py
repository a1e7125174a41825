"""What a secret must be: long enough that nobody guesses it, and of characters that survive a header and a shell."""

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
    """The key itself, if it can be one.

    Raises:
        ValueError: it cannot. The message goes behind the key's name, and does not repeat the key.
    """
    return _visible(key, FEWEST_KEY_CHARACTERS)


def checked_link_secret(secret: str) -> str:
    """The secret itself, if links can be signed with it.

    Raises:
        ValueError: they cannot.
    """
    return _visible(secret, FEWEST_LINK_CHARACTERS)


def checked_webhook_secret(secret: str) -> str:
    """The secret itself, if it is of the form that Standard Webhooks asks for.

    Raises:
        ValueError: it is not.
    """
    bare = secret.removeprefix(WEBHOOK_PREFIX)
    try:
        # Both ways of writing base64's end are in use: with padding and without.
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
    """The secrets in `text`, parted by white space: the new one and, if there is another, the one on its way out.

    Raises:
        ValueError: there is none or more than two, two are the same, or one does not pass `check`.
    """
    secrets = text.split() or [""]
    for secret in secrets:
        check(secret)
    if len(secrets) > MOST_AT_ONCE or len(set(secrets)) < len(secrets):
        raise ValueError("must be one secret, or the new and the old one, parted by a space")
    return tuple(secrets)


def _visible(secret: str, fewest: int) -> str:
    if len(secret) < fewest or not _VISIBLE.issuperset(secret):
        raise ValueError(f"must have at least {fewest} characters, all visible ASCII: no spaces, no line breaks")
    return secret
