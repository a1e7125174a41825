"""The secret that webhooks are signed with: given by the operator, or made once and kept."""

import base64
import binascii
import secrets

from compute.secret_file import kept_secret
from compute.settings import Settings

__all__ = ["checked_secret", "load_secret"]

_PREFIX = "whsec_"
_FEWEST_BYTES = 24
_MOST_BYTES = 64
_MADE_BYTES = 32
_FILE = "webhook_secret"


def load_secret(settings: Settings) -> str:
    """`COMPUTE_WEBHOOK_SECRET`, or else the content of `webhook_secret` in COMPUTE_HOME, made on first use.

    However many processes start at once, all of them get the same secret. It blocks on the disk: call it while
    starting.

    Raises:
        ValueError: the secret is not of the form that Standard Webhooks asks for.
        OSError: the file can be neither read nor made.
    """
    if settings.webhook_secret is not None:
        return checked_secret(settings.webhook_secret.get_secret_value(), "COMPUTE_WEBHOOK_SECRET")
    file = settings.home / _FILE
    return checked_secret(kept_secret(file, _made), str(file))


def checked_secret(secret: str, source: str = "the webhook secret") -> str:
    """The secret itself, if it is `whsec_` and then 24 to 64 bytes in base64; `source` names it in the error.

    Raises:
        ValueError: it is not. The message does not repeat the secret.
    """
    bare = secret.removeprefix(_PREFIX)
    try:
        # Both ways of writing base64's end are in use: with padding and without.
        length = len(base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if bare == secret or not _FEWEST_BYTES <= length <= _MOST_BYTES:
        raise ValueError(
            f"{source} must be {_PREFIX} followed by {_FEWEST_BYTES} to {_MOST_BYTES} random bytes in base64"
        )
    return secret


def _made() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_MADE_BYTES)).decode()
