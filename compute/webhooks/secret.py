"""The secret that signs webhooks: set by the operator, or generated once and stored."""

import base64
import secrets

from compute.secrets.file import stored_secret
from compute.secrets.rules import WEBHOOK_PREFIX, checked_webhook_secret, valid_at_once
from compute.settings import Settings

__all__ = ["FILE", "load_secret", "made_secret", "signing_secrets"]

FILE = "webhook_secret"
_MADE_BYTES = 32


def load_secret(settings: Settings) -> str:
    """Return `COMPUTE_WEBHOOK_SECRET`, or else the content of `webhook_secret` in COMPUTE_HOME, generated on first use.

    During a rotation it holds two secrets separated by white space. Processes that start together
    all get the same secret. It blocks on the disk: call it while starting.

    Raises:
        ValueError: a secret is not of the form that Standard Webhooks asks for.
        OSError: the file can be neither read nor made.
    """
    if settings.webhook_secret is not None:
        secret = settings.webhook_secret.get_secret_value()
        signing_secrets(secret, "COMPUTE_WEBHOOK_SECRET")
        return secret
    file = settings.home / FILE
    secret = stored_secret(file, made_secret)
    signing_secrets(secret, str(file))
    return secret


def signing_secrets(secret: str, source: str = "the webhook secret") -> tuple[str, ...]:
    """Split `secret` into the secrets that sign every webhook; `source` names them in the error.

    Raises:
        ValueError: they are not one or two of the form that Standard Webhooks asks for. The message repeats none.
    """
    try:
        return valid_at_once(secret, checked_webhook_secret)
    except ValueError as error:
        raise ValueError(f"{source} {error}") from None


def made_secret() -> str:
    """Generate a new secret."""
    return WEBHOOK_PREFIX + base64.b64encode(secrets.token_bytes(_MADE_BYTES)).decode()
